import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { PinionError } from '@pinion/core';
import { startGuests } from './guests.js';
import { jsonReport, tableReport } from './report.js';
import { runScenario } from './scenario.js';

const USAGE = `usage: node dist/main.js [--json] [--seconds N]
Three guests share two crypto cards by domain; one card is unplugged under load, and plugged in again.
  --json       one JSON document instead of tables
  --seconds N  length of each of the three phases (0.2 to 60, default 1)
`;

const { values } = parseArgs({
  options: { json: { type: 'boolean' }, seconds: { type: 'string', default: '1' }, help: { type: 'boolean' } },
});

async function main(seconds: number): Promise<boolean> {
  const { host, vms } = await startGuests(availableParallelism());
  try {
    const report = values.json === true ? jsonReport(process.stdout) : tableReport(process.stdout);
    return await runScenario(vms, report, seconds);
  } finally {
    await host.close();
  }
}

const seconds = Number(values.seconds);
if (values.help === true || !(seconds >= 0.2 && seconds <= 60)) {
  process.stderr.write(USAGE);
  process.exitCode = values.help === true ? 0 : 2;
} else {
  // Timers of the library keep no process alive, so the example does it as long as the VMs run.
  const alive = setInterval(() => {}, 60_000);
  try {
    if (!(await main(seconds))) process.exitCode = 1;
  } catch (cause) {
    const error = cause instanceof PinionError ? cause.toString() : String(cause);
    if (values.json === true) process.stdout.write(`${JSON.stringify({ ok: false, error }, null, 2)}\n`);
    else process.stderr.write(`${error}\n`);
    process.exitCode = 1;
  } finally {
    clearInterval(alive);
  }
}
