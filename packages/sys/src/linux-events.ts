import { constants } from 'node:os';
import { checkFd, checkWhole, sysErrors } from './errors.js';
import { fdText, type Kernel } from './kernel.js';
import type { Ledger } from './ledger.js';
import type { Interest, Sys, Watch } from './sys.js';

/** Source: linux/eventfd.h, linux/eventpoll.h (the same on x64 and arm64). */
const EFD = { SEMAPHORE: 0x1, NONBLOCK: 0x800, CLOEXEC: 0x8_0000 } as const;
const EPOLL = { CLOEXEC: 0x8_0000, CTL_ADD: 1, IN: 0x1, eventSize: 16 } as const;
const COUNTER_SIZE = 8;
const MAX_SIGNAL = 0xffff_ffff_ffff_fffen;
const MAX_INITIAL = 0xffff_ffff;
const MAX_TIMEOUT = 0x7fff_ffff;
/** An ioctl request code holds the size of its argument in bits 16..29. Source: asm-generic/ioctl.h. */
const IOCTL = { sizeShift: 16, sizeMask: 0x3fff, max: 0xffff_ffff } as const;
const KCMP_FILE = 0;

type EventCalls = Pick<Sys, 'eventfd' | 'signal' | 'drain' | 'poll' | 'yieldCpu' | 'watch' | 'ioctl' | 'compareFiles'>;

export function checkSignal(value: bigint): void {
  if (typeof value !== 'bigint' || value < 1n || value > MAX_SIGNAL) {
    throw sysErrors.BAD_ARGUMENT({ operation: 'signal', what: 'the value', value, wanted: 'from 1 to 2^64-2' });
  }
}

export const checkInitial = (value: number): void =>
  checkWhole('eventfd', 'the initial value', value, [0, MAX_INITIAL]);

export const checkTimeout = (timeout: number): void =>
  checkWhole('poll', 'the timeout in milliseconds', timeout, [-1, MAX_TIMEOUT]);

export function checkInterest(interest: Interest): void {
  if (interest.readable === true || interest.writable === true) return;
  const wanted = 'readable, writable or both';
  throw sysErrors.BAD_ARGUMENT({ operation: 'watch', what: 'the interest', value: 'nothing', wanted });
}

/** @throws SysError SYS_BAD_ARGUMENT (EINVAL) for a request code that is none, or says more bytes than there are. */
export function checkIoctl(request: number, argument: Uint8Array | bigint): void {
  checkWhole('ioctl', 'the request', request, [0, IOCTL.max]);
  const size = (request >>> IOCTL.sizeShift) & IOCTL.sizeMask;
  if (typeof argument !== 'bigint' && argument.length < size) {
    const what = `the buffer of request 0x${request.toString(16)}`;
    throw sysErrors.BAD_ARGUMENT({
      operation: 'ioctl',
      what,
      value: argument.length,
      wanted: `${size} bytes or more`,
    });
  }
}

/** The calls of `Sys` for waiting and telling, and the odd ones. */
export function eventCalls(kernel: Kernel, ledger: Ledger): EventCalls {
  const counter = new BigUint64Array(1);
  const counterBytes = new Uint8Array(counter.buffer);
  /** Also keeps the watches: koffi's handle stops silently when it is collected. */
  const watched = new Map<number, Watch>();
  let kcmpDenied = false;

  /** Refuses what libuv would refuse: koffi 3.3 ends the process when it does. */
  function checkPollable(fd: number): void {
    if (watched.has(fd)) throw sysErrors.NOT_POLLABLE({ fd, problem: 'it is watched already' });
    const epoll = kernel.check(kernel.calls.epoll_create1(EPOLL.CLOEXEC), 'epoll_create1', '');
    const event = new Uint8Array(EPOLL.eventSize);
    event[0] = EPOLL.IN;
    const result = kernel.calls.epoll_ctl(epoll, EPOLL.CTL_ADD, fd, event);
    const errno = result === -1 ? kernel.errno : 0;
    kernel.calls.close(epoll);
    if (errno === constants.errno.EPERM) throw sysErrors.NOT_POLLABLE({ fd, problem: 'a file is always ready' });
    if (errno !== 0) throw sysErrors.CALL_FAILED({ call: 'epoll_ctl', what: fdText(fd), errno });
  }

  return {
    eventfd(initial, semaphore) {
      checkInitial(initial);
      const flags = EFD.CLOEXEC | EFD.NONBLOCK | (semaphore ? EFD.SEMAPHORE : 0);
      return kernel.check(kernel.calls.eventfd(initial, flags), 'eventfd', String(initial));
    },
    signal(fd, value) {
      checkFd('signal', fd);
      checkSignal(value);
      counter[0] = value;
      for (;;) {
        if (kernel.calls.write(fd, counterBytes, COUNTER_SIZE) === COUNTER_SIZE) return true;
        if (kernel.wouldBlock) return false;
        if (!kernel.interrupted) throw kernel.failure('write', `eventfd ${fdText(fd)}`);
      }
    },
    drain(fd) {
      checkFd('drain', fd);
      for (;;) {
        if (kernel.calls.read(fd, counterBytes, COUNTER_SIZE) === COUNTER_SIZE) return counter[0] ?? 0n;
        if (kernel.wouldBlock) return 0n;
        if (!kernel.interrupted) throw kernel.failure('read', `eventfd ${fdText(fd)}`);
      }
    },
    poll(set, timeout) {
      checkTimeout(timeout);
      const ready = kernel.calls.poll(set.bytes, set.size, timeout);
      if (ready !== -1) return ready;
      if (!kernel.interrupted) throw kernel.failure('poll', `${set.size} fds`);
      for (let i = 0; i < set.size; i++) set.setReady(i, 0);
      return 0;
    },
    yieldCpu() {
      kernel.calls.sched_yield();
    },
    watch(fd, interest, callback) {
      checkFd('watch', fd);
      checkInterest(interest);
      checkPollable(fd);
      const onStop = (): void => {
        watched.delete(fd);
        entry.settle();
      };
      const watch = new LoopWatch(kernel, { fd, interest, callback, onStop });
      const entry = ledger.open('watch', `watch of fd ${fd}`, watch);
      watched.set(fd, watch);
      return watch;
    },
    ioctl(fd, request, argument) {
      checkFd('ioctl', fd);
      checkIoctl(request, argument);
      for (;;) {
        const result = kernel.calls.ioctl(fd, request, argument);
        if (result !== -1) return result;
        if (!kernel.interrupted) throw kernel.failure('ioctl', `${fdText(fd)}, 0x${request.toString(16)}`);
      }
    },
    compareFiles(a, b) {
      checkFd('compareFiles', a);
      checkFd('compareFiles', b);
      if (kcmpDenied) return undefined;
      const result = kernel.native.kcmp(process.pid, process.pid, KCMP_FILE, a, b);
      if (result !== -1) return result === 0;
      const { EPERM, ENOSYS, EACCES } = constants.errno;
      kcmpDenied = [EPERM, ENOSYS, EACCES].includes(kernel.errno);
      if (!kcmpDenied) throw kernel.failure('kcmp', `${fdText(a)}, ${fdText(b)}`);
      return undefined;
    },
  };
}

interface WatchRequest {
  readonly fd: number;
  readonly interest: Interest;
  readonly callback: () => void;
  readonly onStop: () => void;
}

/** Readiness by libuv's poll handle, made safe: koffi's handle crashes when it is used after its close. */
class LoopWatch implements Watch {
  readonly #request: WatchRequest;
  #handle: { close(): void; unref(): void } | undefined;
  #due = false;

  constructor(kernel: Kernel, request: WatchRequest) {
    this.#request = request;
    const { readable = false, writable = false } = request.interest;
    this.#handle = kernel.native.koffi.node.poll(request.fd, { readable, writable }, () => this.#wake());
  }

  stop(): void {
    if (this.#handle === undefined) return;
    this.#handle.close();
    this.#handle = undefined;
    this.#request.onStop();
  }

  unref(): void {
    this.#handle?.unref();
  }

  /** why an immediate: koffi calls back outside any callback scope, where exceptions vanish and promises wait for the next event. */
  #wake(): void {
    if (this.#due) return;
    this.#due = true;
    setImmediate(() => {
      this.#due = false;
      if (this.#handle !== undefined) this.#request.callback();
    });
  }
}
