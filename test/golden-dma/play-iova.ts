import { IovaReplay, type RecordedOp } from './iova-replay.js';
import { compare, type Difference, type Scenario } from './recording.js';

const NOTHING: ReadonlySet<string> = new Set();

/** Plays one scenario of the allocator alone. */
export function playIova(scenario: Scenario): readonly Difference[] {
  const replay = new IovaReplay();
  const differences: Difference[] = [];
  for (const [index, op] of scenario.ops.entries()) {
    const at = { index, operation: op.op };
    try {
      // why: arguments of the shape that the format description fixes
      const [ours, recorded] = replay.step({ ...op, r: op.r ?? {} } as RecordedOp);
      differences.push(...compare(at, recorded, { answer: ours, except: NOTHING }));
    } catch (failure) {
      differences.push({ ...at, field: 'failure', expected: op.r, got: String(failure) });
    }
  }
  return differences;
}
