import { catalogue, ERRNO, type Errno, hex, PinionError } from '@pinion/core';
import { commandName, featureName } from './commands.js';

/** What this package refuses, and why. The README's table is tested against this one. */
export const vfioUserErrors = catalogue('VFIOUSER', {
  BAD_MESSAGE: [
    'EBADMSG',
    (d: { problem: string }) => `the stream is not vfio-user any more: ${d.problem}; the connection is closed`,
  ],
  BAD_SIZE: [
    'EINVAL',
    (d: { command: number; size: number; need: number | bigint }) =>
      `${commandName(d.command)}: its payload has ${d.size} bytes, it needs ${d.need}`,
  ],
  BAD_ARGSZ: [
    'EINVAL',
    (d: { command: number; argsz: number; min: number }) =>
      `${commandName(d.command)}: argsz ${d.argsz} is below ${d.min}`,
  ],
  BAD_FLAGS: [
    'EINVAL',
    (d: { command: number; flags: number; problem: string }) =>
      `${commandName(d.command)}: flags ${hex(d.flags)}: ${d.problem}`,
  ],
  BAD_FDS: [
    'EINVAL',
    (d: { command: number; count: number; allowed: string }) =>
      `${commandName(d.command)} came with ${d.count} file descriptors; it takes ${d.allowed}`,
  ],
  BAD_VERSION: ['EINVAL', (d: { problem: string }) => `version negotiation: ${d.problem}`],
  BAD_CAPABILITY: [
    'EINVAL',
    (d: { key: string; wanted: string }) => `version negotiation: capability ${d.key} must be ${d.wanted}`,
  ],
  NOT_NEGOTIATED: [
    'EINVAL',
    (d: { command: number }) => `${commandName(d.command)} came before VERSION; VERSION is the first message`,
  ],
  UNKNOWN_COMMAND: ['EINVAL', (d: { command: number }) => `${commandName(d.command)} is not one that is served here`],
  NOT_SUPPORTED: ['EINVAL', (d: { what: string }) => `${d.what} is not supported by this device`],
  NO_FEATURE: [
    'ENOTTY',
    (d: { feature: number }) => `the device does not have feature ${d.feature} (${featureName(d.feature)})`,
  ],
  BAD_FEATURE: ['EINVAL', (d: { what: string; problem: string }) => `${d.what}: ${d.problem}`],
  TOO_LARGE: [
    'E2BIG',
    (d: { command: number; count: number | bigint; max: number }) =>
      `${commandName(d.command)} of ${d.count} bytes; the most is ${d.max}`,
  ],
  BAD_INDEX: [
    'EINVAL',
    (d: { what: string; index: number; count: number }) =>
      `there is no ${d.what} ${d.index}; they are numbered below ${d.count}`,
  ],
  BAD_ACCESS: [
    'EINVAL',
    (d: { region: number; offset: bigint; count: number; problem: string }) =>
      `region ${d.region}, offset ${hex(d.offset)}, ${d.count} bytes: ${d.problem}`,
  ],
  BAD_IRQS: ['EINVAL', (d: { index: number; problem: string }) => `interrupt index ${d.index}: ${d.problem}`],
  BAD_MAP: [
    'EINVAL',
    (d: { address: bigint; size: bigint; problem: string }) =>
      `mapping of ${hex(d.size)} bytes at ${hex(d.address)}: ${d.problem}`,
  ],
  MAP_EXISTS: [
    'EEXIST',
    (d: { address: bigint; size: bigint; foreign?: boolean }) =>
      `mapping of ${hex(d.size)} bytes at ${hex(d.address)} overlaps one that is there; ${
        d.foreign === true
          ? 'that is another device’s, of other memory: devices behind a virtual IOMMU need a container each'
          : 'unmap that one first'
      }`,
  ],
  NOT_MAPPED: [
    'ENOENT',
    (d: { address: bigint; size: bigint }) =>
      `no mapping is exactly ${hex(d.size)} bytes at ${hex(d.address)}; mappings go as they came`,
  ],
  NO_DMA: [
    'EFAULT',
    (d: { address: bigint; length: number }) => `${d.length} bytes at ${hex(d.address)} are not mapped for this access`,
  ],
  UNMAPPED: [
    'EFAULT',
    (d: { frames: string; label: string }) =>
      `host frames ${d.frames}: ${d.label} was taken away; whoever pinned it was told before`,
  ],
  NO_SHARED_MEMORY: [
    'EFAULT',
    (d: { address: bigint }) =>
      `the memory at ${hex(d.address)} was mapped without a file descriptor: its pages cannot be pinned, only copied by messages; start the VM with shared memory`,
  ],
  DMA_IN_REQUEST: [
    'EDEADLK',
    (d: { address: bigint; command: number }) =>
      `DMA by message at ${hex(d.address)} inside ${commandName(d.command)}, whose sender waits for its reply and serves nothing until then; reply first`,
  ],
  DMA_REFUSED: [
    'EIO',
    (d: { address: bigint; problem: string }) => `DMA by message at ${hex(d.address)} failed: ${d.problem}`,
  ],
  REFUSED: [
    'EIO',
    (d: { command: number; errno: string }) => `the peer answered ${commandName(d.command)} with ${d.errno}`,
  ],
  TIMEOUT: [
    'ETIMEDOUT',
    (d: { command: number; milliseconds: number }) =>
      `${commandName(d.command)} was not answered within ${d.milliseconds} ms`,
  ],
  UNANSWERED: [
    'EBUSY',
    (d: { command: number }) =>
      `${commandName(d.command)} was not sent: the peer has left 65536 commands unanswered, so there is no number to tell its answer by`,
  ],
  FLOOD: ['EBUSY', (d: { bytes: number }) => `${d.bytes} bytes of requests wait; the connection is closed`],
  BUSY: ['EBUSY', (d: { device: string }) => `device ${d.device} has a client already; one connection is one client`],
  BAD_ACTIVATION: [
    'EINVAL',
    (d: { value: string }) =>
      `LISTEN_FDS is '${d.value}', which is no count of descriptors; unset it, or let systemd set it`,
  ],
  DISCONNECTED: ['ENODEV', (d: { what: string }) => `${d.what}: the connection is closed`],
});

const ERRNO_NAMES = new Map<number, Errno>(
  Object.entries(ERRNO).map(([name, number]) => [number, name as Errno]), // why: the keys of ERRNO are Errno
);

/** The errno of a wire number for people. */
export const errnoName = (code: number): string => ERRNO_NAMES.get(code) ?? `errno ${code}`;

/** VFIOUSER_REFUSED with the errno that the peer sent (EIO for a number that has no name here). */
export function refused(command: number, code: number): PinionError {
  const { name, message } = vfioUserErrors.REFUSED({ command, errno: errnoName(code) });
  return new PinionError(name, ERRNO_NAMES.get(code) ?? 'EIO', message);
}
