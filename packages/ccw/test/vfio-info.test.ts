import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviceInfo, IRQ_SET, IrqTriggers, irqInfo, regionInfo } from '@pinion/ccw';
import { PinionError } from '@pinion/core';

test('B.1: device, regions with their capabilities, interrupts', () => {
  assert.deepEqual(deviceInfo(16), { flags: 17, regions: 4, irqs: 3 });
  const rows = [
    [0, 3, 124, 0, 48, 0, ''],
    [1, 11, 8, 1024, 48, 32, '00020001000000000000000200000001'],
    [2, 9, 52, 2048, 48, 32, '00020001000000000000000200000002'],
    [3, 9, 8, 3072, 48, 32, '00020001000000000000000200000003'],
  ] as const;
  for (const [index, flags, size, offset, argsz, capOffset, caps] of rows) {
    const info = regionInfo(index, 48);
    assert.deepEqual(
      [info.flags, info.size, info.offset, info.argsz, info.capOffset],
      [flags, size, offset, argsz, capOffset],
    );
    assert.equal(Buffer.from(info.caps ?? []).toString('hex'), caps);
  }
  assert.deepEqual([regionInfo(1, 32).argsz, regionInfo(1, 32).capOffset, regionInfo(0, 32).argsz], [48, 0, 32]);
  for (const index of [0, 1, 2]) assert.deepEqual(irqInfo(index, 16), { flags: 1, count: 1 });
});

const refused: readonly (readonly [what: string, ask: () => unknown, name: string])[] = [
  ['device info of 15 bytes', () => deviceInfo(15), 'CCW_BAD_ARGSZ'],
  ['region info of 31 bytes', () => regionInfo(0, 31), 'CCW_BAD_ARGSZ'],
  ['region 4', () => regionInfo(4, 64), 'CCW_NO_INDEX'],
  ['region -1', () => regionInfo(-1, 64), 'CCW_NO_INDEX'],
  ['interrupt info of 15 bytes', () => irqInfo(0, 15), 'CCW_BAD_ARGSZ'],
  ['interrupt 3', () => irqInfo(3, 16), 'CCW_NO_INDEX'],
];
for (const [what, ask, name] of refused)
  test(`${what} is EINVAL`, () => {
    assert.throws(ask, { name, errno: 'EINVAL' });
  });

const { NONE, BOOL, EVENTFD, MASK, TRIGGER } = IRQ_SET;
const base = { argsz: 24, flags: EVENTFD | TRIGGER, index: 0, start: 0, count: 1, data: Uint8Array.of(0, 0, 0, 5) };

/** Triggers with one attached to interrupt 0 that counts. */
function attached(countIgnored = false): { triggers: IrqTriggers; count: () => number } {
  const triggers = new IrqTriggers(countIgnored);
  let count = 0;
  triggers.set(base, () => ({
    signal() {
      count += 1;
    },
  }));
  return { triggers, count: () => count };
}

const badSets = [
  ['a short header', { argsz: 19 }],
  ['short data', { argsz: 23 }],
  ['a second vector', { count: 2, argsz: 28 }],
  ['the vector after the last', { start: 1 }],
  ['a count that wraps', { count: 0xffff_ffff }],
  ['interrupt 3', { index: 3 }],
  ['two types of data', { flags: NONE | EVENTFD | TRIGGER }],
  ['no type of data', { flags: TRIGGER }],
  ['no action', { flags: EVENTFD }],
  ['masking', { flags: EVENTFD | MASK }],
  ['an unknown flag', { flags: EVENTFD | TRIGGER | 0x40 }],
  ['descriptor -2', { data: Uint8Array.of(255, 255, 255, 254) }],
] as const;
for (const [what, change] of badSets)
  test(`SET_IRQS: ${what} is EINVAL, and what was attached stays`, () => {
    const { triggers, count } = attached();
    const open = () => ({ signal: () => assert.fail('attached') });
    assert.throws(() => triggers.set({ ...base, ...change }, open), { name: 'CCW_BAD_IRQ_SET', errno: 'EINVAL' });
    triggers.signal(0);
    assert.equal(count(), 1);
  });

test('SET_IRQS: signals at once, replaces, keeps on failure, detaches', () => {
  const { triggers, count } = attached();
  const never = () => assert.fail('opened');
  triggers.set({ ...base, flags: NONE | TRIGGER, argsz: 20 }, never);
  triggers.set({ ...base, flags: BOOL | TRIGGER, argsz: 21, data: Uint8Array.of(1) }, never);
  triggers.set({ ...base, flags: BOOL | TRIGGER, argsz: 21, data: Uint8Array.of(0) }, never);
  assert.equal(count(), 2);
  const bad = new PinionError('TEST', 'EBADF', 'closed');
  assert.throws(
    () =>
      triggers.set(base, () => {
        throw bad;
      }),
    bad,
  );
  triggers.signal(0);
  triggers.set({ ...base, data: new Uint8Array(4).fill(255) }, never);
  triggers.signal(0);
  assert.deepEqual([count(), triggers.has(0)], [3, false]);
});

test('count 0 does nothing; with the quirk it signals and attaches', () => {
  for (const ignored of [false, true]) {
    const { triggers, count } = attached(ignored);
    triggers.set({ ...base, flags: NONE | TRIGGER, count: 0 }, () => assert.fail('opened'));
    assert.equal(count(), ignored ? 1 : 0);
  }
});
