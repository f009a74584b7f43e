import { PAGE_SIZE, type Task, Teardown } from '@pinion/core';
import { simErrors } from '../errors.js';
import { type Release, SimulatedFile } from './file.js';
import type { SimulatedHost } from './host.js';
import { SimulatedMm } from './mm.js';
import type { LockLimits, MmOptions } from './mm-requests.js';

/** RLIMIT_MEMLOCK of a fresh Linux process, bytes. */
export const DEFAULT_LOCK_BYTES = 8 * 1024 * 1024;

/** What tasks live in: told of every task and address space, so that leaks can be counted. */
export interface TaskWorld {
  readonly host: SimulatedHost;
  readonly mmOptions: MmOptions;
  taskStarted(task: SimulatedTask): void;
  taskExited(task: SimulatedTask): void;
  mmCreated(mm: SimulatedMm): void;
}

export interface TaskRequest {
  readonly name: string;
  /** RLIMIT_MEMLOCK, bytes; Infinity is unlimited. Default 8 MiB. */
  readonly lockBytes?: number;
  /** CAP_IPC_LOCK. Default true: root. */
  readonly ipcLock?: boolean;
  /** CAP_SYS_RAWIO. Default true: root. */
  readonly rawIo?: boolean;
}

/**
 * A simulated process. Limits and capabilities may be changed at any time and count from the next use.
 * Every call but the getters throws SIM_TASK_DEAD (ESRCH) once the task has exited.
 */
export class SimulatedTask implements Task, LockLimits {
  readonly name: string;
  ipcLock: boolean;
  rawIo: boolean;
  readonly #world: TaskWorld;
  #mm: SimulatedMm | null;
  #lockBytes = DEFAULT_LOCK_BYTES;
  #files: SimulatedFile[] = [];
  #children = 0;
  #programs = 1;

  /** Use `SimulatedOs.spawn` or `fork`. `mm`: the address space it starts with; a new one if absent. */
  constructor(world: TaskWorld, request: TaskRequest, mm = new SimulatedMm(world.host, request.name, world.mmOptions)) {
    this.#world = world;
    this.name = request.name;
    this.ipcLock = request.ipcLock ?? true;
    this.rawIo = request.rawIo ?? true;
    this.lockBytes = request.lockBytes ?? DEFAULT_LOCK_BYTES;
    this.#mm = mm;
    world.mmCreated(mm);
    world.taskStarted(this);
  }

  get mm(): SimulatedMm | null {
    return this.#mm;
  }

  /** The address space of a living task. @throws PinionError SIM_TASK_DEAD (ESRCH). */
  get memory(): SimulatedMm {
    return this.#living('memory');
  }

  /** RLIMIT_MEMLOCK, bytes; Infinity is unlimited. Setting it throws SIM_BAD_LIMIT (EINVAL) for a negative or broken number. */
  get lockBytes(): number {
    return this.#lockBytes;
  }

  set lockBytes(bytes: number) {
    if (bytes !== Number.POSITIVE_INFINITY && !(Number.isInteger(bytes) && bytes >= 0)) {
      throw simErrors.BAD_LIMIT({ task: this.name, bytes });
    }
    this.#lockBytes = bytes;
  }

  get lockLimit(): number {
    return Math.floor(this.#lockBytes / PAGE_SIZE);
  }

  /** Files it holds open, in the order of opening. */
  get files(): readonly SimulatedFile[] {
    return this.#files;
  }

  /** `SimulatedMm.mlock` under this task's limit and capability. */
  mlock(vaddr: bigint, size: bigint): void {
    this.#living('mlock').mlock(vaddr, size, this);
  }

  /** Opens a file; `release` runs when the last task that holds it has closed it. */
  open(name: string, release?: Release): SimulatedFile {
    this.#living('open');
    const file = new SimulatedFile(name, release);
    this.#files.push(file);
    return file;
  }

  /**
   * Closes this task's reference; the file is closed even if its release fails.
   * @throws PinionError SIM_BAD_FILE (EBADF); whatever the release throws.
   */
  async close(file: SimulatedFile): Promise<void> {
    this.#living('close');
    const index = this.#files.indexOf(file);
    if (index < 0) throw simErrors.BAD_FILE({ task: this.name, file: file.name });
    this.#files.splice(index, 1);
    await file.put();
  }

  /** A child with a copy of the memory, the same open files, limits and capabilities, and nothing locked. */
  fork(name = `${this.name}.${this.#children + 1}`): SimulatedTask {
    const memory = this.#living('fork').fork(name);
    this.#children++;
    const { lockBytes, ipcLock, rawIo } = this;
    const child = new SimulatedTask(this.#world, { name, lockBytes, ipcLock, rawIo }, memory);
    for (const file of this.#files) file.reference();
    child.#files = [...this.#files];
    return child;
  }

  /** Runs another program: a new address space, the same open files. The old address space has lost its last user. */
  exec(): void {
    const old = this.#living('exec');
    this.#programs++;
    this.#mm = new SimulatedMm(this.#world.host, `${this.name}#${this.#programs}`, this.#world.mmOptions);
    this.#world.mmCreated(this.#mm);
    old.exit();
  }

  /**
   * Ends the task. The memory goes first, at once; then the files are closed, newest first, each after the one before has
   * settled. Source: do_exit() calls exit_mm() before exit_files().
   * @throws whatever releases throw, after all files were closed; AggregateError if there was more than one.
   */
  async exit(): Promise<void> {
    const old = this.#living('exit');
    this.#mm = null;
    old.exit();
    this.#world.taskExited(this);
    const closing = new Teardown();
    for (const file of this.#files) closing.defer(() => file.put());
    this.#files = [];
    await closing.run();
  }

  #living(call: string): SimulatedMm {
    if (this.#mm === null) throw simErrors.TASK_DEAD({ task: this.name, call });
    return this.#mm;
  }
}
