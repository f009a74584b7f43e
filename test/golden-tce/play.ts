import { compareAnswer, compareEnd } from '../golden/compare.js';
import { ProcessStack } from '../golden/process.js';
import type { Answer, Operation, Scenario } from '../golden/scenario.js';
import { perform } from './operations.js';
import { type Buffer, type OpenDevice, World, type WorldOptions } from './world.js';

/** One answer that is not the recorded one. */
export interface Difference {
  /** Index of the operation, or the number of operations for the end. */
  readonly index: number;
  readonly operation: string;
  readonly field: string;
  readonly expected: unknown;
  readonly got: unknown;
}

/** Plays one scenario and compares every answer. */
export async function play(scenario: Scenario, options: WorldOptions): Promise<readonly Difference[]> {
  const player = new Player(scenario, await World.create(options));
  return player.run();
}

class Player {
  readonly #scenario: Scenario;
  readonly #world: World;
  readonly #differences: Difference[] = [];
  readonly #processes: ProcessStack<OpenDevice, Buffer>;

  constructor(scenario: Scenario, world: World) {
    this.#scenario = scenario;
    this.#world = world;
    this.#processes = new ProcessStack(world.spawn());
  }

  async run(): Promise<readonly Difference[]> {
    for (const [index, op] of this.#scenario.ops.entries()) {
      await this.#step(op, index);
      if (this.#kernelStopped(op)) return this.#differences;
    }
    await this.#processes.exitAll();
    if (this.#survived) this.#compareEnd();
    return this.#differences;
  }

  /** Whether the recorded kernel did not stop: nothing after its end can be compared. */
  get #survived(): boolean {
    return this.#scenario.end.end === 'ok';
  }

  #kernelStopped(op: Operation): boolean {
    return op.r === null && op.op !== 'fork_begin';
  }

  async #step(op: Operation, index: number): Promise<void> {
    try {
      const answer = await this.#perform(op);
      if (answer !== null) this.#compare(op, index, answer);
    } catch (failure) {
      const got = failure instanceof Error ? (failure.stack ?? failure.message) : String(failure);
      this.#note(index, op.op, { field: 'exception', expected: op.r, got });
    }
  }

  /** Where a kernel stopped, a clear error is the right answer. */
  #compare(op: Operation, index: number, answer: Answer): void {
    if (op.r === null) {
      if (answer['ret'] !== -1) this.#note(index, op.op, { field: 'ret', expected: 'a refusal', got: answer['ret'] });
      return;
    }
    for (const difference of compareAnswer(op, answer)) this.#note(index, op.op, difference);
  }

  async #join(): Promise<Answer> {
    await this.#processes.exit();
    return { ret: 0, child: 'exit:0' };
  }

  async #perform(op: Operation): Promise<Answer | null> {
    if (op.op === 'fork_begin') {
      this.#processes.fork();
      return null;
    }
    if (op.op === 'exit') {
      const state = this.#state();
      await this.#processes.current.task.exit();
      return { ret: 0, ...state };
    }
    const answer =
      op.op === 'fork_end'
        ? await this.#join()
        : await perform({ world: this.#world, process: this.#processes.current }, op);
    return { ...answer, ...this.#state() };
  }

  /** VmLck of the process, and what is pinned in the machine. */
  #state(): Answer {
    return { lck: this.#processes.current.task.mm?.lockedPages ?? 0, pin: this.#world.os.host.pinnedPages };
  }

  #compareEnd(): void {
    const end = { end: 'ok', pin_leak: this.#world.os.host.pinnedPages, cb: [] };
    for (const difference of compareEnd(this.#scenario.end, end)) {
      this.#note(this.#scenario.ops.length, 'end', difference);
    }
  }

  #note(index: number, operation: string, what: { field: string; expected: unknown; got: unknown }): void {
    this.#differences.push({ index, operation, ...what });
  }
}
