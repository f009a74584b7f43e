import { type HostOptions, SimulatedHost } from './host.js';
import { type Fill, MemoryObject } from './memory-object.js';
import type { SimulatedMm } from './mm.js';
import type { MmOptions } from './mm-requests.js';
import { SimulatedTask, type TaskRequest, type TaskWorld } from './task.js';

export interface OsOptions extends HostOptions, MmOptions {}

/** What is still there. Everything is 0 once all tasks have exited and everybody has given back what was taken. */
export interface Leaks {
  readonly tasks: number;
  readonly openFiles: number;
  /** References to address spaces that were grabbed and not dropped. */
  readonly grabs: number;
  /** Locked pages of living tasks and of address spaces that somebody still grabs. */
  readonly lockedPages: number;
  /** References that pins hold on pages. */
  readonly pinnedPages: number;
  /** Pages of class `normal` that are mapped or pinned. */
  readonly livePages: number;
}

/** A simulated operating system: one host memory, and the processes that were started in it. */
export class SimulatedOs {
  readonly host: SimulatedHost;
  readonly #world: TaskWorld;
  readonly #tasks = new Set<SimulatedTask>();
  readonly #mms = new Set<SimulatedMm>();

  constructor(options: OsOptions = {}) {
    const host = new SimulatedHost(options);
    this.host = host;
    this.#world = {
      host,
      mmOptions: options,
      taskStarted: (task) => this.#tasks.add(task),
      taskExited: (task) => this.#tasks.delete(task),
      mmCreated: (mm) => this.#rememberMm(mm),
    };
  }

  /** Living tasks, in the order of their start. */
  get tasks(): readonly SimulatedTask[] {
    return [...this.#tasks];
  }

  /** Starts a process with an empty address space; by default root with all capabilities and RLIMIT_MEMLOCK of 8 MiB. */
  spawn(request: TaskRequest = { name: 'init' }): SimulatedTask {
    return new SimulatedTask(this.#world, request);
  }

  /** A memfd of `pages` pages to map with `mmap({object})`. The caller is a user of it until `unuse()`. */
  memfd(pages: number, fill?: Fill): MemoryObject {
    const object = new MemoryObject(this.host, { kind: 'shared', pages, fill });
    object.use();
    return object;
  }

  /** A BAR of `pages` pages to map with `mmap({object})`. Its frames stay as long as the host. */
  bar(pages: number, fill?: Fill): MemoryObject {
    return new MemoryObject(this.host, { kind: 'device', pages, fill });
  }

  /** Counts what is still there, for the end of a test. */
  leaks(): Leaks {
    this.#forgetMms();
    const sum = (counts: Iterable<number>): number => [...counts].reduce((total, count) => total + count, 0);
    const mms = [...this.#mms];
    return {
      tasks: this.#tasks.size,
      openFiles: sum(this.tasks.map((task) => task.files.length)),
      grabs: sum(mms.map((mm) => mm.grabs)),
      lockedPages: sum(mms.map((mm) => mm.lockedPages)),
      pinnedPages: this.host.pinnedPages,
      livePages: this.host.livePages,
    };
  }

  #rememberMm(mm: SimulatedMm): void {
    this.#forgetMms();
    this.#mms.add(mm);
  }

  #forgetMms(): void {
    for (const mm of this.#mms) if (!mm.alive && mm.grabs === 0) this.#mms.delete(mm);
  }
}
