import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { PROFILES, type Profile, QUIRKS, type Quirk, quirksOf } from '@pinion/type1';
import { type Difference, play } from './play.js';
import { readFolder, type Scenario } from './scenario.js';

const USAGE = `usage: npm run golden -- DIR... [--profile ${PROFILES.join('|')}] [--match TEXT] [--json]

Plays every scenario of every *.jsonl in the folders and compares every answer with the recorded one. The folder's name
is the kernel profile; --profile overrides it. --profile fixed plays the default behaviour and lists where it differs.`;

const isProfile = (name: string): name is Profile => PROFILES.some((profile) => profile === name);

interface Outcome {
  readonly folder: string;
  readonly scenario: Scenario;
  readonly differences: readonly Difference[];
}

/** A wrong use of the command: exit status 2. */
class Misuse extends Error {}

const profileOf = (folder: string, asked: string | undefined): Profile => {
  const name = asked ?? basename(folder);
  if (isProfile(name)) return name;
  throw new Misuse(`'${name}' is no profile; name the folder after one of ${PROFILES.join(', ')} or give --profile`);
};

const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

function printDifferences({ folder, scenario, differences }: Outcome): void {
  process.stdout.write(`${folder} ${scenario.name}\n`);
  for (const { index, operation, field, expected, got } of differences) {
    process.stdout.write(`  op ${index} ${operation}: ${field}: expected ${show(expected)}, got ${show(got)}\n`);
  }
}

/**
 * Which quirks a scenario depends on: those without which the kernel's answers are not met; if none alone, the pairs.
 */
async function quirksBehind(folder: string, scenario: Scenario): Promise<readonly string[]> {
  const profile = profileOf(folder, undefined);
  const all = [...quirksOf(profile)];
  const matters = async (without: readonly Quirk[]): Promise<boolean> =>
    (await play(scenario, { profile, without })).length > 0;
  const behind: string[] = [];
  for (const quirk of all) if (await matters([quirk])) behind.push(quirk);
  if (behind.length > 0) return behind;
  for (const [index, one] of all.entries()) {
    for (const other of all.slice(index + 1)) if (await matters([one, other])) behind.push(`${one} + ${other}`);
  }
  return behind;
}

/** Lists scenarios in which the default behaviour differs from the kernel, by the quirk that explains it. */
async function printByQuirk(failed: readonly { dir: string; outcome: Outcome }[]): Promise<void> {
  const groups = new Map<string, string[]>();
  for (const { dir, outcome } of failed) {
    const behind = isProfile(basename(dir)) ? await quirksBehind(dir, outcome.scenario) : [];
    for (const quirk of behind.length > 0 ? behind : ['(more than two quirks together)']) {
      groups.set(quirk, [...(groups.get(quirk) ?? []), `${outcome.folder} ${outcome.scenario.name}`]);
    }
  }
  for (const [quirk, names] of groups) {
    const reasons = Object.entries(QUIRKS).filter(([name]) => quirk.split(' + ').includes(name));
    process.stdout.write(
      `\n${quirk}: ${reasons.map(([, { reason }]) => reason).join('; and ')}\n${names.map((name) => `  ${name}\n`).join('')}`,
    );
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      profile: { type: 'string' },
      match: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || positionals.length === 0) throw new Misuse(USAGE);
  if (values.profile !== undefined && !isProfile(values.profile)) throw new Misuse(USAGE);
  const failed: { dir: string; outcome: Outcome }[] = [];
  let passed = 0;
  for (const dir of positionals) {
    const profile = profileOf(dir, values.profile);
    for (const { folder, scenarios } of readFolder(dir)) {
      for (const scenario of scenarios) {
        if (values.match !== undefined && !scenario.name.includes(values.match)) continue;
        const differences = await play(scenario, { profile });
        if (differences.length === 0) passed += 1;
        else failed.push({ dir, outcome: { folder, scenario, differences } });
      }
    }
  }
  if (values.json) {
    process.stdout.write(
      `${JSON.stringify({ passed, failed: failed.map(({ outcome }) => ({ folder: outcome.folder, name: outcome.scenario.name, differences: outcome.differences })) })}\n`,
    );
  } else {
    for (const { outcome } of failed) printDifferences(outcome);
    if (values.profile === 'fixed') await printByQuirk(failed);
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
