import assert from 'node:assert/strict';
import test from 'node:test';
import { held, NOTHING, startPc } from './pc.js';

test('the guest finds every device and drives it: registers, ports, DMA both ways, interrupts by pin and message', async (t) => {
  const pc = await startPc(t);
  const end = await pc.vm.run();
  assert.deepEqual(
    [pc.lines, end],
    [
      [
        'edu: ok, 3 interrupts by the pin, 3 by messages',
        'gpio: ok, 2 interrupts',
        'nvme: ok, 15 interrupts by the pin, 15 by messages',
        'done: 3 functions, 3 driven, 0 failures',
      ],
      { kind: 'exit', code: 0 },
    ],
  );
  assert.deepEqual(held(pc.vm.vm), { mappings: 2, pins: 0, locked: 0, held: 0 });
  await pc.vm.stop();
  assert.deepEqual(held(pc.vm.vm), NOTHING);
  assert.deepEqual(pc.warnings, []);
});

test('two guests beside each other know nothing of each other', async (t) => {
  const pcs = [await startPc(t), await startPc(t, { commandLine: 'storm=300', plug: ['edu'] })] as const;
  const ends = await Promise.all(pcs.map(({ vm }) => vm.run()));
  assert.deepEqual(ends, [
    { kind: 'exit', code: 0 },
    { kind: 'exit', code: 0 },
  ]);
  assert.deepEqual(
    [pcs[0].lines.at(-1), pcs[1].lines],
    ['done: 3 functions, 3 driven, 0 failures', ['edu: storm of 300, 300 seen']],
  );
  await pcs[0].vm.kill();
  assert.deepEqual([held(pcs[0].vm.vm), held(pcs[1].vm.vm).mappings], [NOTHING, 2]);
});

test('a listener of the console that throws ends the run with what it threw; the emulator is not harmed', async (t) => {
  const pc = await startPc(t);
  pc.vm.serial.onLine(() => {
    throw new RangeError('no more paper');
  });
  await assert.rejects(pc.vm.run(), { message: 'no more paper' });
  assert.equal(pc.vm.vm.memory.read(0x10_0000n, 4).length, 4);
  await pc.vm.stop();
  assert.deepEqual(held(pc.vm.vm), NOTHING);
});
