import { readFileSync } from 'node:fs';
import { sysErrors } from './errors.js';
import type { Fd } from './fd.js';

/**
 * Whether two fds lead to the same memory: the same inode of the same file system, however often it was opened. This is
 * what two sockets of one VM have in common.
 * @throws SysError SYS_FD_CLOSED (EBADF), SYS_CALL_FAILED.
 */
export function sameMemory(a: Fd, b: Fd): boolean {
  const [one, other] = [a.stat(), b.stat()];
  return one.kind === 'file' && one.device === other.device && one.inode === other.inode;
}

/**
 * Whether two fds are one open file (dup, SCM_RIGHTS): by kcmp, or where that is not permitted by what fstat and /proc
 * tell. Then a file that was opened twice counts as one.
 * @throws SysError SYS_NO_IDENTITY (EOPNOTSUPP) without kcmp, for things that all share one inode; SYS_FD_CLOSED, SYS_CALL_FAILED.
 */
export function sameFile(a: Fd, b: Fd): boolean {
  const known = a.sys.compareFiles(a.number, b.number);
  return known ?? sameByStat(a, b);
}

function sameByStat(a: Fd, b: Fd): boolean {
  const [one, other] = [a.stat(), b.stat()];
  if (one.device !== other.device || one.inode !== other.inode) return false;
  const target = a.sys.target(a.number);
  if (target !== b.sys.target(b.number)) return false;
  // All eventfds, timerfds and so on share one inode; only eventfds have a number of their own.
  if (!target.startsWith('anon_inode:')) return true;
  const [first, second] = [eventfdId(a), eventfdId(b)];
  if (first === undefined || second === undefined) throw sysErrors.NO_IDENTITY({ target });
  return first === second;
}

/** The kernel's number of an eventfd. Source: eventfd_show_fdinfo(), Linux 5.2 and later. */
function eventfdId(fd: Fd): string | undefined {
  return /^eventfd-id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd.number}`, 'utf8'))?.[1];
}
