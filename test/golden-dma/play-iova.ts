import { IovaReplay, type RecordedOp } from './iova-replay.js';
import { compare, type Difference, type Scenario } from './recording.js';

const NOTHING: ReadonlySet<string> = new Set();

/** Plays one scenario of the allocator alone. */
export function playIova(scenario: Scenario): readonly Difference[] {
  const replay = new IovaReplay();
  const differences: Difference[] = [];
  for (const [index, op] of scenario.ops.entries()) {
    const [ours, recorded] = replay.step({ ...op, r: op.r ?? {} } as RecordedOp); // why: arguments of the shape that the format description fixes
    differences.push(...compare({ index, operation: op.op }, recorded, { answer: ours, except: NOTHING }));
  }
  return differences;
}
