import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { PinionError } from '@pinion/core';
import { hypervisors, type Runner } from './hypervisors.js';
import { jsonReport, tableReport } from './report.js';

const folder = fileURLToPath(new URL('..', import.meta.url));
const names = [...hypervisors.keys()].join('|');

interface Wanted {
  readonly json: boolean;
  readonly load: () => Promise<Runner>;
}

/** What the command line asks for. @throws TypeError naming an argument that there is not. */
function wanted(): Wanted {
  const { values } = parseArgs({
    options: { json: { type: 'boolean', default: false }, hypervisor: { type: 'string', default: 'embedded' } },
  });
  const load = hypervisors.get(values.hypervisor);
  if (load === undefined) throw new TypeError(`there is no hypervisor '${values.hypervisor}'; there is ${names}`);
  return { json: values.json, load };
}

async function run({ json, load }: Wanted): Promise<void> {
  // Timers of the library keep no process alive, so the example does it as long as the VM runs.
  const alive = setInterval(() => {}, 60_000);
  try {
    const runner = await load();
    const report = json
      ? () => jsonReport(process.stdout)
      : (owners: readonly string[]) => tableReport(process.stdout, owners);
    if (!(await runner({ folder, out: join(folder, 'out'), report }))) process.exitCode = 1;
  } catch (cause) {
    const error = cause instanceof PinionError ? cause.toString() : String(cause);
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, error }, null, 2)}\n`);
    else process.stderr.write(`${error}\n`);
    process.exitCode = 1;
  } finally {
    clearInterval(alive);
  }
}

try {
  await run(wanted());
} catch (cause) {
  const problem = cause instanceof Error ? cause.message : String(cause);
  process.stderr.write(`${problem}\nusage: npm start [-- --json] [-- --hypervisor ${names}]\n`);
  process.exitCode = 2;
}
