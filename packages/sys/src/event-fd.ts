import { sysErrors } from './errors.js';
import { Fd } from './fd.js';
import type { Sys } from './sys.js';

/** What /proc says of an eventfd. */
const EVENTFD_TARGET = 'anon_inode:[eventfd]';

/** An eventfd: a counter that wakes who polls it. Never waits. */
export class EventFd {
  readonly fd: Fd;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /** A new one. `initial`: 0..2^32-1. @throws SysError SYS_CALL_FAILED (EMFILE), SYS_BAD_ARGUMENT (EINVAL). */
  static create(sys: Sys, label: string, { initial = 0, semaphore = false } = {}): EventFd {
    return new EventFd(new Fd(sys, sys.eventfd(initial, semaphore), label));
  }

  /**
   * Takes over an fd that a peer sent as an eventfd, after a look at what it is: a write to a full pipe would wait for
   * ever. Makes it non-blocking, for all who share it.
   * @throws SysError SYS_NOT_EVENTFD (EINVAL); the fd stays the caller's then.
   */
  static adopt(fd: Fd): EventFd {
    const target = fd.sys.target(fd.number);
    if (target !== EVENTFD_TARGET) throw sysErrors.NOT_EVENTFD({ label: fd.label, target });
    fd.sys.setNonBlocking(fd.number, true);
    return new EventFd(fd);
  }

  /** Adds to the counter. @returns false if it is full, which the reader cannot have missed. @throws SysError SYS_FD_CLOSED (EBADF). */
  signal(value = 1n): boolean {
    return this.fd.sys.signal(this.fd.number, value);
  }

  /** Takes the counter; 0n if nobody signalled. @throws SysError SYS_FD_CLOSED (EBADF). */
  drain(): bigint {
    return this.fd.sys.drain(this.fd.number);
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
