import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import type { Device } from '@pinion/core';
import { deviceKinds } from '@pinion/example-devices';
import { readGuest, V86Vm, v86 } from '@pinion/v86';
import { createRegistry, Host, readDescription, screenOf } from '@pinion/vm';
import { held, NOTHING, TurnClock } from './pc.js';

const WIDTH = 64;
const HEIGHT = 48;
/** Where the guest puts the picture, and how wide its frame is. */
const AT = { x: 48, y: 152, frame: 1280, lines: 720 };
const FRAME_BYTES = AT.frame * AT.lines * 4;

const DESCRIPTION = `
name: studio
hypervisor: v86
memory: [{ name: ram, at: 0, size: 8M }]
groups: [{ name: pci-01 }]
parents:
  - { name: igpu, driver: gvt, aperture: 512M }
  - { name: shelf, driver: nvme, image: archive.img }
  - { name: panel, driver: gpio-idio-16 }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: disk, driver: passthrough, type: disk, group: pci-01, image: disk.img }
      - { name: vgpu, driver: gvt, type: V5_4, parent: igpu, uuid: 00000000-0000-0000-0000-000000000001 }
      - { name: archive, driver: nvme, type: disk, parent: shelf, uuid: 00000000-0000-0000-0000-000000000002 }
      - { name: lamps, driver: gpio-idio-16, type: board, parent: panel, uuid: 00000000-0000-0000-0000-000000000003 }
`;

interface Studio {
  readonly vm: V86Vm;
  readonly host: Host;
  readonly folder: string;
  readonly picture: Uint8Array;
  readonly warnings: readonly string[];
  readonly end: Promise<unknown>;
  /** Types a command and waits for the line that answers it. */
  ask(command: string, answer?: RegExp): Promise<string>;
  device(name: string): Device;
}

async function startStudio(t: TestContext): Promise<Studio> {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-studio-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const picture = new Uint8Array(1 << 20);
  for (let n = 0; n < WIDTH * HEIGHT * 4; n += 1) picture[n] = (n * 13 + (n >> 8)) & 0xff;
  writeFileSync(join(folder, 'archive.img'), picture);
  writeFileSync(join(folder, 'disk.img'), new Uint8Array(4 << 20));
  const registry = createRegistry({ kinds: deviceKinds(), hypervisors: [v86] });
  const read = readDescription({ text: DESCRIPTION, folder }, registry);
  assert.ok(read.ok);
  const warnings: string[] = [];
  const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
  const host = await Host.create(read.description, { registry, clock: new TurnClock(), log });
  t.after(() => host.close());
  const vm = await V86Vm.start(host, read.description, { image: await readGuest('studio') });
  const end = vm.run().catch((cause: unknown) => cause);
  const ask = (command: string, answer = new RegExp(`^${command.split(' ')[0]}: (ok|FAIL)`)): Promise<string> =>
    new Promise((resolve) => {
      const undo = vm.serial.onLine((line) => {
        if (!answer.test(line)) return;
        undo();
        resolve(line);
      });
      vm.serial.type(`${command}\n`);
    });
  const device = (name: string): Device => {
    const found = vm.vm.slots.find(({ config }) => config.name === name)?.device;
    assert.ok(found !== undefined);
    return found;
  };
  return { vm, host, folder, picture, warnings, end, ask, device };
}

test('a guest on the CPU reads from an nvme, draws on a vGPU, stores on a passthrough disk, and lights lamps', async (t) => {
  const studio = await startStudio(t);
  const { vm, ask, picture } = studio;
  assert.equal(await ask('scan'), 'scan: ok');
  assert.match(vm.serial.output, /slot 1: 11de5 .*\nslot 2: 19128086 .*\nslot 3: 11f51234 .*\nslot 4: dc8494f /);
  assert.equal(await ask(`read ${WIDTH} ${HEIGHT}`), 'read: ok');
  assert.equal(await ask('draw'), 'draw: ok');
  const screen = screenOf(studio.device('vgpu'));
  assert.deepEqual([screen.width, screen.height], [AT.frame, AT.lines]);
  for (let pixel = 0; pixel < WIDTH * HEIGHT; pixel += 1) {
    const on = ((AT.y + Math.floor(pixel / WIDTH)) * AT.frame + AT.x + (pixel % WIDTH)) * 4;
    const shown = [screen.pixels[on + 2], screen.pixels[on + 1], screen.pixels[on]];
    assert.deepEqual(shown, [...picture.subarray(pixel * 4, pixel * 4 + 3)], `pixel ${pixel}`);
  }
  assert.ok((vm.vm.accounting.pinnedPages.get('vgpu') ?? 0) > 900, 'its table pins the frame');
  assert.equal(await ask('store 8'), 'store: ok');
  const stored = readFileSync(join(studio.folder, 'disk.img')).subarray(8 * 512, 8 * 512 + FRAME_BYTES);
  const first = (AT.y * AT.frame + AT.x) * 4;
  assert.deepEqual([...stored.subarray(first, first + 3)], [...picture.subarray(0, 3)]);
  assert.equal(await ask('lamps 43690'), 'lamps: ok');
  assert.equal(await ask('dance', /^studio:/), 'studio: there is no command dance');
  vm.serial.type('exit\n');
  assert.deepEqual(await studio.end, { kind: 'exit', code: 0 });
  await vm.stop();
  assert.deepEqual([held(vm.vm), studio.warnings], [NOTHING, []]);
});

test('the vGPU is unplugged between two drawings; the disk is; the guest finds both again', async (t) => {
  const { vm, ask } = await startStudio(t);
  await ask('scan');
  await ask(`read ${WIDTH} ${HEIGHT}`);
  await ask('draw');
  const pins = vm.vm.accounting.pinnedPages.get('vgpu');
  await vm.vm.unplug('vgpu');
  assert.equal(vm.vm.accounting.pinnedPages.get('vgpu'), undefined);
  await ask('scan');
  assert.equal(await ask('draw'), 'draw: FAIL a vGPU');
  await vm.vm.plug('vgpu');
  await vm.vm.unplug('disk');
  const { lockedPages, pinnedPages } = vm.vm.accounting;
  assert.equal(
    lockedPages,
    [...pinnedPages.values()].reduce((sum, each) => sum + each, 0),
  );
  await vm.vm.plug('disk');
  await ask('scan');
  assert.equal(await ask('draw'), 'draw: ok');
  assert.equal(vm.vm.accounting.pinnedPages.get('vgpu'), pins);
  assert.equal(await ask('store 0'), 'store: ok');
});

test('killed while all three devices work for it: nothing is left', async (t) => {
  const { vm, host, ask, end } = await startStudio(t);
  await ask('scan');
  await ask(`busy ${WIDTH} ${HEIGHT}`, /^busy: going on/);
  for (let n = 0; n < 5; n += 1) await new Promise((resolve) => void setImmediate(resolve));
  await vm.kill();
  const ended = await end;
  assert.equal(ended instanceof Error && ended.name, 'VM_KILLED');
  assert.deepEqual([held(vm.vm), host.memory.residentBytes, vm.vm.accounting.iommuPages.size], [NOTHING, 0, 0]);
});
