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
