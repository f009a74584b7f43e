import type { Clock } from './clock.js';

/** Node's monotonic clock. Its timers keep no process alive. The only place in core that knows real time. */
export const systemClock: Clock = Object.freeze({
  now: () => performance.now(),
  after(delay: number, action: () => void) {
    const timer = setTimeout(action, delay);
    timer.unref();
    return () => clearTimeout(timer);
  },
});
