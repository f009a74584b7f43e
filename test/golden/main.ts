import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { PROFILES, type Profile, QUIRKS, type Quirk, quirksOf } from '@pinion/type1';
import { type Difference, play } from './play.js';
import { NoRecording, readFolder, type Scenario } from './scenario.js';

const USAGE = `usage: npm run golden -- DIR... [--profile ${PROFILES.join('|')}] [--match TEXT] [--json]

Plays every scenario of every *.jsonl in the folders and compares every answer with the recorded one. The folder's name
is the kernel profile; --profile overrides it. --profile fixed plays the default behaviour and lists where it differs.`;

const isProfile = (name: string): name is Profile => PROFILES.some((profile) => profile === name);

interface Outcome {
  /** As it was given on the command line. */
  readonly dir: string;
  /** The last two parts of the recording's path. */
  readonly file: string;
  readonly scenario: Scenario;
  readonly differences: readonly Difference[];
}

interface Result {
  readonly passed: number;
  readonly failed: readonly Outcome[];
}

/** A wrong use of the command: exit status 2. */
class Misuse extends Error {}

const KNOWN = PROFILES.join(', ');

const profileOf = (folder: string, asked: Profile | undefined): Profile => {
  const name = basename(resolve(folder));
  if (asked !== undefined) return asked;
  if (isProfile(name)) return name;
  throw new Misuse(`${folder}: '${name}' is no profile; name the folder after one of ${KNOWN}, or give --profile`);
};

const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

function printDifferences({ file, scenario, differences }: Outcome): void {
  process.stdout.write(`${file} ${scenario.name}\n`);
  for (const { index, operation, field, expected, got } of differences) {
    process.stdout.write(`  op ${index} ${operation}: ${field}: expected ${show(expected)}, got ${show(got)}\n`);
  }
}

/**
 * Which quirks a scenario depends on: each without which alone the kernel's answers are not met; if there is none, a smallest
 * set that only together makes the difference.
 */
async function quirksBehind(profile: Profile, scenario: Scenario): Promise<readonly string[]> {
  const matters = async (without: readonly Quirk[]): Promise<boolean> =>
    (await play(scenario, { profile, without })).length > 0;
  const behind: Quirk[] = [];
  for (const quirk of quirksOf(profile)) if (await matters([quirk])) behind.push(quirk);
  if (behind.length > 0) return behind;
  let together: readonly Quirk[] = [...quirksOf(profile)];
  for (const quirk of together) {
    const fewer = together.filter((other) => other !== quirk);
    if (await matters(fewer)) together = fewer;
  }
  return [together.join(' + ')];
}

const reasonsOf = (quirks: string): string =>
  Object.entries(QUIRKS)
    .filter(([name]) => quirks.split(' + ').includes(name))
    .map(([, { reason }]) => reason)
    .join('; and ');

/** Lists scenarios in which the default behaviour differs from the kernel, by the quirk that explains it. */
async function printByQuirk(failed: readonly Outcome[]): Promise<void> {
  const groups = new Map<string, string[]>();
  for (const { dir, file, scenario } of failed) {
    const kernel = basename(resolve(dir));
    const behind = isProfile(kernel) ? await quirksBehind(kernel, scenario) : [UNKNOWN_KERNEL];
    for (const quirk of behind) groups.set(quirk, [...(groups.get(quirk) ?? []), `${file} ${scenario.name}`]);
  }
  for (const [quirk, names] of groups) {
    process.stdout.write(`\n${quirk}: ${reasonsOf(quirk)}\n${names.map((name) => `  ${name}\n`).join('')}`);
  }
}

/** Stands for the quirk's name where no quirk can be looked for. */
const UNKNOWN_KERNEL = 'the folder is not named after a kernel profile, so no quirk can be named';

async function playAll(dirs: readonly string[], asked: { profile?: Profile; match: string }): Promise<Result> {
  const recordings = dirs.flatMap((dir) => {
    const profile = profileOf(dir, asked.profile);
    return readFolder(dir).map((recording) => ({ ...recording, dir, profile }));
  });
  const failed: Outcome[] = [];
  let passed = 0;
  for (const { dir, profile, folder, file: path, scenarios } of recordings) {
    const file = `${folder}/${basename(path)}`;
    const chosen = scenarios.filter(({ name }) => name.includes(asked.match));
    if (process.stderr.isTTY) process.stderr.write(`${file}: ${chosen.length} scenarios, as ${profile}\n`);
    for (const scenario of chosen) {
      const differences = await play(scenario, { profile });
      if (differences.length === 0) passed += 1;
      else failed.push({ dir, file, scenario, differences });
    }
  }
  if (passed + failed.length === 0) throw new Misuse(`no scenario's name has '${asked.match}' in it`);
  return { passed, failed };
}

async function printResult({ passed, failed }: Result, asked: { profile?: Profile; json: boolean }): Promise<void> {
  if (asked.json) {
    const shown = failed.map(({ file, scenario, differences }) => ({ file, name: scenario.name, differences }));
    process.stdout.write(`${JSON.stringify({ passed, failed: shown })}\n`);
    return;
  }
  for (const outcome of failed) printDifferences(outcome);
  if (asked.profile === 'fixed') await printByQuirk(failed);
  process.stdout.write(`\n${passed} passed, ${failed.length} failed\n`);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        profile: { type: 'string' },
        match: { type: 'string', default: '' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (cause) {
    throw new Misuse(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

async function main(): Promise<number> {
  const { values, positionals } = readArguments();
  const { profile, match, json, help } = values;
  if (help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (positionals.length === 0) throw new Misuse(`which folders? ${USAGE}`);
  if (profile !== undefined && !isProfile(profile)) throw new Misuse(`'${profile}' is no profile; there is ${KNOWN}`);
  const asked = { ...(profile === undefined ? {} : { profile }), match, json };
  const result = await playAll(positionals, asked);
  await printResult(result, asked);
  return result.failed.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (failure) {
  if (!(failure instanceof Misuse) && !(failure instanceof NoRecording)) throw failure;
  process.stderr.write(`golden: ${failure.message}\n`);
  process.exitCode = 2;
}
