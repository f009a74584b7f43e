import { checkOffset, checkWhole, sysErrors } from './errors.js';
import type { Fd } from './fd.js';
import { MAX_MAPPING } from './limits.js';
import { FILESYSTEM, type FileFacts, type Sys } from './sys.js';

/** A part of a file that is used as memory, however it is reached. Offsets and lengths are bytes from its beginning. */
export interface MemoryWindow {
  readonly label: string;
  readonly length: number;
  readonly writable: boolean;
  /** False after `close`. */
  readonly open: boolean;
  /** Copies `into.length` bytes out. @throws SysError SYS_OUT_OF_RANGE, SYS_UNMAPPED, SYS_SHRUNK (all EFAULT). */
  read(offset: number, into: Uint8Array): void;
  /** Copies bytes in. @throws as `read`, and SYS_READ_ONLY (EPERM). */
  write(offset: number, from: Uint8Array): void;
  /** Lets go of it. A second call does nothing. */
  close(): void;
}

export interface WindowRequest {
  /** The file; it may be closed as soon as the window is open. */
  readonly fd: Fd;
  /** Offset in the file: bytes. For `mapFile` a multiple of the page size. */
  readonly offset: bigint;
  /** Bytes, at least 1. */
  readonly length: number;
  readonly writable: boolean;
  /** What the memory is, for messages: `guest ram of vm 1`. */
  readonly label: string;
  /**
   * Files of huge pages can kill whoever maps them: a peer that punches a hole, and an empty pool. `trust` maps them all
   * the same, for a peer who is known not to. Default: refuse.
   */
  readonly hugePages?: 'refuse' | 'trust';
  /** Takes the memory of a process too (/proc/PID/mem), which has no size. For `openFile`. */
  readonly unsized?: boolean;
  /** Bytes in one raw view, a multiple of the page size, at most 1 GiB, which is the default. */
  readonly windowSize?: number;
}

/**
 * Looks at everything before anything is opened. `sealable`: the file may have seals, so it is a memfd or lies on tmpfs or
 * hugetlbfs; of other files nothing is asked that their file system could be slow to answer.
 * @throws SysError SYS_BAD_ARGUMENT, SYS_NOT_MEMORY, SYS_BEYOND_FILE (all EINVAL), SYS_FD_CLOSED (EBADF), SYS_CALL_FAILED.
 */
export function checkWindow(request: WindowRequest, sealable: boolean): void {
  const { fd, offset, length, label } = request;
  checkOffset('open memory', 'the offset', offset);
  checkWhole('open memory', 'the length', length, [1, MAX_MAPPING]);
  const facts = fd.stat();
  const { kind, size } = facts;
  if (kind !== 'file') throw sysErrors.NOT_MEMORY({ label, problem: `the fd is a ${kind}` });
  const problem = sealable ? hugeProblem(request, facts) : mountProblem(request);
  if (problem !== undefined) throw sysErrors.NOT_MEMORY({ label, problem });
  if (size === 0n && isProcessMemory(request)) return;
  if (offset + BigInt(length) > size) throw sysErrors.BEYOND_FILE({ label, offset, length, size });
}

/** The memory of a process as a file: it has no size, and reading it never waits. Source: proc_pid_mem(5). */
function isProcessMemory({ fd, unsized = false }: WindowRequest): boolean {
  if (!unsized || fd.sys.mountType(fd.number) !== 'proc') return false;
  return /\/\d+(\/task\/\d+)?\/mem$/.test(fd.sys.target(fd.number));
}

const devices = new WeakMap<Sys, bigint>();

/**
 * The device number of ordinary memfds: one mount inside the kernel, for as long as it runs, and never one of huge pages. Saves
 * a question per mapping. @throws SysError SYS_CALL_FAILED (EMFILE).
 */
function memfdDevice(sys: Sys): bigint {
  const known = devices.get(sys);
  if (known !== undefined) return known;
  const number = sys.memfd('probe');
  try {
    const { device } = sys.stat(number);
    devices.set(sys, device);
    return device;
  } finally {
    sys.close(number);
  }
}

function hugeProblem({ fd, hugePages = 'refuse' }: WindowRequest, { device }: FileFacts): string | undefined {
  if (hugePages === 'trust' || device === memfdDevice(fd.sys) || fd.sys.filesystem(fd.number) !== FILESYSTEM.HUGETLBFS)
    return undefined;
  return 'it has huge pages, which a peer can take away; see hugePages';
}

function mountProblem({ fd }: WindowRequest): string | undefined {
  const type = fd.sys.mountType(fd.number);
  if (type !== undefined && !type.startsWith('fuse')) return undefined;
  return `it lies on ${type ?? 'a file system that is not mounted here'}, whose server could make us wait for ever`;
}
