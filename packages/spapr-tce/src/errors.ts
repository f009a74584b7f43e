import { catalogue, hex } from '@pinion/core';

const range = (d: { iova: bigint; size: bigint }): string => `iova ${hex(d.iova)}, ${hex(d.size)} bytes`;
const memory = (d: { vaddr: bigint; size: bigint }): string => `memory at ${hex(d.vaddr)}, ${hex(d.size)} bytes`;

/** What the sPAPR TCE backend and the software platform refuse, and why. The README's table is tested against this one. */
export const tceErrors = catalogue('TCE', {
  BAD_TYPE: ['EINVAL', (d: { type: number }) => `IOMMU type ${d.type} is not sPAPR TCE; use 2 (v1) or 7 (v2)`],
  UNREADABLE: ['EFAULT', (d: { operation: string }) => `${d.operation}: the argument cannot be read`],
  NO_IOCTL: [
    'ENOTTY',
    (d: { operation: string; version: string }) => `${d.operation}: a ${d.version} container does not have it`,
  ],
  NOT_OWNER: [
    'EPERM',
    (d: { operation: string; task: string; owner: string }) =>
      `${d.operation}: task ${d.task} does not share the memory ${d.owner} that this container belongs to`,
  ],
  NO_OWNER: [
    'EPERM',
    (d: { operation: string }) => `${d.operation}: nothing was ever registered here, so the container has no owner`,
  ],
  TASK_GONE: ['ESRCH', (d: { operation: string; task: string }) => `${d.operation}: task ${d.task} has exited`],
  NOT_ENABLED: [
    'EPERM',
    (d: { operation: string; v2: boolean }) =>
      `${d.operation}: the container is not enabled; ${d.v2 ? 'register memory' : 'call enable'} first`,
  ],
  BAD_ARGSZ: [
    'EINVAL',
    (d: { operation: string; argsz: number; min: number }) => `${d.operation}: argsz ${d.argsz} is below ${d.min}`,
  ],
  BAD_FLAGS: ['EINVAL', (d: { operation: string; flags: number }) => `${d.operation}: unknown flags ${hex(d.flags)}`],
  BAD_NUMBER: [
    'EINVAL',
    (d: { operation: string; what: string; value: string }) =>
      `${d.operation}: ${d.what} ${d.value} is no number of its field`,
  ],
  NO_RIGHTS: ['EINVAL', (d: { iova: bigint; size: bigint }) => `map of ${range(d)}: neither read nor write was asked`],
  NO_WINDOW: [
    'ENXIO',
    (d: { operation: string; iova: bigint; size: bigint }) =>
      `${d.operation} of ${range(d)}: it does not lie in a window of this container`,
  ],
  UNALIGNED: [
    'EINVAL',
    (d: { operation: string; what: string; value: bigint; pageSize: bigint }) =>
      `${d.operation}: ${d.what} ${hex(d.value)} is no multiple of the window’s pages of ${hex(d.pageSize)} bytes`,
  ],
  TOO_LARGE: [
    'EINVAL',
    (d: { operation: string; iova: bigint; size: bigint }) =>
      `${d.operation} of ${range(d)}: far larger than any window (a kernel would be stuck here)`,
  ],
  MAP_FAULT: ['EFAULT', (d: { vaddr: bigint }) => `map: the page at ${hex(d.vaddr)} cannot be pinned`],
  NOT_REGISTERED: [
    'EINVAL',
    (d: { vaddr: bigint; size: bigint }) =>
      `map: ${memory(d)} are not registered, or not in pages as large as the window’s; register them first`,
  ],
  TORN_DOWN: [
    'EINVAL',
    (d: { vaddr: bigint; size: bigint }) => `map: ${memory(d)} were unregistered while they were mapped`,
  ],
  FIRMWARE: [
    'EINTR',
    (d: { index: number; entries: number }) =>
      `the firmware knows no entry ${d.index} in a table of ${d.entries} (status -4, taken as an errno)`,
  ],
  MEMLOCK: [
    'ENOMEM',
    (d: { operation: string; task: string; locked: number; wanted: number; limit: number }) =>
      `${d.operation}: ${d.wanted} page(s) on top of ${d.locked} would exceed RLIMIT_MEMLOCK of task ${d.task} (${d.limit} pages); raise it or grant CAP_IPC_LOCK`,
  ],
  BAD_MEMORY: [
    'EINVAL',
    (d: { operation: string; vaddr: bigint; size: bigint }) =>
      `${d.operation}: ${memory(d)} are no whole pages of one address space`,
  ],
  EMPTY_MEMORY: ['ENOMEM', () => 'register: no list of no pages could be allocated'],
  NO_LIST: ['ENOMEM', (d: { pages: number }) => `register: no list of ${d.pages} pages could be allocated`],
  MEMORY_FAULT: [
    'EFAULT',
    (d: { vaddr: bigint; size: bigint; pinned: number }) =>
      `register: of ${memory(d)} only the first ${d.pinned} page(s) can be pinned`,
  ],
  MEMORY_OVERLAP: [
    'EINVAL',
    (d: { vaddr: bigint; size: bigint; mm: string }) =>
      `register: ${memory(d)} overlap memory of ${d.mm} that is registered with other bounds`,
  ],
  REGISTERED: [
    'EBUSY',
    (d: { vaddr: bigint; size: bigint }) => `register: ${memory(d)} are registered in this container already`,
  ],
  UNKNOWN_MEMORY: [
    'ENOENT',
    (d: { vaddr: bigint; size: bigint }) => `unregister: ${memory(d)} are not registered in this container`,
  ],
  MEMORY_IN_USE: [
    'EBUSY',
    (d: { vaddr: bigint; size: bigint; uses: number }) =>
      `unregister: ${d.uses} table entr(ies) lead to the ${memory(d)}; unmap them first`,
  ],
  ENABLED: ['EBUSY', (d: { container: string }) => `container ${d.container} is enabled already`],
  NO_WINDOW32: ['EPERM', (d: { group: string }) => `enable: group ${d.group} has no 32-bit window`],
  NO_SLOT: ['ENOSPC', (d: { slots: number }) => `create: all ${d.slots} windows are taken; remove one first`],
  BAD_WINDOW: [
    'EINVAL',
    (d: { pageShift: number; size: bigint; levels: number; problem: string }) =>
      `create: window of ${hex(d.size)} bytes in pages of 2^${d.pageShift}, ${d.levels} level(s): ${d.problem}`,
  ],
  UNKNOWN_WINDOW: ['EINVAL', (d: { start: bigint }) => `remove: no window starts at ${hex(d.start)}`],
  NO_GROUP: ['ENODEV', (d: { operation: string }) => `${d.operation}: the container has no group`],
  NO_GROUP_INFO: ['ENXIO', () => 'info: the container has no group'],
  EMULATED: [
    'EINVAL',
    (d: { group: string }) =>
      `group ${d.group} is a mediated device’s; sPAPR TCE cannot pin for it: use a container of its own with type1v2`,
  ],
  NO_TABLES: [
    'ENODEV',
    (d: { group: string }) => `group ${d.group} has no TCE tables behind it; use the backend of its IOMMU`,
  ],
  ONE_GROUP: [
    'EBUSY',
    (d: { group: string }) => `group ${d.group}: a v1 container takes one group; use v2 or a second container`,
  ],
  ATTACHED: ['EBUSY', (d: { group: string }) => `group ${d.group} is attached already`],
  INCOMPATIBLE: [
    'EPERM',
    (d: { group: string; other: string }) =>
      `group ${d.group} has another kind of tables than group ${d.other}; use a second container`,
  ],
  NO_DYNAMIC_WINDOWS: [
    'EINVAL',
    (d: { group: string }) => `group ${d.group} has no dynamic windows, which v2 needs; use v1`,
  ],
  FOREIGN_TABLE: [
    'EPERM',
    (d: { group: string }) => `group ${d.group} cannot stand behind a table that was created for another group`,
  ],
  NO_EEH: ['ENODEV', () => 'the platform has no error handling (EEH) for these groups'],
  NO_DDW: [
    'EINVAL',
    (d: { group: string }) => `group ${d.group}: the firmware offers no dynamic windows for its bridge`,
  ],
  DDW_FAILED: [
    'ENODEV',
    (d: { group: string }) => `group ${d.group}: creating a window failed on this bridge, it is not tried again`,
  ],
  DDW_PRESENT: [
    'EPERM',
    (d: { group: string }) =>
      `group ${d.group}: a 64-bit window stands; a first window would destroy it, remove the other one first`,
  ],
  NO_DOMAIN: ['ENODEV', (d: { group: number }) => `group ${d.group} has TCE tables, no paging domains; use sPAPR TCE`],
  GROUP_OWNED: ['EPERM', (d: { group: number }) => `group ${d.group} has an owner already`],
});
