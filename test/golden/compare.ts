import type { Answer, CallbackRecord, Operation, ScenarioEnd } from './scenario.js';

/** A field whose value is not the recorded one. */
export interface FieldDifference {
  readonly field: string;
  readonly expected: unknown;
  readonly got: unknown;
}

/** About the recording itself (`fuzzy`), or optional (`klog`). */
const NOT_COMPARED: ReadonlySet<string> = new Set(['klog', 'fuzzy', 'cb', 'bits']);

const same = (a: unknown, b: unknown): boolean => canonical(a) === canonical(b);

/** JSON with sorted keys, so that the order of fields does not matter. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'absent';
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, field]) => `${key}:${canonical(field)}`).join()}}`;
}

/** Compares one answer with the recorded one, field by field. */
export function compareAnswer(op: Operation, got: Answer): readonly FieldDifference[] {
  const expected = op.r ?? {};
  const fields = new Set([...Object.keys(expected), ...Object.keys(got)]);
  const differences = [...fields]
    .filter((field) => !NOT_COMPARED.has(field) && !same(expected[field], got[field]))
    .map((field) => ({ field, expected: expected[field], got: got[field] }));
  return [...differences, ...compareBits(expected, got), ...compareCallbacks(expected['cb'], got['cb'])];
}

const isRun = (value: unknown): value is [number, number] =>
  Array.isArray(value) && typeof value[0] === 'number' && typeof value[1] === 'number';

const runsOf = (value: unknown): readonly [number, number][] => (Array.isArray(value) ? value.filter(isRun) : []);

/** Exact, but where the recording is marked fuzzy: there it may have more bits than the truth. */
function compareBits(expected: Answer, got: Answer): readonly FieldDifference[] {
  if (same(expected['bits'], got['bits'])) return [];
  const difference = { field: 'bits', expected: expected['bits'], got: got['bits'] };
  if (expected['fuzzy'] !== true) return [difference];
  const allowed = runsOf(expected['bits']);
  const covered = runsOf(got['bits']).every(([first, last]) =>
    allowed.some((run) => run[0] <= first && last <= run[1]),
  );
  return covered ? [] : [difference];
}

const isRecord = (value: unknown): value is CallbackRecord =>
  typeof value === 'object' && value !== null && 'dev' in value;
const recordsOf = (value: unknown): readonly CallbackRecord[] => (Array.isArray(value) ? value.filter(isRecord) : []);
const isClose = (record: CallbackRecord): boolean => record.ev === 'close';
const sorted = (records: readonly CallbackRecord[]): readonly string[] => records.map(canonical).sort();

/** Order counts, except among devices that are closed together. */
function compareCallbacks(expected: unknown, got: unknown): readonly FieldDifference[] {
  const [want, have] = [recordsOf(expected), recordsOf(got)];
  const inOrder = same(
    want.filter((r) => !isClose(r)),
    have.filter((r) => !isClose(r)),
  );
  if (inOrder && same(sorted(want.filter(isClose)), sorted(have.filter(isClose)))) return [];
  return [{ field: 'cb', expected: want, got: have }];
}

/**
 * Compares how it ended. After a kernel stopped, its process may or may not get as far as closing a device before it
 * hangs, so closes do not count then.
 */
export function compareEnd(expected: ScenarioEnd, got: ScenarioEnd): readonly FieldDifference[] {
  const differences: FieldDifference[] = [];
  if (expected.end !== got.end) differences.push({ field: 'end', expected: expected.end, got: got.end });
  if (expected.pin_leak !== undefined && expected.pin_leak !== got.pin_leak) {
    differences.push({ field: 'pin_leak', expected: expected.pin_leak, got: got.pin_leak });
  }
  const counts = (records: readonly CallbackRecord[]) =>
    expected.end === 'bug' ? records.filter((r) => !isClose(r)) : records;
  differences.push(...compareCallbacks(counts(expected.cb ?? []), counts(got.cb ?? [])));
  return differences;
}
