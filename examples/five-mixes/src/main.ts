import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createRegistry, Host, loadDescription } from '@pinion/vm';
import { compareBackends, differencesIn } from './comparison.js';
import { printComparison } from './comparison-table.js';
import { runMixes } from './mixes.js';
import { printTable, rowHolds } from './table.js';

const folder = fileURLToPath(new URL('..', import.meta.url));
const DISK_BYTES = 64 * 1024;

async function main(json: boolean): Promise<boolean> {
  mkdirSync(join(folder, 'out'), { recursive: true });
  writeFileSync(join(folder, 'out', 'disk.img'), new Uint8Array(DISK_BYTES));
  const registry = createRegistry();
  const description = loadDescription(join(folder, 'vm.yaml'), registry);
  const mixes = await runMixes(description, () => Host.create(description, { registry }));
  const differences = mixes.flatMap(({ rows }) => rows).filter((row) => !rowHolds(row)).length;
  if (json) process.stdout.write(`${JSON.stringify({ ok: differences === 0, mixes }, null, 2)}\n`);
  else {
    printTable(mixes, process.stdout);
    process.stdout.write(`\n${mixes.length} combinations, ${differences} differences from Linux\n`);
  }
  return differences === 0;
}

/** The same combinations on sPAPR TCE beside type1, with the reasons for what differs. */
async function compare(json: boolean): Promise<boolean> {
  const mixes = await compareBackends();
  const differences = differencesIn(mixes);
  if (json) process.stdout.write(`${JSON.stringify({ ok: differences === 0, mixes }, null, 2)}\n`);
  else {
    printComparison(mixes, process.stdout);
    process.stdout.write(`\n${mixes.length} combinations, ${differences} differences from Linux\n`);
  }
  return differences === 0;
}

const USAGE = 'usage: npm run five-mixes -- [--backend type1|spapr-tce] [--json]';

/** What is wrong with the arguments: exit status 2. */
class Misuse extends Error {}

function readArguments() {
  try {
    return parseArgs({
      options: { backend: { type: 'string', default: 'type1' }, json: { type: 'boolean', default: false } },
    }).values;
  } catch (cause) {
    throw new Misuse(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** @returns whether everything is as in Linux. */
async function run(): Promise<boolean> {
  const { backend, json } = readArguments();
  if (backend === 'type1') return main(json);
  if (backend === 'spapr-tce') return compare(json);
  throw new Misuse(`there is no backend '${backend}'`);
}

// Timers of the library keep no process alive, so the example does it as long as it runs.
const alive = setInterval(() => {}, 60_000);
try {
  if (!(await run())) process.exitCode = 1;
} catch (cause) {
  const message = cause instanceof Misuse ? `${cause.message}; ${USAGE}` : String(cause);
  process.stderr.write(`${message}\n`);
  process.exitCode = cause instanceof Misuse ? 2 : 1;
} finally {
  clearInterval(alive);
}
