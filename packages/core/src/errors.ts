import { catalogue } from './errno.js';
import { type FrameRange, formatRange, frameAddress, hex } from './units.js';

const list = (names: readonly string[]): string => (names.length === 0 ? 'none' : names.join(', '));
/** The first few frames of a report as byte addresses. */
const frames = (all: readonly number[]): string =>
  `${all
    .slice(0, 4)
    .map((frame) => hex(frameAddress(frame)))
    .join(', ')}${all.length > 4 ? `, ... (${all.length} pages)` : ''}`;

/** What core refuses, and why. The README's table is tested against this one. */
export const coreErrors = catalogue('CORE', {
  FILE_CLOSED: ['EBADF', (d: { file: string }) => `${d.file} is closed; open it again`],
  NO_GROUP: [
    'EINVAL',
    (d: { container: string }) => `container ${d.container} has no group; set one's container first`,
  ],
  IOMMU_SET: [
    'EINVAL',
    (d: { container: string; backend: string }) =>
      `container ${d.container} already uses backend ${d.backend}; only the last group leaving resets it`,
  ],
  NO_IOMMU: [
    'EINVAL',
    (d: { container: string; operation: string }) =>
      `${d.operation}: container ${d.container} has no IOMMU backend; call setIommu first`,
  ],
  NO_BACKEND: [
    'ENODEV',
    (d: { container: string; type: number; backends: readonly string[] }) =>
      `no backend takes IOMMU type ${d.type} for container ${d.container}; registered: ${list(d.backends)}`,
  ],
  NOT_SUPPORTED: [
    'ENOTTY',
    (d: { container: string; operation: string; backend: string }) =>
      `${d.operation}: backend ${d.backend} of container ${d.container} does not have it`,
  ],
  HAS_CONTAINER: [
    'EINVAL',
    (d: { group: string; container: string }) =>
      `group ${d.group} already belongs to container ${d.container}; unset it first`,
  ],
  NO_CONTAINER: [
    'EINVAL',
    (d: { group: string; operation: string }) => `${d.operation}: group ${d.group} has no container; set one first`,
  ],
  GROUP_BUSY: [
    'EBUSY',
    (d: { group: string; users: number }) =>
      `group ${d.group} is in use by ${d.users} open device(s); close them first`,
  ],
  GROUP_OPEN: ['EBUSY', (d: { group: string }) => `group ${d.group} is already open; a group has one opener`],
  GROUP_GONE: ['ENODEV', (d: { group: string }) => `group ${d.group} has no devices any more`],
  GROUP_EXISTS: ['EEXIST', (d: { group: string }) => `a group named ${d.group} exists already`],
  GROUP_MIX: [
    'EPERM',
    (d: { group: string; container: string }) =>
      `group ${d.group} and container ${d.container}: groups with and without an IOMMU cannot share a container`,
  ],
  GROUP_RAWIO: [
    'EPERM',
    (d: { group: string; task: string }) => `group ${d.group} has no IOMMU; task ${d.task} needs CAP_SYS_RAWIO for it`,
  ],
  DEVICE_GONE: ['ENODEV', (d: { device: string }) => `device ${d.device} does not exist or is being removed`],
  DEVICE_EXISTS: [
    'EEXIST',
    (d: { device: string; group: string }) => `group ${d.group} already has a device named ${d.device}`,
  ],
  NOT_OPEN: ['EINVAL', (d: { device: string; operation: string }) => `${d.operation}: device ${d.device} is not open`],
  NO_REGION: [
    'EINVAL',
    (d: { device: string; index: number; access: string }) => `device ${d.device} has no ${d.access} region ${d.index}`,
  ],
  OUT_OF_REGION: [
    'EINVAL',
    (d: { device: string; index: number; offset: number; length: number; size: number }) =>
      `device ${d.device}: ${d.length} bytes at offset ${d.offset} do not fit into region ${d.index} of ${d.size} bytes`,
  ],
  BAD_MIGRATION: [
    'EINVAL',
    (d: { device: string; state: string; problem: string }) => `device ${d.device} is in ${d.state}: ${d.problem}`,
  ],
  NO_RESET: ['ENOTTY', (d: { device: string }) => `device ${d.device} cannot be reset`],
  NO_DMA_UNMAP: [
    'EINVAL',
    (d: { device: string; driver: string }) =>
      `device ${d.device}: driver ${d.driver} declares no dmaUnmap, so it may not pin; declare one (no pin right without an unpin duty)`,
  ],
  BAD_COUNT: [
    'EINVAL',
    (d: { device: string; count: number }) => `device ${d.device}: ${d.count} is no number of pages; use 1 to 512`,
  ],
  TOO_MANY: [
    'E2BIG',
    (d: { device: string; count: number }) => `device ${d.device}: ${d.count} pages in one call; at most 512`,
  ],
  SHORT_OUT: [
    'EINVAL',
    (d: { device: string; count: number; room: number }) =>
      `device ${d.device}: ${d.count} pages asked, but there is room for ${d.room} frames only`,
  ],
  BAD_ADDRESS: [
    'EINVAL',
    (d: { device: string; what: string }) => `device ${d.device}: ${d.what} is no address of a 64-bit space`,
  ],
  NO_PIN_SUPPORT: [
    'ENOTTY',
    (d: { device: string; backend: string }) =>
      `device ${d.device}: backend ${d.backend} cannot pin; mediated devices need one that can`,
  ],
  PINS_RELEASED: [
    'EINVAL',
    (d: { device: string; range: FrameRange }) =>
      `device ${d.device} gave the pages ${formatRange(d.range)} back; pin them again before use`,
  ],
  OUT_OF_RANGE: [
    'EINVAL',
    (d: { device: string; range: FrameRange; offset: number; length: number }) =>
      `device ${d.device}: ${d.length} bytes at offset ${d.offset} lie outside the pinned pages ${formatRange(d.range)}`,
  ],
  READ_ONLY_PIN: [
    'EPERM',
    (d: { device: string; range: FrameRange }) => `device ${d.device} pinned ${formatRange(d.range)} for reading only`,
  ],
  PINS_LEFT: [
    'EBUSY',
    (d: { device: string; driver: string; frames: readonly number[]; released: boolean }) =>
      `driver ${d.driver} closed device ${d.device} and left pins on ${frames(d.frames)}; ${d.released ? 'they were released' : 'they stay pinned'}; unpin in close`,
  ],
  REENTRY: [
    'EBUSY',
    (d: { operation: string; device: string; driver: string; duty: string }) =>
      `${d.operation} was called from inside ${d.duty} of device ${d.device} (driver ${d.driver}); do it after the duty returned`,
  ],
  CALLBACK_FAILED: [
    'EIO',
    (d: { device: string; driver: string; duty: string; reason: string }) =>
      `${d.duty} of device ${d.device} (driver ${d.driver}) failed: ${d.reason}`,
  ],
  CALLBACK_TIMEOUT: [
    'ETIMEDOUT',
    (d: { device: string; driver: string; duty: string; milliseconds: number }) =>
      `${d.duty} of device ${d.device} (driver ${d.driver}) did not settle within ${d.milliseconds} ms`,
  ],
  BAD_PLUGIN: ['EINVAL', (d: { plugin: string; problem: string }) => `plugin ${d.plugin}: ${d.problem}`],
  PLUGIN_EXISTS: [
    'EEXIST',
    (d: { plugin: string; what: string }) => `plugin ${d.plugin}: ${d.what} is registered already`,
  ],
  PLUGIN_VERSION: [
    'EINVAL',
    (d: { plugin: string; wanted: string; core: string }) =>
      `plugin ${d.plugin} wants core ${d.wanted}, this is ${d.core}`,
  ],
  NOT_PROVIDED: ['ENOENT', (d: { what: string }) => `nothing provides ${d.what}; register a plugin that does`],
  NO_DRIVER: [
    'ENOENT',
    (d: { driver: string; known: readonly string[] }) =>
      `no vendor driver named ${d.driver}; registered: ${list(d.known)}`,
  ],
  PARENT_EXISTS: ['EEXIST', (d: { parent: string }) => `parent ${d.parent} is registered already`],
  PARENT_GONE: ['ENODEV', (d: { parent: string }) => `parent ${d.parent} is being unregistered`],
  NO_TYPE: [
    'ENOENT',
    (d: { parent: string; type: string; known: readonly string[] }) =>
      `parent ${d.parent} offers no type ${d.type}; it offers ${list(d.known)}`,
  ],
  BAD_UUID: ['EINVAL', (d: { uuid: string }) => `'${d.uuid}' is no UUID (8-4-4-4-12 hex digits)`],
  UUID_EXISTS: [
    'EEXIST',
    (d: { uuid: string; parent: string }) => `mediated device ${d.uuid} exists already under parent ${d.parent}`,
  ],
  NO_INSTANCES: [
    'EUSERS',
    (d: { parent: string; type: string }) =>
      `parent ${d.parent} has no instance of type ${d.type} left; remove one first`,
  ],
  MDEV_GONE: ['ENODEV', (d: { uuid: string }) => `mediated device ${d.uuid} is gone`],
  MDEV_NOT_ACTIVE: ['EAGAIN', (d: { uuid: string }) => `mediated device ${d.uuid} is still being created`],
  STOPPED: ['ENODEV', (d: { operation: string }) => `${d.operation}: the mediator is closed`],
});
