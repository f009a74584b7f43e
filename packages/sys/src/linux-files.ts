import { readFileSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { checkFd, checkOffset, checkWhole, type SysError, sysErrors } from './errors.js';
import { fdText, type Kernel } from './kernel.js';
import { type FileFacts, SEAL, type Sys } from './sys.js';

/** Source: asm-generic/fcntl.h, linux/fcntl.h (the same on x64 and arm64). */
const FCNTL = { GETFL: 3, SETFL: 4, DUPFD_CLOEXEC: 1030, ADD_SEALS: 1033, GET_SEALS: 1034 } as const;
const O_NONBLOCK = 0x800;
/** Source: linux/memfd.h. */
const MFD = { CLOEXEC: 0x1, ALLOW_SEALING: 0x2 } as const;
const MAX_NAME = 249;
/** struct statfs begins with f_type, a long; it has 120 bytes on both platforms. */
const STATFS_SIZE = 120;
/** struct statx: u16 mode, u64 inode, u64 size, u32 device numbers; the same on every platform. Source: linux/stat.h. */
const STATX = { bytes: 256, mode: 28, inode: 32, size: 40, major: 136, minor: 140 } as const;
/** AT_EMPTY_PATH | AT_STATX_DONT_SYNC; STATX_TYPE | STATX_INO | STATX_SIZE. */
const STATX_REQUEST = { flags: 0x5000, mask: 0x301 } as const;
const MODE_TYPE = 0xf000;
const KINDS: ReadonlyMap<number, FileFacts['kind']> = new Map([
  [0x8000, 'file'],
  [0xc000, 'socket'],
  [0x1000, 'pipe'],
]);
const ALL_SEALS = SEAL.SEAL | SEAL.SHRINK | SEAL.GROW | SEAL.WRITE | SEAL.FUTURE_WRITE;

type FileCalls = Pick<
  Sys,
  | 'close'
  | 'duplicate'
  | 'setNonBlocking'
  | 'openFlags'
  | 'stat'
  | 'filesystem'
  | 'mountType'
  | 'target'
  | 'memfd'
  | 'truncate'
  | 'addSeals'
  | 'seals'
  | 'pread'
  | 'pwrite'
>;

/** A failure to read /proc in this package's words: an fd that has no entry there is not open. */
function procFailure(fd: number, cause: unknown): SysError {
  const { ENOENT, EBADF, EIO } = constants.errno;
  const errno = cause instanceof Error && 'errno' in cause ? Math.abs(Number(cause.errno)) : EIO;
  return sysErrors.CALL_FAILED({ call: 'read of /proc', what: fdText(fd), errno: errno === ENOENT ? EBADF : errno });
}

function readProc(file: string, fd: number): string {
  try {
    return readFileSync(`/proc/self/${file}`, 'utf8');
  } catch (cause) {
    throw procFailure(fd, cause);
  }
}

export function checkMemfdName(name: string): void {
  if (name.includes('\0') || new TextEncoder().encode(name).length > MAX_NAME) {
    const wanted = `text of at most ${MAX_NAME} bytes without NUL`;
    throw sysErrors.BAD_ARGUMENT({ operation: 'memfd', what: 'the name', value: JSON.stringify(name), wanted });
  }
}

/** The calls of `Sys` on files of any kind and on memfds, before they are mapped. */
export function fileCalls(kernel: Kernel): FileCalls {
  const statfs = new Uint8Array(STATFS_SIZE);
  const statx = new Uint8Array(STATX.bytes);
  const facts = new DataView(statx.buffer);
  return {
    close(fd) {
      checkFd('close', fd);
      // why no retry: on Linux the fd is gone even after EINTR, and its number may already be somebody else's.
      if (kernel.calls.close(fd) === -1 && !kernel.interrupted) throw kernel.failure('close', fdText(fd));
    },
    duplicate(fd) {
      checkFd('duplicate', fd);
      return kernel.check(kernel.calls.fcntl(fd, FCNTL.DUPFD_CLOEXEC, 0), 'fcntl', `${fdText(fd)}, F_DUPFD_CLOEXEC`);
    },
    setNonBlocking(fd, on) {
      checkFd('setNonBlocking', fd);
      const flags = kernel.check(kernel.calls.fcntl(fd, FCNTL.GETFL, 0), 'fcntl', `${fdText(fd)}, F_GETFL`);
      const wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
      kernel.check(kernel.calls.fcntl(fd, FCNTL.SETFL, wanted), 'fcntl', `${fdText(fd)}, F_SETFL`);
    },
    openFlags(fd) {
      checkFd('openFlags', fd);
      return kernel.check(kernel.calls.fcntl(fd, FCNTL.GETFL, 0), 'fcntl', `${fdText(fd)}, F_GETFL`);
    },
    stat(fd): FileFacts {
      checkFd('stat', fd);
      kernel.check(kernel.native.statx(fd, STATX_REQUEST.flags, STATX_REQUEST.mask, statx), 'statx', fdText(fd));
      return {
        device:
          BigInt(facts.getUint32(STATX.major, true)) * 0x1_0000_0000n + BigInt(facts.getUint32(STATX.minor, true)),
        inode: facts.getBigUint64(STATX.inode, true),
        size: facts.getBigUint64(STATX.size, true),
        kind: KINDS.get(facts.getUint16(STATX.mode, true) & MODE_TYPE) ?? 'other',
      };
    },
    filesystem(fd) {
      checkFd('filesystem', fd);
      kernel.check(kernel.calls.fstatfs(fd, statfs), 'fstatfs', fdText(fd));
      return new DataView(statfs.buffer).getUint32(0, true);
    },
    mountType(fd) {
      checkFd('mountType', fd);
      const mount = /^mnt_id:\s*(\d+)$/m.exec(readProc(`fdinfo/${fd}`, fd))?.[1];
      // The optional fields of a line end with a dash; the type follows it. Source: proc_pid_mountinfo(5).
      return new RegExp(`^${mount} .*? - (\\S+) `, 'm').exec(readProc('mountinfo', fd))?.[1];
    },
    target(fd) {
      checkFd('target', fd);
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch (cause) {
        throw procFailure(fd, cause);
      }
    },
    memfd(name) {
      checkMemfdName(name);
      return kernel.check(kernel.calls.memfd_create(name, MFD.CLOEXEC | MFD.ALLOW_SEALING), 'memfd_create', name);
    },
    truncate(fd, size) {
      checkFd('truncate', fd);
      checkOffset('truncate', 'the size', size);
      kernel.check(kernel.calls.ftruncate(fd, size), 'ftruncate', `${fdText(fd)}, ${size}`);
    },
    addSeals(fd, seals) {
      checkFd('addSeals', fd);
      checkWhole('addSeals', 'the set of seals', seals, [0, ALL_SEALS]);
      kernel.check(kernel.calls.fcntl(fd, FCNTL.ADD_SEALS, seals), 'fcntl', `${fdText(fd)}, F_ADD_SEALS, ${seals}`);
    },
    seals(fd) {
      checkFd('seals', fd);
      return kernel.check(kernel.calls.fcntl(fd, FCNTL.GET_SEALS, 0), 'fcntl', `${fdText(fd)}, F_GET_SEALS`);
    },
    pread(fd, into, offset) {
      checkFd('pread', fd);
      checkOffset('pread', 'the offset', offset);
      for (;;) {
        const count = kernel.calls.pread(fd, into, into.length, offset);
        if (count !== -1) return count;
        if (!kernel.interrupted) throw kernel.failure('pread', `${fdText(fd)}, ${into.length}, ${offset}`);
      }
    },
    pwrite(fd, from, offset) {
      checkFd('pwrite', fd);
      checkOffset('pwrite', 'the offset', offset);
      for (;;) {
        const count = kernel.calls.pwrite(fd, from, from.length, offset);
        if (count !== -1) return count;
        if (!kernel.interrupted) throw kernel.failure('pwrite', `${fdText(fd)}, ${from.length}, ${offset}`);
      }
    },
  };
}
