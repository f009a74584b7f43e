/** What runs the guest's instructions. `tcg` works everywhere; `kvm` needs /dev/kvm; with `qtest` there is no CPU, see `QtestClient`. */
export type Accelerator = 'tcg' | 'kvm' | 'qtest';

/** A device as `-device` takes it in JSON: `driver`, and its properties. */
export type QemuDevice = Readonly<Record<string, unknown>> & { readonly driver: string };

export interface QemuKernel {
  /** A file: bzImage, or an ELF vmlinux with PVH, which starts faster. */
  readonly image: string;
  /** A file. */
  readonly initrd?: string;
  readonly commandLine?: string;
}

/** A machine that QEMU is to be. */
export interface QemuMachine {
  /** MiB of guest memory. Default 256. */
  readonly memory?: number;
  /** Whether memory is one shared and sealed memfd, or QEMU's own: then devices outside reach it by messages alone. Default true. */
  readonly shared?: boolean;
  /** Default 1: with `tcg` more of them make a guest slower. */
  readonly cpus?: number;
  /** Default `tcg`. */
  readonly accelerator?: Accelerator;
  /** In this order: a bus or an IOMMU comes before what is behind it. */
  readonly devices?: readonly QemuDevice[];
  readonly kernel?: QemuKernel;
  /** Whether a guest that reboots starts again; otherwise QEMU ends then. Default false. */
  readonly reboots?: boolean;
  /** Anything else, as on a command line. */
  readonly args?: readonly string[];
}

/** A channel of QEMU's that this process has the other end of: a descriptor that QEMU inherits. */
export interface QemuChannel {
  readonly name: string;
  readonly fd: number;
}

/** `properties`: of the vfio-user-pci device itself: `id`, `bus`, `addr`, `x-msg-timeout` (milliseconds, default 5000) ... */
export const vfioUserDevice = (path: string, properties: Readonly<Record<string, unknown>> = {}): QemuDevice => ({
  driver: 'vfio-user-pci',
  socket: { type: 'unix', path },
  ...properties,
});

/**
 * A port for hot-plugging: give a device `bus: id` to plug it in there. Its chassis and slot are `number`, which must be unique.
 * An `id` must not be `port`: QEMU 11.1 aborts at an id that is also the name of a property.
 */
export const pcieRootPort = (id: string, number: number): QemuDevice => ({
  driver: 'pcie-root-port',
  id,
  chassis: number,
  slot: number,
});

/** Intel's IOMMU, for a kernel with `intel_iommu=on`. `caching-mode` is what makes the guest tell of new mappings, which vfio devices need. */
export const intelIommu = (): QemuDevice => ({ driver: 'intel-iommu', intremap: 'on', 'caching-mode': true });

const option = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [name, value]);

const kernelArgs = ({ image, initrd, commandLine }: QemuKernel): string[] => [
  '-kernel',
  image,
  ...option('-initrd', initrd),
  ...option('-append', commandLine),
];

/** A comma ends a value on QEMU's command line; two stand for one. */
const escaped = (text: string): string => text.replaceAll(',', ',,');

const channelArgs = ({ name, fd }: QemuChannel): string[] => ['-chardev', `socket,id=${escaped(name)},fd=${fd}`];

const memoryBackend = (memory: number, shared: boolean): string =>
  shared ? `memory-backend-memfd,id=ram,size=${memory}M,share=on` : `memory-backend-ram,id=ram,size=${memory}M`;

/**
 * QEMU's arguments for a machine. Nothing of QEMU's defaults is there: no network, no display, no default devices.
 * Guest memory is a memfd that is shared and cannot shrink, which is what a vfio-user server maps, unless it is not to be shared.
 * Channels `console` and `shell` become serial ports 0 and 1, `qmp` the monitor, `qtest` the test protocol; others are only declared.
 */
export function qemuArguments(machine: QemuMachine, channels: readonly QemuChannel[] = []): string[] {
  const {
    memory = 256,
    shared = true,
    cpus = 1,
    accelerator = 'tcg',
    devices = [],
    kernel,
    reboots = false,
    args = [],
  } = machine;
  const has = (name: string): boolean => channels.some((channel) => channel.name === name);
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-accel', accelerator, '-smp', String(cpus)],
    ...['-M', 'q35,memory-backend=ram', ...(accelerator === 'qtest' ? [] : ['-cpu', 'max'])],
    ...['-m', String(memory), '-object', memoryBackend(memory, shared)],
    ...(reboots ? [] : ['-no-reboot']),
    ...channels.flatMap(channelArgs),
    ...(has('qmp') ? ['-qmp', 'chardev:qmp'] : []),
    ...(has('console') ? ['-device', 'isa-serial,chardev=console,index=0'] : []),
    ...(has('shell') ? ['-device', 'isa-serial,chardev=shell,index=1'] : []),
    ...(has('qtest') ? ['-qtest', 'chardev:qtest', '-qtest-log', 'none'] : []),
    ...(kernel === undefined ? [] : kernelArgs(kernel)),
    ...devices.flatMap((device) => ['-device', JSON.stringify(device)]),
    ...args,
  ];
}
