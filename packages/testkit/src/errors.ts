import { catalogue, hex } from '@pinion/core';

const at = (address: bigint | number): string => `at ${hex(address)}`;

interface Access {
  readonly mm: string;
  readonly vaddr: bigint;
  readonly write: boolean;
}
interface Call {
  readonly mm: string;
  readonly call: string;
  readonly vaddr: bigint;
}
const access = ({ mm, vaddr, write }: Access): string => `${write ? 'write' : 'read'} of ${mm} ${at(vaddr)}`;
const call = (what: Call): string => `${what.call} in ${what.mm} ${at(what.vaddr)}`;

/**
 * What the simulated system refuses. The errno is what Linux answers to the same call; rows marked "bug" have no
 * counterpart there: the code under test broke a promise, and the simulation says so instead of corrupting memory.
 */
export const simErrors = catalogue('SIM', {
  FAULT: ['EFAULT', (d: Access) => `${access(d)}: nothing mapped there, or not for this access`],
  NOT_PINNABLE: ['EOPNOTSUPP', (d: Access) => `${access(d)}: pages of this file system cannot be pinned for long`],
  OUT_OF_MEMORY: ['ENOMEM', (d: { capacity: number }) => `all ${d.capacity} pages of the host are in use`],
  NO_SPACE: ['ENOMEM', (d: Call) => `${call(d)}: no room left below the end of the address space`],
  BAD_RANGE: ['EINVAL', (d: Call & { why: string }) => `${call(d)}: ${d.why}`],
  HOLE: ['ENOMEM', (d: Call) => `${call(d)}: part of the range is not mapped; what lay before it has been changed`],
  OVERLAP: ['EEXIST', (d: Call) => `${call(d)}: something is mapped there already`],
  NOT_DISCARDABLE: ['EINVAL', (d: Call) => `${call(d)}: locked or device memory cannot be discarded`],
  LOCK_LIMIT: [
    'ENOMEM',
    (d: Call & { pages: number; limit: number }) =>
      `${call(d)}: ${d.pages} locked pages would be more than the limit of ${d.limit}; raise it or grant CAP_IPC_LOCK`,
  ],
  LOCK_FORBIDDEN: ['EPERM', (d: Call) => `${call(d)}: RLIMIT_MEMLOCK is 0 and CAP_IPC_LOCK is missing`],
  BAD_FILE: ['EBADF', (d: { task: string; file: string }) => `${d.task} holds no open file ${d.file}`],
  BAD_LIMIT: ['EINVAL', (d: { task: string; bytes: number }) => `${d.task}: ${d.bytes} bytes is no RLIMIT_MEMLOCK`],
  BAD_TIME: ['EINVAL', (d: { what: string; ms: number }) => `${d.what}: ${d.ms} ms is no span of time`],
  BAD_SCHEDULE: [
    'EINVAL',
    (d: { text: string; why: string }) => `'${d.text}' is no schedule of this scenario: ${d.why}`,
  ],
  STUCK: [
    'EDEADLK',
    (d: { who: readonly string[]; last: string }) =>
      `${d.who.join(', ')} wait(s) for something that never comes, after '${d.last}'`,
  ],
  ENDLESS: ['E2BIG', (d: { steps: number; last: string }) => `more than ${d.steps} steps, the last one '${d.last}'`],
  TASK_DEAD: ['ESRCH', (d: { task: string; call: string }) => `${d.call}: ${d.task} has exited`],
  MM_DEAD: ['ESRCH', (d: Call) => `${call(d)}: bug: the memory is gone with its last process; check alive first`],
  NO_SUCH_PAGE: [
    'EFAULT',
    (d: { pfn: number; call: string }) => `${d.call}: bug: frame ${hex(d.pfn)} is no page (any more)`,
  ],
  NOT_PINNED: [
    'EINVAL',
    (d: { pfn: number }) => `bug: frame ${hex(d.pfn)} was given back more often than it was pinned`,
  ],
  MM_UNDERFLOW: ['EINVAL', (d: { mm: string }) => `bug: ${d.mm} was dropped more often than it was grabbed`],
  LOCKED_UNDERFLOW: [
    'EINVAL',
    (d: { mm: string; locked: number; delta: number }) =>
      `bug: ${d.mm} has ${d.locked} locked pages, ${-d.delta} were taken away`,
  ],
});
