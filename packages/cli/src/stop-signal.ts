import type { StopSignal, Surroundings } from './surroundings.js';

/** Whether somebody wants an end. */
export interface StopWish {
  readonly heard: Promise<StopSignal>;
  /** What was heard; undefined: nothing yet. */
  readonly reason: StopSignal | undefined;
  ignore(): void;
}

/** Waits for SIGINT or SIGTERM. A second signal while everything ends is not heard here: `main` ends the process then. */
export function stopSignal(around: Surroundings): StopWish {
  let ignore = (): void => {};
  let reason: StopSignal | undefined;
  const heard = new Promise<StopSignal>((resolve) => {
    ignore = around.onStopSignal((signal) => {
      reason ??= signal;
      resolve(signal);
    });
  });
  return {
    heard,
    get reason() {
      return reason;
    },
    ignore: () => ignore(),
  };
}
