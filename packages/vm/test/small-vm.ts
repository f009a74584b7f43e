import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Clock } from '@pinion/core';
import {
  createRegistry,
  EmbeddedVm,
  GuestHeap,
  Host,
  type HostOptions,
  readDescription,
  type VmDescription,
} from '@pinion/vm';

/** What is due at once happens in the next turn of the event loop; what is due later never comes. */
export class TurnClock implements Clock {
  now(): number {
    return 0;
  }

  after(delay: number, action: () => void): () => void {
    if (delay > 0) return () => {};
    const turn = setImmediate(action);
    return () => clearImmediate(turn);
  }
}

export const DISK_BYTES = 256 * 1024;
export const SUBCHANNEL = 0x13;
export const APQN = 0x0547;

const DESCRIPTION = `
name: small
hypervisor: embedded
memory:
  - { name: low, at: 0, size: 4M }
  - { name: pool, at: 4G, size: 1M }
groups:
  - name: pci-01
parents:
  - { name: igpu, driver: gvt }
  - { name: css, driver: ccw, image: dasd.img }
  - { name: cards, driver: ap, adapters: [5], domains: [0x47] }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: disk, driver: passthrough, type: disk, group: pci-01, image: disk.img }
      - { name: vgpu, driver: gvt, type: V5_4, parent: igpu, uuid: 00000000-0000-0000-0000-000000000001 }
      - { name: dasd, driver: ccw, type: io, parent: css, uuid: 00000000-0000-0000-0000-000000000002, subchannel: 0x13, devno: 1 }
      - { name: crypto, driver: ap, type: passthrough, parent: cards, uuid: 00000000-0000-0000-0000-000000000003, adapters: [5], domains: [0x47] }
`;

/** A folder of its own with two disk images whose block n is filled with the byte n (mod 256); gone after the test. */
export function imageFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-vm-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const bytes = new Uint8Array(DISK_BYTES);
  for (let block = 0; block * 512 < DISK_BYTES; block++) bytes.fill(block, block * 512, (block + 1) * 512);
  for (const name of ['dasd.img', 'disk.img']) writeFileSync(join(folder, name), bytes);
  return folder;
}

export function smallDescription(folder: string, change: (text: string) => string = (text) => text): VmDescription {
  const result = readDescription({ text: change(DESCRIPTION), folder }, createRegistry());
  if (result.ok) return result.description;
  throw new TypeError(JSON.stringify(result.problems));
}

/** A host with the small VM; both are gone after the test. `plug`: which devices; default all. */
export async function startSmallVm(
  t: TestContext,
  options: { plug?: readonly string[]; host?: HostOptions; description?: VmDescription } = {},
): Promise<{ vm: EmbeddedVm; host: Host; heap: GuestHeap; folder: string }> {
  const folder = imageFolder(t);
  const description = options.description ?? smallDescription(folder);
  const host = await Host.create(description, { clock: new TurnClock(), ...options.host });
  t.after(() => host.close());
  const vm = await EmbeddedVm.start(host, description, options.plug === undefined ? {} : { plug: options.plug });
  return { vm, host, heap: new GuestHeap(0x10_0000n, 0x30_0000n), folder };
}

/** What the VM holds, as plain values: pins and IOMMU pages by owner, locked and held pages. */
export function held(vm: EmbeddedVm): {
  mappings: number;
  owners: Record<string, number>;
  locked: number;
  held: number;
} {
  const { mappings, iommuPages, pinnedPages, lockedPages, heldPages } = vm.accounting;
  return {
    mappings,
    owners: Object.fromEntries([...iommuPages, ...pinnedPages]),
    locked: lockedPages,
    held: heldPages,
  };
}

export const NOTHING = { mappings: 0, owners: {}, locked: 0, held: 0 };
/** Pages of the small VM's memory. */
export const LOW_PAGES = 1024;
export const ALL_PAGES = 1280;
export const POOL = 0x1_0000_0000n;
