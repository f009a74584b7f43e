import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One operation: its arguments and what the kernel answered; null where it stopped. Integers beyond 2^53 stand as text. */
export interface Operation {
  readonly op: string;
  readonly r: Readonly<Record<string, unknown>> | null;
  readonly [argument: string]: unknown;
}

/** The world of a scenario: which IOMMU, which mode, how much memory. */
export interface Environment {
  readonly iommu: string;
  readonly mode: string;
  readonly mem: string;
}

export interface Scenario {
  readonly name: string;
  readonly env: Environment;
  readonly ops: readonly Operation[];
  readonly end?: unknown;
}

export interface Recording {
  readonly file: string;
  readonly scenarios: readonly Scenario[];
}

/** An answer that is not the recorded one. */
export interface Difference {
  readonly index: number;
  readonly operation: string;
  readonly field: string;
  readonly expected: unknown;
  readonly got: unknown;
}

const isScenario = (value: unknown): value is Scenario =>
  typeof value === 'object' && value !== null && 'name' in value && 'ops' in value && Array.isArray(value.ops);

/** Reads the files of a folder whose names begin with `prefix`. @throws Error naming file and line of what is no scenario. */
export function readRecordings(folder: string, prefix: string): readonly Recording[] {
  const names = readdirSync(folder).filter((name) => name.startsWith(prefix) && name.endsWith('.jsonl'));
  return names.sort().map((name) => {
    const file = join(folder, name);
    const lines = readFileSync(file, 'utf8').split('\n');
    return {
      file: name,
      scenarios: lines.flatMap((line, index) => (line.trim() === '' ? [] : [parse(line, `${file}:${index + 1}`)])),
    };
  });
}

function parse(line: string, where: string): Scenario {
  const value: unknown = JSON.parse(line.replace(/:(\d{16,})/g, ':"$1"'));
  if (!isScenario(value)) throw new Error(`${where} is no scenario (it has no name or ops)`);
  return value;
}

/** JSON with sorted keys, so that the order of fields does not matter. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'absent';
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, field]) => `${key}:${canonical(field)}`).join()}}`;
}

/** Fields whose value is not the recorded one. Only what was recorded is asked for; `except` names what is not compared. */
export function compare(
  at: { readonly index: number; readonly operation: string },
  expected: Readonly<Record<string, unknown>>,
  got: { readonly answer: Readonly<Record<string, unknown>>; readonly except: ReadonlySet<string> },
): readonly Difference[] {
  return Object.keys(expected)
    .filter((field) => !got.except.has(field) && canonical(expected[field]) !== canonical(got.answer[field]))
    .map((field) => ({ ...at, field, expected: expected[field], got: got.answer[field] }));
}
