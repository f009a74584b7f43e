import { constants } from 'node:os';
import { type SysError, sysErrors } from './errors.js';
import { type Host, loadNative, type Native, type NativeCalls } from './native.js';

const { EAGAIN, EINTR } = constants.errno;

/** The native side of one `LinuxSys`: loaded at the first call, with errno beside it. */
export class Kernel {
  readonly #host: Host;
  #native: Native | undefined;

  constructor(host: Host) {
    this.#host = host;
  }

  /** @throws SysError SYS_UNSUPPORTED (EOPNOTSUPP). */
  get native(): Native {
    this.#native ??= loadNative(this.#host);
    return this.#native;
  }

  get calls(): NativeCalls {
    return this.native.calls;
  }

  /** errno of the last call of this thread. */
  get errno(): number {
    return this.native.koffi.errno();
  }

  /** Whether the last call, which failed, is to be made again. */
  get interrupted(): boolean {
    return this.errno === EINTR;
  }

  /** Whether the last call, which failed, only would have had to wait. */
  get wouldBlock(): boolean {
    return this.errno === EAGAIN;
  }

  /** The error of the last call. */
  failure(call: string, what: string): SysError {
    return sysErrors.CALL_FAILED({ call, what, errno: this.errno });
  }

  /** `result`, if it is not -1. For cold paths: `what` is made in any case. */
  check(result: number, call: string, what: string): number {
    if (result === -1) throw this.failure(call, what);
    return result;
  }
}

/** An fd for messages. */
export const fdText = (fd: number): string => `fd ${fd}`;
