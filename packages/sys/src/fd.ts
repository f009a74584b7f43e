import { checkFd, sysErrors } from './errors.js';
import type { LedgerEntry } from './ledger.js';
import type { FileFacts, Sys } from './sys.js';

/**
 * One owned file descriptor: closed exactly once, by `close` or by whom it was given to. Forgetting one is a defect that
 * the ledger's reporter names; the fd stays open then.
 */
export class Fd {
  readonly sys: Sys;
  /** What it is, for messages. */
  readonly label: string;
  readonly #entry: LedgerEntry;
  #number: number | undefined;

  /** Takes ownership of an fd number. @throws SysError SYS_BAD_ARGUMENT (EINVAL). */
  constructor(sys: Sys, number: number, label: string) {
    checkFd('own', number);
    this.sys = sys;
    this.label = label;
    this.#number = number;
    this.#entry = sys.ledger.open('fd', label, this);
  }

  get open(): boolean {
    return this.#number !== undefined;
  }

  /** The number, for one call; do not keep it. @throws SysError SYS_FD_CLOSED (EBADF). */
  get number(): number {
    if (this.#number === undefined) throw sysErrors.FD_CLOSED({ label: this.label });
    return this.#number;
  }

  /** A second, independent owner of the same open file. @throws SysError SYS_FD_CLOSED (EBADF), SYS_CALL_FAILED (EMFILE). */
  duplicate(label: string = this.label): Fd {
    return new Fd(this.sys, this.sys.duplicate(this.number), label);
  }

  /** @throws SysError SYS_FD_CLOSED (EBADF). */
  stat(): FileFacts {
    return this.sys.stat(this.number);
  }

  /** Gives the number away: from now on somebody else closes it. @throws SysError SYS_FD_CLOSED (EBADF). */
  release(): number {
    const number = this.number;
    this.#forget();
    return number;
  }

  /** Closes it; a second call does nothing. It is closed even when this throws SYS_CALL_FAILED (EIO and the like). */
  close(): void {
    if (this.#number === undefined) return;
    const number = this.#number;
    this.#forget();
    this.sys.close(number);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #forget(): void {
    this.#number = undefined;
    this.#entry.settle();
  }
}

/** Closes all of them, whatever happens. @throws the first failure, after all were closed. */
export function closeAll(fds: readonly Fd[]): void {
  let failed: { readonly failure: unknown } | undefined;
  for (const fd of fds) {
    try {
      fd.close();
    } catch (failure) {
      failed ??= { failure };
    }
  }
  if (failed !== undefined) throw failed.failure;
}
