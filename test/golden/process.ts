import type { Container, GroupFile } from '@pinion/core';
import type { SimulatedFile, SimulatedTask } from '@pinion/testkit';

/** A process with its open files by name. `D`: an open device file; `B`: a buffer. */
export interface ProcessOf<D, B> {
  readonly task: SimulatedTask;
  readonly containers: Map<string, { file: SimulatedFile; container: Container }>;
  readonly groups: Map<string, { file: SimulatedFile; group: GroupFile }>;
  /** Newest last. */
  readonly devices: Map<string, D[]>;
  readonly buffers: Map<string, B>;
}

/** A process that has opened nothing. */
export const newProcess = <D, B>(task: SimulatedTask): ProcessOf<D, B> => ({
  task,
  containers: new Map(),
  groups: new Map(),
  devices: new Map(),
  buffers: new Map(),
});

/** The processes of a scenario: the one that acts is the innermost fork. */
export class ProcessStack<D, B> {
  readonly #processes: ProcessOf<D, B>[];

  constructor(first: ProcessOf<D, B>) {
    this.#processes = [first];
  }

  /** @throws Error when all have exited. */
  get current(): ProcessOf<D, B> {
    const process = this.#processes.at(-1);
    if (process === undefined) throw new Error('no process is left');
    return process;
  }

  /** From now on a child acts, with the same files and copies of the tables. */
  fork(): void {
    const parent = this.current;
    this.#processes.push({
      task: parent.task.fork(),
      containers: new Map(parent.containers),
      groups: new Map(parent.groups),
      devices: new Map([...parent.devices].map(([name, files]) => [name, [...files]])),
      buffers: new Map(parent.buffers),
    });
  }

  /** The acting process ends, unless it did so itself; its parent acts again. */
  async exit(): Promise<void> {
    const process = this.#processes.pop();
    if (process !== undefined && process.task.mm !== null) await process.task.exit();
  }

  async exitAll(): Promise<void> {
    while (this.#processes.length > 0) await this.exit();
  }
}
