import { SysError } from '@pinion/sys';

/**
 * Closes what nobody needs any more, all of it. A descriptor whose close reports a failure is closed all the same, and what
 * it was part of has succeeded or failed already: there is nobody to tell.
 */
export function discard(closables: readonly { close(): void }[]): void {
  for (const closable of closables) {
    try {
      closable.close();
    } catch (failure) {
      if (!(failure instanceof SysError)) throw failure;
    }
  }
}
