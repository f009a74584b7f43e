import type { AddressSpace, Task } from '@pinion/core';
import { type1Errors } from './errors.js';
import type { Mapping } from './mapping.js';

/**
 * Whether `more` pages on top of what `mm` has locked stay within the task's RLIMIT_MEMLOCK. Reaching it exactly is allowed.
 * @throws PinionError TYPE1_MEMLOCK (ENOMEM).
 */
export function checkLimit(mm: AddressSpace, task: Task, more: number): void {
  if (mm.lockedPages + more <= task.lockLimit) return;
  throw type1Errors.MEMLOCK({ task: task.name, locked: mm.lockedPages, wanted: more, limit: task.lockLimit });
}

/** Keeps the sum of all mappings' charges beside the charges themselves. Source: vfio_lock_acct(). */
export class LockedPages {
  #total = 0;

  /** Pages this container has charged. */
  get total(): number {
    return this.#total;
  }

  /** Charges `pages` to the mapping's mm, within its task's limit unless it had CAP_IPC_LOCK. @throws TYPE1_MEMLOCK. */
  charge(mapping: Mapping, pages: number): void {
    if (pages === 0) return;
    if (!mapping.lockCap) checkLimit(mapping.mm, mapping.task, pages);
    this.#account(mapping, pages);
  }

  /** Settles a difference afterwards, without a limit; nothing happens when the memory is gone (ESRCH in the kernel, ignored). */
  settle(mapping: Mapping, pages: number): void {
    if (pages === 0) return;
    if (!mapping.mm.alive) {
      this.forget(mapping, -pages);
      return;
    }
    this.#account(mapping, pages);
  }

  /** A mapping's charge moves to another address space, within that one's limit. @throws TYPE1_MEMLOCK. */
  move(mapping: Mapping, to: { mm: AddressSpace; task: Task }): void {
    if (mapping.lockedPages === 0) return;
    if (!to.task.ipcLock) checkLimit(to.mm, to.task, mapping.lockedPages);
    to.mm.accountLocked(mapping.lockedPages);
    if (mapping.mm.alive) mapping.mm.accountLocked(-mapping.lockedPages);
  }

  /** A mapping goes; what is still charged for it stays charged to its mm, but is no longer this container's to count. */
  forget(mapping: Mapping, pages: number): void {
    this.#total -= pages;
    mapping.lockedPages -= pages;
  }

  #account(mapping: Mapping, pages: number): void {
    mapping.mm.accountLocked(pages);
    mapping.lockedPages += pages;
    this.#total += pages;
  }
}
