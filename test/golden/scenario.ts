import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** One recorded answer. Fields depend on the operation; `klog` and `fuzzy` are about the recording itself. */
export type Answer = Readonly<Record<string, unknown>>;

/** One operation: its arguments, and the answer a real kernel gave (null where there is none). */
export interface Operation {
  readonly op: string;
  readonly r: Answer | null;
  readonly [argument: string]: unknown;
}

/** What happened when the process ended. */
export interface ScenarioEnd {
  readonly end: string;
  readonly cb?: readonly CallbackRecord[];
  readonly pin_leak?: number;
}

/** What reached a driver: a `dmaUnmap` call, or its open or close. */
export interface CallbackRecord {
  readonly dev: string;
  readonly ev?: string;
  readonly iova?: string;
  readonly len?: string;
  readonly rel: number;
  readonly left: number;
}

export interface Scenario {
  readonly name: string;
  readonly tags: readonly string[];
  /** The machine; `iommu` is absent where no recording depends on it. */
  readonly env: { readonly iommu?: string };
  readonly ops: readonly Operation[];
  readonly end: ScenarioEnd;
}

/** Scenarios of one folder, with the folder's name, which is the kernel profile. */
export interface Recording {
  readonly folder: string;
  readonly file: string;
  readonly scenarios: readonly Scenario[];
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

const isScenario = (value: unknown): value is Scenario =>
  isObject(value) &&
  'name' in value &&
  typeof value.name === 'string' &&
  'env' in value &&
  isObject(value.env) &&
  'ops' in value &&
  Array.isArray(value.ops) &&
  value.ops.every((op) => isObject(op) && 'op' in op && 'r' in op) &&
  'end' in value &&
  isObject(value.end);

/** A folder or a file that holds no recordings. The message says which, and the line where there is one. */
export class NoRecording extends Error {}

/** Reads every `*.jsonl` of a folder. @throws NoRecording for a folder without them, and for a line that is no scenario. */
export function readFolder(folder: string): readonly Recording[] {
  const files = namesIn(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .sort();
  if (files.length === 0) throw new NoRecording(`${folder}: there is no *.jsonl in this folder`);
  return files.map((name) => {
    const file = join(folder, name);
    const lines = readFileSync(file, 'utf8').split('\n');
    const scenarios = lines.flatMap((line, index) => (line.trim() === '' ? [] : [parse(line, `${file}:${index + 1}`)]));
    return { folder: basename(folder), file, scenarios };
  });
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    throw new NoRecording(`${folder}: this folder cannot be read`, { cause });
  }
}

function parse(line: string, where: string): Scenario {
  const value = parseJson(line, where);
  if (!isScenario(value)) throw new NoRecording(`${where}: no scenario (it needs name, env, ops with op and r, end)`);
  return value;
}

function parseJson(line: string, where: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new NoRecording(`${where}: no JSON: ${String(cause)}`, { cause });
  }
}
