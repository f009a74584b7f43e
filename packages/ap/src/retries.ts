import type { Clock } from '@pinion/core';
import { RESPONSE } from './pqap.js';

/** Milliseconds between two looks at a queue that is busy. Source: AP_RESET_INTERVAL, vfio_ap_irq_disable(). */
export const RETRY_INTERVAL = 20;
/** How often AQIC is tried, and then how often it is looked whether signals are off. */
export const DISABLE_TRIES = 5;
/** Looks until a reset is given up: one second. Linux never gives up (quirk `endless-reset`). */
export const RESET_LOOKS = 50;

/** Settles when the interval has passed. */
export const pause = (clock: Clock): Promise<void> =>
  new Promise((resolve) => {
    clock.after(RETRY_INTERVAL, resolve);
  });

/** Whether a code says: ask again later. */
export const isBusy = (code: number): boolean => code === RESPONSE.RESET_IN_PROGRESS || code === RESPONSE.BUSY;
