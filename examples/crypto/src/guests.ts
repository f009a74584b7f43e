import { ApDevice } from '@pinion/ap';
import { createRegistry, EmbeddedVm, Host, readDescription, type VmDescription } from '@pinion/vm';

/** Adapter 5 is an accelerator; adapter 6, a CCA coprocessor, is the one that will be unplugged. */
const ACCELERATOR = 5;
export const COPROCESSOR = 6;
/** One usage domain for each guest: that is how they share the cards. */
const DOMAINS = [0x10, 0x11, 0x12] as const;

const textOf = (index: number, domain: number, threads: number): string => `
name: guest-${index + 1}
hypervisor: embedded
memory:
  - { name: ram, at: 0, size: 4M }
parents:
  - { name: cards, driver: ap, adapters: [${ACCELERATOR}], coprocessors: [${COPROCESSOR}], domains: [${DOMAINS}], threads: ${threads} }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - name: crypto
        driver: ap
        type: passthrough
        parent: cards
        uuid: 5a6f1c9e-1b0b-4d1f-8a5e-00000000000${index + 1}
        adapters: [${ACCELERATOR}, ${COPROCESSOR}]
        domains: [${domain}]
`;

function describe(text: string): VmDescription {
  const result = readDescription({ text, folder: '.' }, createRegistry());
  if (result.ok) return result.description;
  throw new TypeError(result.problems.map(({ message }) => message).join('; '));
}

/** One host with two cards, and three guests that have a domain of both. */
export async function startGuests(threads: number): Promise<{ host: Host; vms: readonly EmbeddedVm[] }> {
  const descriptions = DOMAINS.map((domain, index) => describe(textOf(index, domain, threads)));
  const [first] = descriptions;
  if (first === undefined) throw new TypeError('there is no guest');
  const host = await Host.create(first);
  try {
    const vms: EmbeddedVm[] = [];
    for (const description of descriptions) vms.push(await EmbeddedVm.start(host, description));
    return { host, vms };
  } catch (cause) {
    await host.close();
    throw cause;
  }
}

/** The AP matrix of a guest. */
export function matrixOf(vm: EmbeddedVm): ApDevice {
  const ops = vm.slots[0]?.device.ops;
  if (ops instanceof ApDevice) return ops;
  throw new TypeError(`${vm.name} has no AP matrix`);
}
