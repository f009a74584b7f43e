import { AsyncLocalStorage } from 'node:async_hooks';

interface Running {
  readonly command: number;
  /** Whose request it is: that of one session says nothing to another. */
  readonly scope: RequestScope;
  /** The request inside whose handling this one is handled. */
  readonly outer: Running | undefined;
  settled: boolean;
}

// why (one for all sessions): on Node below 24 every storage that was ever used is asked at every promise, for ever, so one
// per session would make each further client slow down the whole server.
const requests = new AsyncLocalStorage<Running>();

/**
 * Knows, also across awaits, whether code runs inside the handling of a request whose sender waits for the reply. Such a
 * sender (QEMU holds its big lock) serves no DMA messages meanwhile, so to await one there can only end by timeout.
 */
export class RequestScope {
  /** The command that waits for this code, undefined if none does. */
  get command(): number | undefined {
    let running = requests.getStore();
    while (running !== undefined && (running.settled || running.scope !== this)) running = running.outer;
    return running?.command;
  }

  /** Runs the handler of a request. */
  run<T>(command: number, handler: () => T | Promise<T>): T | Promise<T> {
    const running: Running = { command, scope: this, outer: requests.getStore(), settled: false };
    const settle = (): void => {
      running.settled = true;
    };
    let result: T | Promise<T>;
    try {
      result = requests.run(running, handler);
    } catch (cause) {
      settle();
      throw cause;
    }
    if (result instanceof Promise) return result.finally(settle);
    settle();
    return result;
  }
}
