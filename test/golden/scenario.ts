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
  readonly env: { readonly iommu: string };
  readonly ops: readonly Operation[];
  readonly end: ScenarioEnd;
}

/** Scenarios of one folder, with the folder's name, which is the kernel profile. */
export interface Recording {
  readonly folder: string;
  readonly file: string;
  readonly scenarios: readonly Scenario[];
}

const isScenario = (value: unknown): value is Scenario =>
  typeof value === 'object' &&
  value !== null &&
  'ops' in value &&
  Array.isArray(value.ops) &&
  'end' in value &&
  'name' in value;

/** Reads every `*.jsonl` of a folder. @throws Error naming file and line of anything that is no scenario. */
export function readFolder(folder: string): readonly Recording[] {
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .sort();
  return files.map((name) => {
    const file = join(folder, name);
    const lines = readFileSync(file, 'utf8').split('\n');
    const scenarios = lines.flatMap((line, index) => (line.trim() === '' ? [] : [parse(line, `${file}:${index + 1}`)]));
    return { folder: basename(folder), file, scenarios };
  });
}

function parse(line: string, where: string): Scenario {
  const value: unknown = JSON.parse(line);
  if (!isScenario(value)) throw new Error(`${where} is no scenario (it has no ops, name or end)`);
  return value;
}
