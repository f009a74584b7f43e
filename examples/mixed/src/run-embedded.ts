import { join, relative } from 'node:path';
import { deviceKinds } from '@pinion/example-devices';
import { createRegistry, EmbeddedVm, Host, loadDescription } from '@pinion/vm';
import type { RunRequest } from './hypervisors.js';
import { makeImages } from './images.js';
import { Scenario } from './scenario.js';

const OWNERS = ['disk', 'vgpu', 'dasd', 'crypto'];

/** The whole VM, with a guest that is a program of this process. */
export async function runEmbedded({ folder, out, report: makeReport }: RunRequest): Promise<boolean> {
  const scene = makeImages(out);
  const png = join(out, 'frame.png');
  const registry = createRegistry({ kinds: deviceKinds() });
  const description = loadDescription(join(folder, 'vm.yaml'), registry);
  const host = await Host.create(description, { registry });
  try {
    const vm = await EmbeddedVm.start(host, description);
    const report = makeReport(OWNERS);
    const { ok, frameSha256 } = await new Scenario(vm, { report, scene, png }).run();
    const { mappings, pinnedPages, lockedPages } = vm.accounting;
    const pins = [...pinnedPages.values()].reduce((sum, pages) => sum + pages, 0);
    report.end({
      facts: { frame: relative(process.cwd(), png), sha256: frameSha256 },
      left: { mappings, pins, lockedPages },
      ok,
    });
    return ok;
  } finally {
    await host.close();
  }
}
