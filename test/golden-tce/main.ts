import { parseArgs } from 'node:util';
import { PROFILES, type Profile, QUIRKS, type Quirk, quirksOf } from '@pinion/spapr-tce';
import { readFolder, type Scenario } from '../golden/scenario.js';
import { type Difference, play } from './play.js';
import { recordedProfile } from './recorded-profile.js';

const USAGE = `usage: npm run golden:tce -- DIR... [--profile ${PROFILES.join('|')}] [--match TEXT] [--json]

Plays every scenario of every *.jsonl in the folders and compares every answer with the recorded one. A scenario names the
kernel it was recorded on, which is the profile; --profile overrides it. --profile fixed plays the default behaviour and
lists where it differs. Where a recorded kernel stopped (Oops, endless loop), a refusal is expected and the scenario ends.`;

/** A wrong use of the command: exit status 2. */
class Misuse extends Error {}

interface Failed {
  readonly folder: string;
  readonly scenario: Scenario;
  readonly differences: readonly Difference[];
}

const isProfile = (name: string): name is Profile => PROFILES.some((profile) => profile === name);

const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

function printDifferences({ folder, scenario, differences }: Failed): void {
  process.stdout.write(`${folder} ${scenario.name}\n`);
  for (const { index, operation, field, expected, got } of differences) {
    process.stdout.write(`  op ${index} ${operation}: ${field}: expected ${show(expected)}, got ${show(got)}\n`);
  }
}

/** The quirks without any one of which the kernel's answers are not met. */
async function quirksBehind(scenario: Scenario): Promise<readonly Quirk[]> {
  const profile = recordedProfile(scenario);
  if (profile === undefined) return [];
  const behind: Quirk[] = [];
  for (const quirk of quirksOf(profile)) {
    if ((await play(scenario, { profile, without: [quirk] })).length > 0) behind.push(quirk);
  }
  return behind;
}

async function printByQuirk(failed: readonly Failed[]): Promise<void> {
  const groups = new Map<string, string[]>();
  for (const { folder, scenario } of failed) {
    const behind = await quirksBehind(scenario);
    for (const quirk of behind.length > 0 ? behind : ['(several quirks together)']) {
      groups.set(quirk, [...(groups.get(quirk) ?? []), `${folder} ${scenario.name}`]);
    }
  }
  const reasons = new Map<string, string>(Object.entries(QUIRKS).map(([name, { reason }]) => [name, reason]));
  for (const [quirk, names] of groups) {
    process.stdout.write(`\n${quirk}: ${reasons.get(quirk) ?? ''}\n${names.map((name) => `  ${name}\n`).join('')}`);
  }
}

interface Outcome {
  readonly passed: number;
  readonly failed: readonly Failed[];
}

async function playFolders(
  folders: readonly string[],
  { profile, match }: { readonly profile: Profile | undefined; readonly match: string | undefined },
): Promise<Outcome> {
  const failed: Failed[] = [];
  let passed = 0;
  for (const { folder, scenarios } of folders.flatMap((name) => readFolder(name))) {
    for (const scenario of scenarios) {
      if (match !== undefined && !scenario.name.includes(match)) continue;
      const chosen = profile ?? recordedProfile(scenario);
      if (chosen === undefined) {
        throw new Misuse(`${folder} ${scenario.name}: recorded on no kernel that is known here; give --profile`);
      }
      const differences = await play(scenario, { profile: chosen });
      if (differences.length === 0) passed += 1;
      else failed.push({ folder, scenario, differences });
    }
  }
  return { passed, failed };
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
  const { profile, match } = values;
  if (profile !== undefined && !isProfile(profile)) throw new Misuse(USAGE);
  const { passed, failed } = await playFolders(positionals, { profile, match });
  if (passed + failed.length === 0) throw new Misuse('no scenario was found');
  if (values.json) {
    const named = failed.map(({ folder, scenario, differences }) => ({ folder, name: scenario.name, differences }));
    process.stdout.write(`${JSON.stringify({ passed, failed: named })}\n`);
  } else {
    for (const one of failed) printDifferences(one);
    if (profile === 'fixed') await printByQuirk(failed);
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
