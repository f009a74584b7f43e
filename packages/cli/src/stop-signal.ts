import type { StopSignal, Surroundings } from './surroundings.js';

/** Waits for SIGINT or SIGTERM. A second signal while everything ends is not heard here: `main` ends the process then. */
export function stopSignal(around: Surroundings): { readonly heard: Promise<StopSignal>; ignore(): void } {
  let ignore = (): void => {};
  const heard = new Promise<StopSignal>((resolve) => {
    ignore = around.onStopSignal(resolve);
  });
  return { heard, ignore: () => ignore() };
}
