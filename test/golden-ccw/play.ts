import { QUIESCE_WAIT } from '@pinion/ccw';
import type { Answer, Operation, Scenario } from '../golden/scenario.js';
import { compareAnswer } from './compare.js';
import { perform } from './operations.js';
import { World, type WorldOptions } from './world.js';

/** One answer that is not the recorded one. */
export interface Difference {
  /** Index of the operation, or the number of operations for the end. */
  readonly index: number;
  readonly operation: string;
  readonly field: string;
  readonly expected: unknown;
  readonly got: unknown;
}

/** More than any operation needs: the longest tries 258 times. */
const TURNS_MAX = 1000;

/** Plays one scenario in a new machine and compares every answer. */
export async function play(scenario: Scenario, options: WorldOptions): Promise<readonly Difference[]> {
  const world = await World.create(options);
  const differences: Difference[] = [];
  for (const [index, op] of scenario.ops.entries()) {
    const got = await answer(world, op, scenario.ops.slice(index + 1));
    for (const difference of compareAnswer(op.r ?? {}, got))
      differences.push({ index, operation: op.op, ...difference });
  }
  const end: Answer = { ...scenario.end };
  world.subchannel.begin({ op: 'end', r: end });
  await waited(world, world.task.exit());
  const got = { end: 'ok', pins: world.pins, ev: world.takeEvents() };
  for (const difference of compareAnswer(end, got))
    differences.push({ index: scenario.ops.length, operation: 'end', ...difference });
  return differences;
}

async function answer(world: World, op: Operation, next: readonly Operation[]): Promise<Answer> {
  const given = await waited(world, attempt(world, op, next));
  if (world.lost) world.remove();
  if (world.removal !== undefined) await new Promise((resolve) => setImmediate(resolve));
  const ev = world.takeEvents();
  const lck = world.task.mm?.lockedPages ?? 0;
  return { ...given, lck, pins: world.pins, ...(ev.length > 0 ? { ev } : {}) };
}

/** Time passes as long as somebody waits for it. */
async function waited<T>(world: World, work: Promise<T>): Promise<T> {
  let done = false;
  const marked = work.finally(() => {
    done = true;
  });
  for (let turn = 0; !done && turn < TURNS_MAX; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!done) world.clock.advance(QUIESCE_WAIT);
  }
  if (!done) throw new Error('an operation does not end');
  return marked;
}

/** A defect of the player or the driver is a difference, too. */
async function attempt(world: World, op: Operation, next: readonly Operation[]): Promise<Answer> {
  try {
    return await perform({ world, op, next });
  } catch (failure) {
    return { exception: failure instanceof Error ? (failure.stack ?? failure.message) : String(failure) };
  }
}
