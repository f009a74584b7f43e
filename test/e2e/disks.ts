/** NVMe disks over image files, for a device house. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type NvmeOptions, nvme } from '@pinion/example-nvme';
import type { DeviceSpec } from './device-house.js';
import { makeImage } from './disk-checks.js';

export interface Disk {
  readonly spec: DeviceSpec;
  readonly image: string;
}

/** A folder that goes with the test. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-e2e-disk-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A disk with an image of its own. */
export function makeDisk(t: TestContext, name: string, options: NvmeOptions = {}): Disk {
  const image = join(temporaryFolder(t), `${name}.img`);
  makeImage(image);
  return { spec: { name, plugin: nvme({ ...options, image }), driver: 'nvme', type: 'disk' }, image };
}
