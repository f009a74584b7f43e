import type { Answer } from '../golden/scenario.js';
import { type Event, eventsOf } from './replayed-subchannel.js';

/** A field whose value is not the recorded one. */
export interface FieldDifference {
  readonly field: string;
  readonly expected: unknown;
  readonly got: unknown;
}

/** Optional in a recording. */
const NOT_COMPARED: ReadonlySet<string> = new Set(['klog', 'ev']);

/** Whether two byte strings are the same where the first has no `x`. */
export const agrees = (expected: string, got: string): boolean =>
  expected.length === got.length && [...expected].every((digit, at) => digit === 'x' || digit === got[at]);

const same = (expected: unknown, got: unknown): boolean =>
  typeof expected === 'string' && typeof got === 'string'
    ? agrees(expected, got)
    : JSON.stringify(expected) === JSON.stringify(got);

/** How often the host looks at a subchannel is not the driver's. */
const isDriver = ([name]: Event): boolean => name !== 'stsch';

/** Compares one answer with the recorded one, field by field, and what the driver did, event by event. */
export function compareAnswer(expected: Answer, got: Answer): readonly FieldDifference[] {
  const fields = new Set([...Object.keys(expected), ...Object.keys(got)]);
  const differences = [...fields]
    .filter((field) => !NOT_COMPARED.has(field) && !same(expected[field], got[field]))
    .map((field) => ({ field, expected: expected[field], got: got[field] }));
  const [want, have] = [expected['ev'], got['ev']].map((ev) => eventsOf(ev).filter(isDriver));
  if (JSON.stringify(want) === JSON.stringify(have)) return differences;
  return [...differences, { field: 'ev', expected: want, got: have }];
}
