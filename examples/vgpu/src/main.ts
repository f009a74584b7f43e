import { mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FakeClock } from '@pinion/testkit';
import { createRegistry, Host, loadDescription } from '@pinion/vm';
import { runScenario } from './scenario.js';

const USAGE = `usage: node dist/main.js [--json]
Two VMs draw on one GPU with different weights; one hangs, one sleeps, one is killed. Time is the GPU's own, not the wall clock's.
`;
const folder = fileURLToPath(new URL('..', import.meta.url));
const out = join(folder, 'out');

/** Lets time pass as fast as the process can: the next timer runs when everything before it has been dealt with. */
function drive(clock: FakeClock): () => void {
  let running = true;
  const turn = (): void => {
    if (!running) return;
    clock.step();
    setImmediate(() => setImmediate(turn));
  };
  setImmediate(turn);
  return () => {
    running = false;
  };
}

async function main(json: boolean): Promise<boolean> {
  mkdirSync(out, { recursive: true });
  const registry = createRegistry();
  const clock = new FakeClock();
  const descriptions = {
    left: loadDescription(join(folder, 'left.yaml'), registry),
    right: loadDescription(join(folder, 'right.yaml'), registry),
  };
  const host = await Host.create(descriptions.left, { registry, clock });
  const stop = drive(clock);
  const steps: { what: string; facts: string; ok: boolean }[] = [];
  try {
    await runScenario({
      host,
      clock,
      descriptions,
      png: relative(process.cwd(), join(out, 'vgpu.png')),
      tell: (what, facts, ok) => {
        steps.push({ what, facts, ok });
        if (!json) process.stdout.write(`${ok ? ' ' : '!'} ${what.padEnd(40)} ${facts}\n`);
      },
    });
    const { referencedPages } = host.memory;
    const ok = steps.every((step) => step.ok);
    if (json) process.stdout.write(`${JSON.stringify({ ok, steps, left: { referencedPages } }, null, 2)}\n`);
    else process.stdout.write(`  at the end ${''.padEnd(30)}${referencedPages} pages of the host are referenced\n`);
    return ok;
  } finally {
    await host.close();
    stop();
  }
}

try {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, help: { type: 'boolean' } } });
  if (values.help === true) process.stderr.write(USAGE);
  else if (!(await main(values.json))) process.exitCode = 1;
} catch (failure) {
  const misused = failure instanceof TypeError && 'code' in failure;
  process.stderr.write(
    `${failure instanceof Error ? (misused ? failure.message : failure.stack) : failure}\n${misused ? USAGE : ''}`,
  );
  process.exitCode = misused ? 2 : 1;
}
