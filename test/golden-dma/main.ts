import { parseArgs } from 'node:util';
import { play } from './play.js';
import { playIova } from './play-iova.js';
import { type Difference, readRecordings } from './recording.js';

const USAGE = `usage: npm run golden:iova -- DIR... [--match TEXT] [--json]
       npm run golden:dma -- DIR... [--match TEXT] [--json]

Plays every scenario of every iova*.jsonl or dma*.jsonl in the folders and compares every answer with the recorded one.`;

/** A wrong use of the command: exit status 2. */
class Misuse extends Error {}

interface Failure {
  readonly file: string;
  readonly name: string;
  readonly differences: readonly Difference[];
}

const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

function print({ file, name, differences }: Failure): void {
  process.stdout.write(`${file} ${name}\n`);
  for (const { index, operation, field, expected, got } of differences) {
    process.stdout.write(`  op ${index} ${operation}: ${field}: expected ${show(expected)}, got ${show(got)}\n`);
  }
}

function playFolder(kind: 'iova' | 'dma', folder: string, match: string): { passed: number; failures: Failure[] } {
  const failures: Failure[] = [];
  let passed = 0;
  for (const { file, scenarios } of readRecordings(folder, kind)) {
    let slot = 0;
    for (const scenario of scenarios.filter(({ name }) => name.includes(match))) {
      const played = kind === 'iova' ? { differences: playIova(scenario), next: 0 } : play(scenario, slot);
      slot = played.next;
      if (played.differences.length === 0) passed += 1;
      else failures.push({ file, name: scenario.name, differences: played.differences });
    }
  }
  return { passed, failures };
}

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      match: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const [kind, ...folders] = positionals;
  if (values.help || folders.length === 0 || (kind !== 'iova' && kind !== 'dma')) throw new Misuse(USAGE);
  const played = folders.map((folder) => playFolder(kind, folder, values.match));
  const failures = played.flatMap((each) => each.failures);
  const passed = played.reduce((sum, each) => sum + each.passed, 0);
  if (passed + failures.length === 0) throw new Misuse(`no ${kind} scenario in ${folders.join(', ')} matches`);
  if (values.json) process.stdout.write(`${JSON.stringify({ passed, failed: failures })}\n`);
  else {
    for (const failure of failures) print(failure);
    process.stdout.write(`\n${passed} passed, ${failures.length} failed\n`);
  }
  return failures.length === 0 ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (failure) {
  if (!(failure instanceof Misuse) && !(failure instanceof Error && 'code' in failure)) throw failure;
  process.stderr.write(`${failure.message}\n`);
  process.exitCode = 2;
}
