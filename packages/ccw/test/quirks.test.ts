import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CCW_QUIRKS, ccwQuirksOf, commandOrb, IO_REGION, ORB } from '@pinion/ccw';
import { ScriptedUnit } from './fake-disk.js';
import { FakeGuest } from './fake-guest.js';
import { AT, openSubchannel } from './subchannel.js';

test('profiles: fixed has no quirk, linux-6.12 those that recordings show', () => {
  assert.equal(ccwQuirksOf('fixed').size, 0);
  const recorded = Object.entries(CCW_QUIRKS).filter(([, { recorded }]) => recorded);
  assert.deepEqual(
    [...ccwQuirksOf('linux-6.12')],
    recorded.map(([name]) => name),
  );
});

for (const quirks of [[], ['whole-chain-reads']] as const)
  test(`a program at the end of a mapping${quirks.length > 0 ? ' is EINVAL with whole-chain-reads' : ' runs'}`, async () => {
    const guest = new FakeGuest(0x10000, 2);
    const { device } = openSubchannel(new ScriptedUnit(), { quirks }, guest);
    guest.pokeHex(0x1000_1ff8, '03 00 0001 00000000');
    const start = (): void => device.start(commandOrb(0x1000_1ff8));
    if (quirks.length > 0) assert.throws(start, { errno: 'EINVAL' });
    else start();
    await device.close();
    assert.equal(guest.pinned, 0);
  });

for (const quirks of [[], ['idal-over-read']] as const)
  test(`a 32-bit list at the end of a mapping${quirks.length > 0 ? ' is EINVAL with idal-over-read' : ' is read'}`, async () => {
    const guest = new FakeGuest(0x10000, 2);
    const { device } = openSubchannel(new ScriptedUnit(), { quirks }, guest);
    guest.pokeHex(0x1000_1ffc, '10001000');
    guest.pokeHex(AT.ccws, '02 24 0008 10001ffc');
    const start = (): void => device.start({ ...commandOrb(AT.ccws), word1: ORB.FORMAT1 | ORB.PREFETCH | ORB.LPM });
    if (quirks.length > 0) assert.throws(start, { errno: 'EINVAL' });
    else start();
    await device.close();
    assert.equal(guest.pinned, 0);
  });

test('stale-return-code: a write without a function answers with what stands there', async () => {
  const { device } = openSubchannel(new ScriptedUnit(), { quirks: ['stale-return-code'] });
  const code = Uint8Array.of(0xff, 0xff, 0xff, 0xf3);
  const access = { index: 0, offset: IO_REGION.returnCode, length: 4 };
  const copy = (bytes: Uint8Array): boolean => {
    bytes.set(code);
    return true;
  };
  assert.equal(device.pwrite(access, copy), -13);
  assert.throws(() => device.writeRegion(0, 0, new Uint8Array(1)), { name: 'CCW_STALE_CODE' });
  await device.close();
});

for (const quirks of [[], ['failed-copy-clears']] as const)
  test(`a write from a bad buffer is EFAULT and ${quirks.length > 0 ? 'clears' : 'leaves'} the region`, async () => {
    const { device } = openSubchannel(new ScriptedUnit(), { quirks });
    device.writeRegion(0, 0, Uint8Array.of(1, 2, 3, 4));
    assert.equal(
      device.pwrite({ index: 0, offset: 0, length: 2 }, () => false),
      -14,
    );
    const seen = new Uint8Array(4);
    device.readRegion(0, 0, seen);
    assert.deepEqual([...seen], quirks.length > 0 ? [0, 0, 3, 4] : [1, 2, 3, 4]);
    await device.close();
  });

test('a write while another one copies is EAGAIN, and the first goes on', async () => {
  const { device } = openSubchannel(new ScriptedUnit());
  const inner: number[] = [];
  const whole = { index: 0, offset: 0, length: IO_REGION.size };
  const outer = device.pwrite(whole, () => {
    for (const access of [
      whole,
      { index: 1, offset: 0, length: 8 },
      { index: 0, offset: 0, length: 200 },
      { index: 2, offset: 0, length: 4 },
    ])
      inner.push(device.pwrite(access, () => true));
    return true;
  });
  assert.deepEqual([outer, inner], [IO_REGION.size, [-11, -11, -22, -22]]);
  await device.close();
});
