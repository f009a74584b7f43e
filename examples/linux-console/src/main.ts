import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { systemClock } from '@pinion/core';
import { createRegistry, encodePng, framesOf, loadDescription, QemuVm, qemu } from '@pinion/vm';
import { consoleMode, decorate } from './console.js';

const USAGE = `usage: npm run linux-console
A Linux guest in a real QEMU shows its console on a vGPU of this process (once before: npm run qemu:setup).
`;
const UUID = '2f6d1c1e-0915-4000-8000-000000000001';
/** MiB: the kernel, its modules, and what the screen takes. */
const MEMORY = 1024;

/** Pixels. */
const LETTER = { width: 8, height: 16 };

const folder = fileURLToPath(new URL('..', import.meta.url));
const out = join(folder, 'out');
const tell = (what: string, facts: string): void => void process.stdout.write(`  ${what.padEnd(34)}${facts}\n`);

/** Draws on the guest's console while its screen is watched from here. @returns whether it was seen to change. */
async function show(vm: QemuVm): Promise<boolean> {
  const device = vm.mediator.parents.get('igpu')?.mdevs.get(UUID)?.device;
  if (device === undefined) return false;
  tell('Linux booted, its i915 bound', `console of ${await consoleMode(vm.guest)}, kernel ${vm.guest.ready.kernel}`);
  const pins = [...vm.accounting.pinnedPages.values()].reduce((sum, pages) => sum + pages, 0);
  tell('the vGPU holds', `${pins} pages of the guest`);
  let drawnAt = Number.POSITIVE_INFINITY;
  const drawing = decorate(vm.guest).finally(() => {
    drawnAt = systemClock.now();
  });
  let seen = 0;
  for await (const { frame, damage, time } of framesOf(device)) {
    const [width, height] = [damage.x2 - damage.x1, damage.y2 - damage.y1];
    seen += 1;
    tell(`picture ${seen}`, `${width} x ${height} pixels have changed`);
    if (time < drawnAt || width > LETTER.width || height > LETTER.height) continue;
    writeFileSync(join(out, 'console.png'), encodePng(frame)); // why: only the cursor blinks by now
    break;
  }
  await drawing;
  tell('saved', relative(process.cwd(), join(out, 'console.png')));
  return seen > 1;
}

async function main(): Promise<boolean> {
  mkdirSync(out, { recursive: true });
  const registry = createRegistry({ hypervisors: [qemu] });
  const description = loadDescription(join(folder, 'vm.yaml'), registry);
  const contents = { modules: ['i915'] };
  const vm = await QemuVm.start(description, { registry, devices: ['vgpu'], contents, memory: MEMORY });
  let ok = false;
  try {
    ok = await show(vm);
    await vm.kill();
    tell('QEMU killed', `${vm.held.mappings} mappings, ${vm.held.pins} pins`);
  } finally {
    const { mappings, pins, lockedPages } = await vm.close();
    process.stdout.write(`${mappings} mappings, ${pins} pins, ${lockedPages} locked pages\n`);
    ok &&= mappings + pins + lockedPages === 0;
  }
  return ok;
}

try {
  parseArgs({ options: {} });
} catch (cause) {
  process.stderr.write(`${cause instanceof Error ? cause.message : String(cause)}\n${USAGE}`);
  process.exit(2);
}
process.exitCode = (await main()) ? 0 : 1;
