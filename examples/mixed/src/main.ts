import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { PinionError } from '@pinion/core';
import { createRegistry, EmbeddedVm, Host, loadDescription } from '@pinion/vm';
import { makeImages } from './images.js';
import { jsonReport, tableReport } from './report.js';
import { Scenario } from './scenario.js';

const folder = fileURLToPath(new URL('..', import.meta.url));
const out = join(folder, 'out');
const png = join(out, 'frame.png');

async function main(json: boolean): Promise<boolean> {
  const scene = makeImages(out);
  const registry = createRegistry();
  const description = loadDescription(join(folder, 'vm.yaml'), registry);
  const host = await Host.create(description, { registry });
  try {
    const vm = await EmbeddedVm.start(host, description);
    const report = json ? jsonReport(process.stdout) : tableReport(process.stdout);
    const { ok, frameSha256 } = await new Scenario(vm, { report, scene, png }).run();
    const { mappings, pinnedPages, lockedPages } = vm.accounting;
    const pins = [...pinnedPages.values()].reduce((sum, pages) => sum + pages, 0);
    report.end({
      facts: { frame: relative(process.cwd(), png), sha256: frameSha256 },
      left: { mappings, pins, lockedPages },
      ok,
    });
    return ok;
  } finally {
    await host.close();
  }
}

/** Whether the result is wanted as JSON. @throws TypeError naming an argument that there is not. */
const jsonWanted = (): boolean => parseArgs({ options: { json: { type: 'boolean', default: false } } }).values.json;

async function run(json: boolean): Promise<void> {
  // Timers of the library keep no process alive, so the example does it as long as the VM runs.
  const alive = setInterval(() => {}, 60_000);
  try {
    if (!(await main(json))) process.exitCode = 1;
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
  await run(jsonWanted());
} catch (cause) {
  process.stderr.write(`${cause instanceof Error ? cause.message : String(cause)}\nusage: npm start [-- --json]\n`);
  process.exitCode = 2;
}
