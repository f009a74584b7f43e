import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { AP_QUIRKS, ApDevice, type ApDriverOptions, createApDriver, errors } from '@pinion/ap';
import { errorNames, PinionError } from '@pinion/core';
import { MACHINE, makeDevice } from './machine-room.js';

describe('the driver', () => {
  test('is what Linux shows in sysfs', () => {
    const driver = createApDriver(MACHINE);
    assert.equal(driver.name, 'ap');
    assert.equal(driver.deviceApi, 'vfio-ap');
    assert.deepEqual(
      driver.types.map(({ id }) => id),
      ['passthrough'],
    );
    assert.equal(driver.maxInstances, 65536);
    assert.equal(driver.pins, true);
    assert.ok(Object.isFrozen(driver));
  });

  test('makes devices with an empty matrix', () => {
    const { device } = makeDevice(createApDriver(MACHINE));
    assert.ok(device instanceof ApDevice);
    assert.equal(device.name, 'mdev-1');
    assert.deepEqual(device.matrix.adapters.indices(), []);
  });

  const wrong: readonly [what: string, options: Partial<ApDriverOptions>][] = [
    ['an adapter above the maximum', { adapters: [256] }],
    ['an adapter above a lower maximum', { adapters: [64], maxAdapter: 63 }],
    ['a negative domain', { domains: [-1] }],
    ['half a domain', { domains: [0.5] }],
    ['a control domain above the maximum', { controlDomains: [300] }],
    ['a host adapter above the maximum', { hostAdapters: [256] }],
    ['a host domain that is no number', { hostDomains: [Number.NaN] }],
    ['more adapters than a mask holds', { maxAdapter: 256 }],
    ['a negative maximum', { maxDomain: -1 }],
    ['depth 0', { depth: 0 }],
    ['depth 17', { depth: 17 }],
    ['messages that are no multiple of 4096', { maxMessage: 5000 }],
    ['messages of no length', { maxMessage: 0 }],
    ['messages longer than the field can say', { maxMessage: 65536 }],
  ];
  for (const [what, options] of wrong) {
    test(`${what} is EINVAL`, () => {
      assert.throws(() => createApDriver({ ...MACHINE, ...options }), { name: 'AP_BAD_OPTION', errno: 'EINVAL' });
    });
  }

  test('a card that is no function is EINVAL', () => {
    const options: object = { ...MACHINE, card: 'CEX8' };
    assert.throws(() => createApDriver(options as ApDriverOptions), { name: 'AP_BAD_OPTION' }); // why: the type forbids it
  });

  test('an unknown quirk is refused, with those that exist', () => {
    assert.throws(() => createApDriver({ ...MACHINE, quirks: ['toString'] }), {
      name: 'AP_UNKNOWN_QUIRK',
      errno: 'EINVAL',
      message: /blind-unpin/,
    });
  });

  test('an initial matrix that cannot be had undoes the creation', () => {
    const driver = createApDriver({
      ...MACHINE,
      hostAdapters: [5],
      hostDomains: [0x47],
      matrix: { adapters: [5], domains: [0x47] },
    });
    assert.throws(() => makeDevice(driver), { name: 'AP_RESERVED' });
  });
});

describe('the README', () => {
  // dist-test/test is two folders below the package.
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

  test('has a row with the errno for every error, and for no other', () => {
    const rows = [...readme.matchAll(/^\| `(AP_\w+)` \| (\w+) \|/gm)].map(([, name, errno]) => `${name} ${errno}`);
    const made = Object.values(errors).map((make) => make({ type: 0 } as never)); // why: any details do, only name and errno are read
    assert.ok(made.every((error) => error instanceof PinionError));
    assert.deepEqual(rows.sort(), made.map(({ name, errno }) => `${name} ${errno}`).sort());
    assert.equal(rows.length, errorNames('AP', errors).length);
  });

  test('names every quirk', () => {
    for (const quirk of Object.keys(AP_QUIRKS)) assert.ok(readme.includes(`\`${quirk}\``), quirk);
  });
});
