import { join } from 'node:path';
import { deviceKinds } from '@pinion/example-devices';
import { createRegistry, loadDescription, QemuVm, qemu, refusalOf, type VmDescription } from '@pinion/vm';
import type { RunRequest } from './hypervisors.js';
import { ARCHIVE, makeImages } from './images.js';
import { QemuScenario } from './qemu-scenario.js';

/** Drivers of the guest's own kernel, by the driver that makes the device here. */
const GUEST_MODULES: ReadonlyMap<string, string> = new Map([
  ['nvme', 'nvme'],
  ['gpio-idio-16', 'gpio_pci_idio_16'],
]);

/** MiB: an unmodified Linux needs more than the description says. */
const MEMORY = 384;

/** Which devices of the description come along, and why the others do not. */
function divide(description: VmDescription, registry: ReturnType<typeof createRegistry>) {
  const devices = description.containers.flatMap((container) => container.devices);
  const reasonOf = (device: (typeof devices)[number]): string | undefined =>
    refusalOf(device, registry) ??
    (GUEST_MODULES.has(device.driver)
      ? undefined
      : 'the unmodified guest is given no driver for it: embedded hypervisor');
  const names = devices.filter((device) => reasonOf(device) === undefined).map(({ name }) => name);
  const left = devices.flatMap((device) => {
    const reason = reasonOf(device);
    return reason === undefined ? [] : [[device.name, reason] as const];
  });
  return { names, left };
}

/** The VM's PCI half, with an unmodified Linux in a real QEMU: its devices are served from this process, in one container. */
export async function runQemu({ folder, out, report: makeReport }: RunRequest): Promise<boolean> {
  const scene = makeImages(out);
  const registry = createRegistry({ kinds: deviceKinds(), hypervisors: [qemu] });
  const description = loadDescription(join(folder, 'vm.yaml'), registry);
  const { names, left } = divide(description, registry);
  const report = makeReport(names);
  report.absent(left);
  const contents = { modules: [...GUEST_MODULES.values()], programs: true };
  const vm = await QemuVm.start(description, { registry, devices: names, contents, memory: MEMORY });
  const scenario = new QemuScenario(vm, { report, scene, image: join(out, ARCHIVE) });
  try {
    await scenario.run();
  } catch (cause) {
    await vm.close();
    throw cause;
  }
  scenario.end(await vm.close());
  return scenario.ok;
}
