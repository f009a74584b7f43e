import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runScenario } from './scenario.js';

const USAGE = `usage: node dist/main.js [--json]
A guest IPLs from an ECKD disk and copies a dataset to an FBA disk; then memory goes and a device is reset under I/O.
`;

/** What the command line asks for. @throws TypeError for an argument that there is not. */
const parse = () =>
  parseArgs({ options: { json: { type: 'boolean', default: false }, help: { type: 'boolean' } } }).values;

async function main(json: boolean): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-dasd-'));
  const steps: Record<string, string> = {};
  // Timers of the library keep no process alive, so the example does it as long as the VM runs.
  const alive = setInterval(() => {}, 60_000);
  try {
    await runScenario(folder, (what, facts) => {
      steps[what] = facts;
      if (!json) process.stdout.write(`${what.padEnd(36)} ${facts}\n`);
    });
    if (json) process.stdout.write(`${JSON.stringify({ ok: true, steps }, null, 2)}\n`);
  } finally {
    clearInterval(alive);
    rmSync(folder, { recursive: true });
  }
}

try {
  const values = parse();
  if (values.help === true) process.stderr.write(USAGE);
  else await main(values.json);
} catch (failure) {
  const misused = failure instanceof TypeError && 'code' in failure;
  const message = failure instanceof Error ? (misused ? failure.message : (failure.stack ?? failure.message)) : failure;
  process.stderr.write(`${String(message)}\n${misused ? USAGE : ''}`);
  process.exitCode = misused ? 2 : 1;
}
