import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandOrb, createCcwDriver, decodeIrb, ORB, SCHIB, SCHIB_REGION } from '@pinion/ccw';
import { ScriptedUnit } from './fake-disk.js';
import { FakeGuest } from './fake-guest.js';
import { AT, openSubchannel, type Subchannel } from './subchannel.js';

const NOP = '03 20 0001 00000000';
const opened = (paths: number): Subchannel => {
  const subchannel = openSubchannel(new ScriptedUnit(), { paths: { '0.0.1234': paths } });
  subchannel.guest.pokeHex(AT.ccws, NOP);
  return subchannel;
};
const schib = ({ device }: Subchannel): Uint8Array => {
  const bytes = new Uint8Array(52);
  device.readRegion(SCHIB_REGION.index, 0, bytes);
  return bytes;
};
/** An ORB that may use these paths only; 0 leaves the choice to the driver. */
const over = (mask: number) => ({
  ...commandOrb(AT.ccws),
  word1: (commandOrb(AT.ccws).word1 & ~ORB.LPM) | (mask << 8),
});
const usedBy = ({ device }: Subchannel): number => {
  const region = new Uint8Array(124);
  device.readRegion(0, 0, region);
  assert.equal(decodeIrb(region.subarray(24, 120)).deviceStatus, 0x0c);
  return region[24 + 13] ?? 0;
};

for (const [paths, mask] of [
  [1, 0x80],
  [4, 0xf0],
  [8, 0xff],
] as const)
  test(`${paths} paths: the subchannel says so, and a start takes the first`, async () => {
    const subchannel = opened(paths);
    const block = schib(subchannel);
    assert.deepEqual(
      [block[SCHIB.pathsInstalled], block[SCHIB.pathsAvailable], block[SCHIB.logicalPaths]],
      [mask, mask, mask],
    );
    assert.deepEqual(
      [...block.subarray(SCHIB.pathIdentifiers, SCHIB.pathIdentifiers + paths)],
      [0, 1, 2, 3, 4, 5, 6, 7].slice(0, paths),
    );
    assert.equal(subchannel.device.paths.usable, mask);
    subchannel.device.start(over(0));
    await subchannel.device.whenIdle();
    assert.equal(usedBy(subchannel), 0x80);
    assert.equal(subchannel.guest.pinned, 0);
  });

test('a start takes the path that its mask names; a path that is off is refused with EACCES while others are left, then ENODEV', async () => {
  const subchannel = opened(2);
  const { device, guest } = subchannel;
  device.start(over(0x40));
  await device.whenIdle();
  assert.equal(usedBy(subchannel), 0x40);
  device.pathEvent('offline', 1);
  assert.equal(schib(subchannel)[SCHIB.pathsAvailable], 0x80);
  assert.throws(() => device.start(over(0x40)), { name: 'CCW_PATH_LOST', errno: 'EACCES' });
  device.start(over(0));
  await device.whenIdle();
  assert.equal(usedBy(subchannel), 0x80);
  device.pathEvent('offline', 0);
  assert.throws(() => device.start(over(0)), { name: 'CCW_SUBCHANNEL_GONE', errno: 'ENODEV' });
  device.pathEvent('online', 1);
  device.start(over(0));
  await device.whenIdle();
  assert.equal(usedBy(subchannel), 0x40);
  assert.equal(guest.pinned, 0);
});

test('events of paths that are not installed do nothing: no report, no interrupt', () => {
  const { device, interrupts } = opened(2);
  for (const path of [2, 7, 8, -1])
    for (const event of ['offline', 'online', 'vary-off', 'vary-on'] as const) device.pathEvent(event, path);
  assert.deepEqual([device.paths, interrupts.length], [{ usable: 0xc0, allowed: 0xff }, 0]);
});

test('a program on one path goes on when another goes, and is halted when its own goes', async () => {
  const subchannel = opened(2);
  const { device, guest } = subchannel;
  guest.pokeHex(AT.ccws, '02 62 0010 10042ff0 | 02 20 0020 10060000');
  device.start({ ...over(0x40), word1: (over(0x40).word1 | ORB.SUSPEND) >>> 0 });
  device.pathEvent('vary-off', 0);
  assert.equal(device.state, 'cp-pending');
  device.pathEvent('vary-off', 1);
  await device.whenIdle();
  assert.deepEqual([device.state, guest.pinned, device.paths], ['idle', 0, { usable: 0, allowed: 0x3f }]);
});

for (const paths of [0, 9, -1, 1.5, Number.NaN])
  test(`${paths} paths are refused`, () => {
    const driver = createCcwDriver({ units: { '0.0.1234': new ScriptedUnit() }, paths: { '0.0.1234': paths } });
    assert.throws(() => driver.create(new FakeGuest(0x10000, 4).context()), { name: 'CCW_BAD_PATHS', errno: 'EINVAL' });
  });
