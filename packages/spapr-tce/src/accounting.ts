import type { AddressSpace, Task } from '@pinion/core';
import { tceErrors } from './errors.js';

/** Who is charged, and under whose limits. */
export interface Payer {
  readonly mm: AddressSpace;
  readonly task: Task;
}

/**
 * Charges `pages` to an address space within the caller's RLIMIT_MEMLOCK; reaching it exactly is allowed, and
 * CAP_IPC_LOCK passes it. Nothing is checked for 0 pages. @throws TCE_MEMLOCK (ENOMEM). Source: account_locked_vm().
 */
export function charge({ mm, task }: Payer, pages: number, operation: string): void {
  if (pages === 0) return;
  if (!task.ipcLock && mm.lockedPages + pages > task.lockLimit) {
    const { lockedPages: locked } = mm;
    throw tceErrors.MEMLOCK({ operation, task: task.name, locked, wanted: pages, limit: task.lockLimit });
  }
  mm.accountLocked(pages);
}

/** Gives a charge back. The address space may have lost its last process: its counter lives as long as it is grabbed. */
export const credit = (mm: AddressSpace, pages: number): void => {
  if (pages > 0) mm.accountLocked(-pages);
};
