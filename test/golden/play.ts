import { PinionError } from '@pinion/core';
import { compareAnswer, compareEnd } from './compare.js';
import { perform } from './operations.js';
import { ProcessStack } from './process.js';
import type { Answer, CallbackRecord, Operation, Scenario } from './scenario.js';
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
  const player = new Player(scenario, await World.create(scenario, options));
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
    let index = 0;
    for (const op of this.#scenario.ops) {
      if (await this.#stops(op, index)) return this.#stopped(index);
      index += 1;
    }
    await this.#processes.exitAll();
    this.#compareEnd({ end: 'ok', cb: this.#world.takeCallbacks() });
    return this.#differences;
  }

  /** @returns whether a kernel would stop here. */
  async #stops(op: Operation, index: number): Promise<boolean> {
    try {
      const answer = await this.#perform(op);
      if (answer !== null) this.#compare(op, index, answer);
      return false;
    } catch (failure) {
      if (failure instanceof PinionError && failure.name === 'TYPE1_PIN_LEAK') {
        if (op.r !== null) this.#note(index, op.op, { field: 'end', expected: 'an answer', got: failure.toString() });
        return true;
      }
      const got = failure instanceof Error ? (failure.stack ?? failure.message) : String(failure);
      this.#note(index, op.op, { field: 'exception', expected: op.r, got });
      return false;
    }
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
      const lck = this.#processes.current.task.memory.lockedPages;
      await this.#processes.current.task.exit();
      return { ret: 0, lck };
    }
    const answer =
      op.op === 'fork_end'
        ? await this.#join()
        : await perform({ world: this.#world, process: this.#processes.current }, op);
    const cb = this.#world.takeCallbacks();
    const lck = this.#processes.current.task.mm?.lockedPages ?? 0;
    return { ...answer, lck, ...(cb.length > 0 ? { cb } : {}) };
  }

  #stopped(index: number): readonly Difference[] {
    const later = this.#scenario.ops.slice(index + 1).find((op) => op.r !== null);
    if (later !== undefined)
      this.#note(index, later.op, { field: 'end', expected: 'more answers', got: 'the kernel stopped' });
    this.#compareEnd({ end: 'bug', cb: this.#world.takeCallbacks() });
    return this.#differences;
  }

  #compare(op: Operation, index: number, answer: Answer): void {
    if (op.r === null) {
      this.#note(index, op.op, { field: 'end', expected: 'no answer: the kernel stopped', got: answer });
      return;
    }
    for (const difference of compareAnswer(op, answer)) this.#note(index, op.op, difference);
  }

  #compareEnd(got: { end: string; cb: readonly CallbackRecord[] }): void {
    const end = { ...got, pin_leak: this.#world.os.host.pinnedPages };
    for (const difference of compareEnd(this.#scenario.end, end))
      this.#note(this.#scenario.ops.length, 'end', difference);
  }

  #note(index: number, operation: string, what: { field: string; expected: unknown; got: unknown }): void {
    this.#differences.push({ index, operation, ...what });
  }
}
