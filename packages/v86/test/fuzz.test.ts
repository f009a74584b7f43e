import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { DEVICES_IMAGE, held, NOTHING, nameOf, outcome, startPc, turn } from './pc.js';

test('an instruction that would go on for hours is cut off', async (t) => {
  const pc = await startPc(t, { commandLine: 'runaway', plug: ['edu'] });
  await assert.rejects(pc.vm.run(), { name: 'V86_RUNAWAY', errno: 'ETIMEDOUT' });
  await pc.vm.vm.unplug('edu');
  await pc.vm.stop();
  assert.deepEqual(held(pc.vm.vm), NOTHING);
});

/** How a guest of chance may end; anything else is a defect of ours. */
const ENDS = ['done', 'V86_CPU_FAULT', 'V86_RUNAWAY', 'VM_STOPPED'];
/** Where its code is in the file: behind the multiboot header of its first segment. */
const CODE = new DataView(DEVICES_IMAGE.buffer).getUint32(52 + 4, true) + 12;

test('whatever a guest executes, it ends in a way that has a name, and leaves nothing', async (t) => {
  const program = fc.uint8Array({ minLength: 400, maxLength: 400 });
  await fc.assert(
    fc.asyncProperty(program, async (bytes) => {
      const image = DEVICES_IMAGE.slice();
      image.set(bytes, CODE);
      const pc = await startPc(t, { image });
      const end = outcome(pc.vm.run());
      for (let n = 0; n < 2; n += 1) await turn();
      await pc.vm.stop();
      assert.ok(ENDS.includes(nameOf(await end)), nameOf(await end));
      assert.deepEqual(held(pc.vm.vm), NOTHING);
      await pc.host.close();
    }),
    { numRuns: 5 },
  );
});
