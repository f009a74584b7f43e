import { type DmaQuirk, SLOT_SIZE } from '@pinion/dma';
import { DmaPlayer } from './player.js';
import { compare, type Difference, type Operation, type Scenario } from './recording.js';

/** About the recording, or facts of the recorded machine that an implementation is given. */
const NOT_COMPARED: ReadonlySet<string> = new Set([
  'klog',
  'type',
  'need_sync',
  'untrusted',
  'windows',
  'resv',
  'pool0',
  'pool1',
  'pool2',
  'pool3',
  'pool_bits',
]);

/** What differs in one answer; a failure of ours is one difference, so that the other scenarios are still played. */
function differencesOf(player: DmaPlayer, op: Operation, index: number): readonly Difference[] {
  const at = { index, operation: op.op };
  try {
    return compare(at, op.r ?? {}, { answer: player.run(op), except: NOT_COMPARED });
  } catch (failure) {
    return [{ ...at, field: 'failure', expected: op.r, got: String(failure) }];
  }
}

/** Plays a scenario with the bounce buffer's search beginning at `slot`. */
function playFrom(
  scenario: Scenario,
  slot: number,
  without: readonly DmaQuirk[],
): { readonly differences: readonly Difference[]; readonly next: number } {
  const player = new DmaPlayer(scenario, slot, without);
  const differences: Difference[] = [];
  for (const [index, op] of scenario.ops.entries()) {
    differences.push(...differencesOf(player, op, index));
    if (differences.length > 0) break;
  }
  return { differences, next: player.nextSlot };
}

/** Slots of the recorded bounce pool, and of one segment of it. */
const SLOTS = 32768;
const SEGMENT = 128;

/** Starts that a recorded run which wraps at the end of the pool gives away. */
function* wrappingStarts(scenario: Scenario): Generator<number> {
  for (const { r } of scenario.ops) {
    const runs: unknown = r?.['runs'];
    if (!Array.isArray(runs) || runs.length < 2) continue;
    const [, step, count]: readonly [string, number, number] = runs[0];
    if (step > 0) yield SLOTS - (count * step) / SLOT_SIZE;
  }
}

function* starts(scenario: Scenario): Generator<number> {
  for (const slot of wrappingStarts(scenario)) if (slot >= 0 && slot < SLOTS) yield slot;
  for (let slot = 0; slot < SEGMENT; slot += 1) yield slot;
  for (let slot = SEGMENT; slot < SLOTS; slot += SEGMENT) yield slot;
}

/**
 * Plays one scenario. Where the bounce buffer's search began is not recorded (it is where the scenario before ended, which may
 * not be in the file), but it decides where pieces wrap: starts are tried until one explains all answers.
 */
export function play(
  scenario: Scenario,
  hint: number,
  without: readonly DmaQuirk[] = [],
): { readonly differences: readonly Difference[]; readonly next: number } {
  const first = playFrom(scenario, hint, without);
  if (first.differences.length === 0 || scenario.env.iommu !== 'none') return first;
  for (const slot of starts(scenario)) {
    const other = playFrom(scenario, slot, without);
    if (other.differences.length === 0) return other;
  }
  return first;
}
