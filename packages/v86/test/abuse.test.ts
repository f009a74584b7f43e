import assert from 'node:assert/strict';
import test from 'node:test';
import { held, NOTHING, nameOf, outcome, printed, startPc, turn } from './pc.js';

test('a storm of interrupts: each is seen once', async (t) => {
  const pc = await startPc(t, { commandLine: 'storm=2000', plug: ['edu'] });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['edu: storm of 2000, 2000 seen']);
});

test('a line that is never let go keeps the guest busy and nobody else; unplugging the device ends it', async (t) => {
  const pc = await startPc(t, { commandLine: 'stuck', plug: ['edu'] });
  const end = pc.vm.run();
  await printed(pc, 'stuck: raising');
  for (let n = 0; n < 10; n += 1) await turn();
  assert.equal(pc.lines.length, 1, 'it comes to nothing else');
  await pc.vm.vm.unplug('edu');
  assert.deepEqual([await end, pc.lines[1]], [{ kind: 'exit', code: 0 }, 'stuck: free']);
});

test('without bus mastering a device does no DMA', async (t) => {
  const pc = await startPc(t, { commandLine: 'masterless' });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['edu: refused']);
  assert.deepEqual(pc.warnings, ['edu: transfer refused: the function is no bus master']);
});

test('BARs over each other and over RAM', async (t) => {
  const pc = await startPc(t, { commandLine: 'overlap', plug: ['edu', 'nvme'] });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['overlap: done']);
});

test('wild accesses do no harm: to memory, ports and configuration that are not there, and over the ends of windows', async (t) => {
  const pc = await startPc(t, { commandLine: 'wild' });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['wild: survived 1']);
  assert.deepEqual(pc.warnings, []);
});

test('the same run every time, to the last interrupt', async (t) => {
  const runs = [];
  for (let n = 0; n < 2; n += 1) {
    const pc = await startPc(t);
    await pc.vm.run();
    runs.push(pc.vm.serial.output);
    await pc.vm.stop();
  }
  assert.equal(runs[0], runs[1]);
});

test('a guest whose fault nobody handles ends with V86_CPU_FAULT; the VM can be stopped', async (t) => {
  const pc = await startPc(t, { commandLine: 'fault' });
  await assert.rejects(pc.vm.run(), { name: 'V86_CPU_FAULT', errno: 'EFAULT' });
  await pc.vm.stop();
  assert.deepEqual(held(pc.vm.vm), NOTHING);
});

test('a guest that sleeps for ever has ended', async (t) => {
  const pc = await startPc(t, { commandLine: 'sleep' });
  assert.deepEqual(await pc.vm.run(), { kind: 'halt' });
});

test('a guest that spins lets others have their turn, and is stopped', async (t) => {
  const pc = await startPc(t, { commandLine: 'spin' });
  const end = outcome(pc.vm.run());
  for (let n = 0; n < 5; n += 1) await turn();
  await pc.vm.stop();
  assert.equal(nameOf(await end), 'VM_STOPPED');
  assert.deepEqual(held(pc.vm.vm), NOTHING);
});
