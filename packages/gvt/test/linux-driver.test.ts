import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ENGINES, PVINFO } from '@pinion/gvt';
import { ExeclistGuest, FRAME } from './execlist-guest.js';

/** What Linux's own i915 driver does when it starts, and a vGPU must not stumble over. Observed on Linux 6.12. */
describe('what i915 does at its start', () => {
  test('a flush of the video engine has flags above its length of six bits', () => {
    const guest = new ExeclistGuest();
    const context = guest.context('vcs');
    guest.execute(context, [0x13244082, 0x100, 0, 0xcafe]);
    assert.equal(guest.device.engineError, undefined);
    assert.equal(guest.peek(FRAME.HWSP + ENGINES.indexOf(context.engine), 0x100), 0xcafe);
    guest.finish();
  });

  for (const register of [0x2088, 0x2090, 0x20dc, 0x2120, 0x2124, 0x2470, 0x4030, 0x5588]) {
    test(`workarounds set bits of 0x${register.toString(16)} by a command, with a mask`, () => {
      const guest = new ExeclistGuest();
      guest.execute(guest.context('rcs'), [0x11000001, register, 0x00110001], [0x11000001, register, 0x00010000], [0]);
      assert.equal(guest.device.engineError, undefined);
      assert.equal(guest.read32(register) & 0xffff, 0);
      guest.execute(guest.context('rcs'), [0x11000001, register, 0x00300030]);
      assert.equal(guest.read32(register) & 0xffff, 0x30);
      guest.finish();
    });
  }

  for (const [name, words] of [
    ['scissor state pointers', [0x780f0000, 0]],
    ['component packing', [0x78550003, 0, 0, 0, 0]],
    ['monofilter size', [0x79110000, 0]],
  ] as const) {
    test(`its golden state has ${name}`, () => {
      const guest = new ExeclistGuest();
      guest.execute(guest.context('rcs'), [...words]);
      assert.equal(guest.device.engineError, undefined);
      assert.equal(guest.device.failsafe, undefined);
      guest.finish();
    });
  }

  test('the power controller says that the memory agent is off; self refresh never interrupts', () => {
    const guest = new ExeclistGuest();
    guest.write32(0x138128, 0);
    guest.write32(0x138124, 0x80000021);
    assert.deepEqual([guest.read32(0x138124) >>> 31, guest.read32(0x138128) & 1], [0, 1]);
    guest.write32(0x64838, 0xffffffff);
    assert.equal(guest.read32(0x64838), 0);
    assert.equal(guest.read32(PVINFO.VERSION), 1);
    guest.finish();
  });
});
