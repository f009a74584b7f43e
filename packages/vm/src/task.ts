import type { Task } from '@pinion/core';
import type { GuestMemory } from './guest-memory.js';

/** Limits and capabilities of the process that runs a VM. */
export interface TaskOptions {
  /** RLIMIT_MEMLOCK in pages; default: unlimited. */
  readonly lockLimit?: number;
  /** CAP_IPC_LOCK; default: no. */
  readonly ipcLock?: boolean;
  /** CAP_SYS_RAWIO; default: no. */
  readonly rawIo?: boolean;
}

/** The VMM's process. Its memory goes before its files: `exit` leaves `mm` null while devices are still open. */
export class VmTask implements Task {
  readonly name: string;
  readonly lockLimit: number;
  readonly ipcLock: boolean;
  readonly rawIo: boolean;
  readonly #memory: GuestMemory;
  #exited = false;

  constructor(name: string, memory: GuestMemory, options: TaskOptions = {}) {
    this.name = name;
    this.#memory = memory;
    this.lockLimit = options.lockLimit ?? Number.POSITIVE_INFINITY;
    this.ipcLock = options.ipcLock ?? false;
    this.rawIo = options.rawIo ?? false;
  }

  get mm(): GuestMemory | null {
    return this.#exited ? null : this.#memory;
  }

  /** Source: do_exit() runs exit_mm() before exit_files(), threads/2016-10. */
  exit(): void {
    this.#exited = true;
    this.#memory.exit();
  }
}
