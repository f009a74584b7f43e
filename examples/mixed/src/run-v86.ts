import { join, relative } from 'node:path';
import { deviceKinds } from '@pinion/example-devices';
import { pcPart, readGuest, V86Vm, v86 } from '@pinion/v86';
import { createRegistry, Host, loadDescription } from '@pinion/vm';
import type { RunRequest } from './hypervisors.js';
import { makeImages, RESULT } from './images.js';
import { V86Scenario } from './v86-scenario.js';

/** The VM's PCI half on an x86 CPU in this process, with a guest that is machine code. */
export async function runV86({ folder, out, report: makeReport }: RunRequest): Promise<boolean> {
  const scene = makeImages(out);
  const png = join(out, 'frame.png');
  const registry = createRegistry({ kinds: deviceKinds(), hypervisors: [v86] });
  const { description, absent } = pcPart(loadDescription(join(folder, 'vm.yaml'), registry), registry);
  const host = await Host.create(description, { registry });
  try {
    const vm = await V86Vm.start(host, description, { image: await readGuest('studio') });
    const report = makeReport(vm.vm.slots.map(({ config }) => config.name));
    report.absent(absent);
    const { ok, frameSha256 } = await new V86Scenario(vm, { report, scene, png, result: join(out, RESULT) }).run();
    const { mappings, pinnedPages, lockedPages } = vm.vm.accounting;
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
