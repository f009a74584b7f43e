import { parseArgs } from 'node:util';
import { CCW_PROFILES, type CcwProfile } from '@pinion/ccw';
import { readFolder } from '../golden/scenario.js';
import { type Difference, play } from './play.js';

const USAGE = `usage: npm run golden:ccw -- DIR... [--profile ${CCW_PROFILES.join('|')}] [--match TEXT] [--json]

Plays every scenario of every *.jsonl in the folders and compares every answer of the vfio-ccw driver with the recorded
one (Linux 6.12). --profile fixed plays the default behaviour and lists where it differs.`;

/** A wrong use of the command: exit status 2. */
class Misuse extends Error {}

interface Failed {
  readonly name: string;
  readonly differences: readonly Difference[];
}

const isProfile = (name: string): name is CcwProfile => CCW_PROFILES.some((profile) => profile === name);
const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

function printDifferences({ name, differences }: Failed): void {
  process.stdout.write(`${name}\n`);
  for (const { index, operation, field, expected, got } of differences)
    process.stdout.write(`  op ${index} ${operation}: ${field}: expected ${show(expected)}, got ${show(got)}\n`);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      profile: { type: 'string', default: 'linux-6.12' },
      match: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const { profile } = values;
  if (values.help || positionals.length === 0 || !isProfile(profile)) throw new Misuse(USAGE);
  const failed: Failed[] = [];
  let passed = 0;
  for (const dir of positionals) {
    for (const { scenarios } of readFolder(dir)) {
      for (const scenario of scenarios) {
        if (values.match !== undefined && !scenario.name.includes(values.match)) continue;
        const differences = await play(scenario, { profile });
        if (differences.length === 0) passed += 1;
        else failed.push({ name: scenario.name, differences });
      }
    }
  }
  if (values.json) process.stdout.write(`${JSON.stringify({ passed, failed })}\n`);
  else {
    for (const one of failed) printDifferences(one);
    process.stdout.write(`\n${passed} passed, ${failed.length} failed\n`);
  }
  return failed.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (failure) {
  if (!(failure instanceof Misuse) && !(failure instanceof Error && 'code' in failure)) throw failure;
  process.stderr.write(`${failure.message}\n`);
  process.exitCode = 2;
}
