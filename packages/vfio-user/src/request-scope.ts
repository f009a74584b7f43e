import { AsyncLocalStorage } from 'node:async_hooks';

interface Running {
  readonly command: number;
  settled: boolean;
}

/**
 * Knows, also across awaits, whether code runs inside the handling of a request whose sender waits for the reply. Such a
 * sender (QEMU holds its big lock) serves no DMA messages meanwhile, so to await one there can only end by timeout.
 */
export class RequestScope {
  readonly #running = new AsyncLocalStorage<Running>();

  /** The command that waits for this code, undefined if none does. */
  get command(): number | undefined {
    const running = this.#running.getStore();
    return running === undefined || running.settled ? undefined : running.command;
  }

  /** Runs the handler of a request. */
  run<T>(command: number, handler: () => T | Promise<T>): T | Promise<T> {
    const running: Running = { command, settled: false };
    const settle = (): void => {
      running.settled = true;
    };
    let result: T | Promise<T>;
    try {
      result = this.#running.run(running, handler);
    } catch (cause) {
      settle();
      throw cause;
    }
    if (result instanceof Promise) return result.finally(settle);
    settle();
    return result;
  }
}
