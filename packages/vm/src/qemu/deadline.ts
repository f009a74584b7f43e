import type { Clock } from '@pinion/core';
import { vmErrors } from '../errors.js';

/** How long something of a QEMU may take. */
export interface Deadline {
  readonly clock: Clock;
  /** Milliseconds. */
  readonly limit: number;
  /** What is waited for, for the message: `the boot of guest vm`. */
  readonly what: string;
  /** What was seen last, asked for when the time is over. */
  readonly last?: () => string;
}

/** Settles as `promise` does, or when the time is over. @throws VM_QEMU_TIMEOUT (ETIMEDOUT); what was asked for may still happen. */
export async function within<T>(promise: Promise<T>, { clock, limit, what, last }: Deadline): Promise<T> {
  let cancel = (): void => {};
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(limit, () => reject(vmErrors.QEMU_TIMEOUT({ what, limit, last: last?.() ?? '' })));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
  }
}

/** The last `count` lines of a text that say something. */
export const lastLines = (text: string, count: number): string =>
  text
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '')
    .slice(-count)
    .join('\n');
