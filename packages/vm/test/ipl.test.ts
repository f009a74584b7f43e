import assert from 'node:assert/strict';
import test from 'node:test';
import { decodeCopyProgram, EckdDriver, encodeCopyProgram } from '@pinion/vm';
import { SUBCHANNEL, startSmallVm } from './small-vm.js';

const SCHIB = 0x3000n;

test('resume and cancel: nothing is suspended, nothing can be cancelled, and no subchannel is no subchannel', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['dasd'] });
  const { channels, memory } = vm.machine;
  assert.deepEqual([channels.rsch(7), channels.xsch(7)], [3, 3]);
  assert.deepEqual([channels.rsch(SUBCHANNEL), channels.xsch(SUBCHANNEL)], [3, 3]);
  channels.stsch(SUBCHANNEL, SCHIB);
  const block = memory.read(SCHIB, 52);
  block[5] = (block[5] ?? 0) | 0x80;
  memory.write(SCHIB, block);
  channels.msch(SUBCHANNEL, SCHIB);
  assert.deepEqual([channels.rsch(SUBCHANNEL), channels.xsch(SUBCHANNEL)], [2, 2]);
});

test('a fixed-block disk is no count-key-data disk', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['dasd'] });
  await assert.rejects(EckdDriver.start(vm.machine, heap, SUBCHANNEL), { errno: /ENODEV|EIO/ });
  await assert.rejects(EckdDriver.start(vm.machine, heap, 7), { name: 'VM_NO_SUBCHANNEL' });
});

test('a program reads back as it was written; other bytes are none', () => {
  const program = { from: { cylinder: 3, head: 14 }, first: 2, count: 1000, size: 4096, block: 77 };
  assert.deepEqual(decodeCopyProgram(encodeCopyProgram(program)), program);
  for (const bytes of [new Uint8Array(24), encodeCopyProgram(program).subarray(0, 23)])
    assert.throws(() => decodeCopyProgram(bytes), { name: 'VM_NO_IPL', errno: 'EINVAL' });
});
