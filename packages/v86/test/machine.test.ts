import assert from 'node:assert/strict';
import test from 'node:test';
import { X86Machine } from '@pinion/v86';
import { MachineMemory } from '@pinion/vm';
import { fakeCpus, type Script } from './fake-cpu.js';
import { DEVICES_IMAGE } from './pc.js';

async function start(script: Script) {
  const { createCpu, made } = fakeCpus(script);
  const machine = await X86Machine.create({ name: 'pc', ramBytes: 4 << 20, image: DEVICES_IMAGE }, createCpu);
  const [cpu] = made;
  assert.ok(cpu !== undefined);
  return { machine, cpu };
}

const turns = async (count: number): Promise<void> => {
  for (let n = 0; n < count; n += 1) await new Promise((resolve) => void setImmediate(resolve));
};

test('nothing is made for a kernel that cannot be booted', async () => {
  const { createCpu, made } = fakeCpus(() => 'dead');
  const options = { name: 'pc', ramBytes: 4 << 20, image: DEVICES_IMAGE.subarray(0, 60) };
  await assert.rejects(X86Machine.create(options, createCpu), { name: 'V86_BAD_IMAGE' });
  assert.equal(made.length, 0);
});

test('a machine ends with the code that was written first, or with a halt that nothing can end', async () => {
  const exiting = await start((cpu) => {
    cpu.exit(3);
    cpu.exit(4);
    return 'running';
  });
  assert.deepEqual(await exiting.machine.run(), { kind: 'exit', code: 3 });
  await assert.rejects(exiting.machine.run(), { name: 'V86_RUNNING', errno: 'EBUSY' });
  const halting = await start(() => 'dead');
  assert.deepEqual(await halting.machine.run(), { kind: 'halt' });
});

test('a CPU that waits is not asked again before something pulls at it', async () => {
  let slices = 0;
  const { machine, cpu } = await start((each) => {
    slices += 1;
    if (slices === 3) each.exit(0);
    return 'halted';
  });
  const running = machine.run();
  await turns(5);
  assert.equal(slices, 1);
  const unplug = machine.pci.plug({
    name: 'function',
    regions: [],
    read: (_region, _offset, length) => new Uint8Array(length),
    write: () => {},
    deliverTo: (receive) => receive({ index: 0, vector: 0 }),
  });
  await turns(5);
  assert.deepEqual([slices, cpu.lines.get(11)], [2, true]);
  unplug();
  assert.deepEqual([await running, slices, cpu.lines.get(11)], [{ kind: 'exit', code: 0 }, 3, false]);
});

test('a machine that is stopped says so, whatever it was doing, and before it began', async () => {
  for (const state of ['running', 'halted'] as const) {
    const { machine } = await start(() => state);
    const running = assert.rejects(machine.run(), { name: 'V86_STOPPED', errno: 'ECANCELED' });
    await turns(2);
    machine.stop();
    await running;
  }
  const { machine } = await start(() => 'running');
  machine.stop();
  await assert.rejects(machine.run(), { name: 'V86_STOPPED' });
});

test('memory that moves under the machine stops it', async () => {
  const { machine } = await start((cpu) => {
    cpu.bytes = new Uint8Array(8 << 20);
    return 'running';
  });
  await assert.rejects(machine.run(), { name: 'V86_MEMORY_MOVED', errno: 'EFAULT', message: /0x400000 to 0x800000/ });
  await assert.rejects(machine.run(), { name: 'V86_STOPPED' });
});

test('what the CPU throws ends the run', async () => {
  const { machine } = await start(() => {
    throw new RangeError('fault');
  });
  await assert.rejects(machine.run(), { message: 'fault' });
});

test('RAM becomes pages once, is refused beyond its end, and is forgotten with the last page', async () => {
  const { machine, cpu } = await start(() => 'dead');
  const host = new MachineMemory();
  const low = machine.ram.adopt(host, { name: 'low', at: 0n, size: 0x2000n });
  const high = machine.ram.adopt(host, { name: 'high', at: 0x10_0000n, size: 0x1000n });
  assert.throws(() => machine.ram.adopt(host, { name: 'far', at: 4n << 20n, size: 0x1000n }), {
    name: 'V86_BAD_MEMORY',
  });
  const [first, second] = [low[0], high[0]];
  assert.ok(first !== undefined && second !== undefined);
  host.bytes(second.first, 1)[5] = 9;
  assert.equal(cpu.bytes[0x10_0005], 9);
  second.reference(0);
  first.disown();
  second.disown();
  assert.deepEqual([first.bytes.length, cpu.forgotten], [0, false]);
  host.unpinPage(second.first, true);
  assert.equal(cpu.forgotten, true);
});

test('the console: lines, carriage returns, no end of a line, and registers that drivers look at', async () => {
  const { machine } = await start((cpu) => {
    const { traps } = cpu.options;
    traps.portOut(0x3fb, 1, 0x80);
    traps.portOut(0x3f8, 1, 1);
    traps.portOut(0x3f9, 1, 0);
    traps.portOut(0x3fb, 1, 3);
    cpu.print('one\r\ntwo\nthree');
    assert.deepEqual(
      [0x3f8, 0x3fa, 0x3fb, 0x3fd, 0x3fe].map((port) => traps.portIn(port, 1)),
      [0, 1, 3, 0x60, 0xb0],
    );
    return 'dead';
  });
  const lines: string[] = [];
  const undo = machine.serial.onLine((line) => void lines.push(line));
  await machine.run();
  assert.deepEqual(lines, ['one', 'two']);
  assert.equal(machine.serial.output, 'one\ntwo\nthree');
  undo();
  for (let n = 0; n < 5000; n += 1) machine.serial.write(0, 0x78);
  assert.equal(machine.serial.output.split('\n').length, 4, 'a line without end is cut');
  for (let n = 0; n < 300_000; n += 1) machine.serial.write(0, n % 100 === 99 ? 10 : 0x79);
  assert.ok(machine.serial.output.length <= 256 * 1024 + 4096);
  assert.equal(lines.length, 2);
});

test('what is typed waits, interrupts only if the guest asked for it, and is taken in order', async () => {
  const seen: (number | undefined)[] = [];
  const { machine, cpu } = await start((each) => {
    const { traps } = each.options;
    const status = (): number => (traps.portIn(0x3fd, 1) ?? 0) & 1;
    seen.push(status(), traps.portIn(0x3fa, 1));
    traps.portOut(0x3f9, 1, 1);
    seen.push(traps.portIn(0x3fa, 1), Number(each.lines.get(4)));
    seen.push(traps.portIn(0x3f8, 1), traps.portIn(0x3f8, 1), traps.portIn(0x3f8, 1));
    seen.push(status(), Number(each.lines.get(4)), traps.portIn(0x3fa, 1));
    return 'halted';
  });
  machine.serial.type('h\u0169');
  assert.equal(cpu.lines.has(4), false, 'nobody asked for an interrupt yet');
  const running = assert.rejects(machine.run(), { name: 'V86_STOPPED' });
  assert.deepEqual(seen.splice(0), [1, 1, 4, 1, 0x68, 0x69, 0, 0, 0, 1]);
  machine.serial.type('x');
  assert.equal(cpu.lines.get(4), true);
  await turns(2);
  assert.deepEqual(seen.slice(0, 5), [1, 4, 4, 1, 0x78]);
  machine.stop();
  await running;
});
