import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  AP_IRQ,
  ApMask,
  apqnAdapter,
  apqnDomain,
  apqnsOf,
  createApDriver,
  formatApqn,
  formatMatrix,
  makeApqn,
} from '@pinion/ap';
import { isErrno } from '@pinion/core';
import fc from 'fast-check';
import { enable, MACHINE, makeDevice, openRoom, Q47, test as testQueue } from './machine-room.js';

const matrixOf = (adapters: number[], domains: number[]) => ({
  adapters: ApMask.of(adapters),
  domains: ApMask.of(domains),
  controlDomains: ApMask.empty,
});

describe('masks and names', () => {
  test('bit 0 is the most significant bit of byte 0', () => {
    assert.equal(ApMask.of([5]).bytes()[0], 0x04);
    assert.equal(ApMask.of([0x47]).bytes()[8], 0x01);
    assert.equal(ApMask.of([0, 255]).toString(), `0x80${'0'.repeat(60)}01`);
  });

  test('an APQN is the adapter above the domain', () => {
    assert.equal(makeApqn(5, 0x47), 0x0547);
    assert.equal(formatApqn(0x0547), '05.0047');
    assert.equal(formatApqn(0xffff), 'ff.00ff');
  });

  const texts: readonly [adapters: number[], domains: number[], lines: string[]][] = [
    [[5], [0x47], ['05.0047']],
    [[5], [], ['05.']],
    [[], [0x47], ['.0047']],
    [[], [], []],
    [
      [6, 5],
      [0x48, 0x47],
      ['05.0047', '05.0048', '06.0047', '06.0048'],
    ],
  ];
  for (const [adapters, domains, lines] of texts) {
    test(`adapters [${adapters}] and domains [${domains}] print as [${lines}]`, () => {
      assert.deepEqual(formatMatrix(matrixOf(adapters, domains)), lines);
    });
  }

  test('a mask is the set it was made of', () => {
    const index = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(fc.uniqueArray(index), index, (indices, probe) => {
        const mask = ApMask.of(indices);
        assert.deepEqual(
          mask.indices(),
          [...indices].sort((a, b) => a - b),
        );
        assert.equal(mask.has(probe), indices.includes(probe));
        assert.ok(mask.with(probe).has(probe));
        assert.ok(!mask.without(probe).has(probe));
        assert.deepEqual(mask.and(ApMask.of([probe])).indices(), mask.has(probe) ? [probe] : []);
      }),
    );
  });

  test('a cross product has every pair once', () => {
    const indices = fc.uniqueArray(fc.integer({ min: 0, max: 255 }), { maxLength: 12 });
    fc.assert(
      fc.property(indices, indices, (adapters, domains) => {
        const apqns = apqnsOf(matrixOf(adapters, domains));
        assert.equal(new Set(apqns).size, adapters.length * domains.length);
        assert.ok(apqns.every((apqn) => adapters.includes(apqnAdapter(apqn)) && domains.includes(apqnDomain(apqn))));
      }),
    );
  });
});

describe('assignment', () => {
  const make = (options = {}) => {
    const driver = createApDriver({ ...MACHINE, ...options });
    return { driver, ...makeDevice(driver) };
  };

  test('either order of adapter and domain gives the queue', () => {
    const [a, b] = [make().device, make().device];
    a.assignAdapter(5);
    a.assignDomain(0x47);
    b.assignDomain(0x47);
    b.assignAdapter(5);
    assert.deepEqual(formatMatrix(a.matrix), ['05.0047']);
    assert.deepEqual(formatMatrix(b.matrix), ['05.0047']);
  });

  test('assigning twice and unassigning what is not there change nothing', () => {
    const { device } = make();
    device.assignAdapter(5);
    device.assignAdapter(5);
    device.unassignAdapter(6);
    device.unassignDomain(1);
    device.unassignControlDomain(1);
    assert.deepEqual(formatMatrix(device.matrix), ['05.']);
  });

  const wrong: readonly [index: number, name: string, errno: 'EINVAL' | 'ENODEV'][] = [
    [-1, 'AP_NOT_AN_INDEX', 'EINVAL'],
    [1.5, 'AP_NOT_AN_INDEX', 'EINVAL'],
    [Number.NaN, 'AP_NOT_AN_INDEX', 'EINVAL'],
    [Number.POSITIVE_INFINITY, 'AP_NOT_AN_INDEX', 'EINVAL'],
    [64, 'AP_NO_SUCH_INDEX', 'ENODEV'],
    [256, 'AP_NO_SUCH_INDEX', 'ENODEV'],
  ];
  const verbs = [
    'assignAdapter',
    'assignDomain',
    'assignControlDomain',
    'unassignAdapter',
    'unassignDomain',
    'unassignControlDomain',
  ] as const;
  for (const [index, name, errno] of wrong) {
    for (const verb of verbs) {
      test(`${verb}(${index}) is ${errno}`, () => {
        const { device } = make({ adapters: [5], domains: [1], maxAdapter: 63, maxDomain: 63 });
        assert.throws(
          () => device[verb](index),
          (error) => isErrno(error, errno) && error.name === name,
        );
        assert.deepEqual(formatMatrix(device.matrix), []);
      });
    }
  }

  test('a queue that the host keeps is EADDRNOTAVAIL, and the bit is not set', () => {
    const { device } = make({ hostAdapters: [5], hostDomains: [0x47] });
    device.assignAdapter(5); // no domain yet, so no queue to check
    assert.throws(() => device.assignDomain(0x47), { name: 'AP_RESERVED', errno: 'EADDRNOTAVAIL' });
    assert.deepEqual(formatMatrix(device.matrix), ['05.']);
    device.assignDomain(0x48); // only one of its two bits is set
    assert.deepEqual(formatMatrix(device.matrix), ['05.0048']);
  });

  test("another device's queue is EADDRINUSE and names its owner; freed, it can be had", () => {
    const { driver, device } = make();
    const other = makeDevice(driver, 'mdev-2').device;
    device.configure({ adapters: [5], domains: [0x47] });
    other.assignDomain(0x47);
    assert.throws(() => other.assignAdapter(5), {
      name: 'AP_IN_USE',
      errno: 'EADDRINUSE',
      message: /mdev-2: queue 05\.0047 belongs to device mdev-1/,
    });
    assert.deepEqual(formatMatrix(other.matrix), ['.0047']);
    device.unassignAdapter(5);
    other.assignAdapter(5);
    assert.deepEqual(formatMatrix(other.matrix), ['05.0047']);
  });

  test('reserved comes before in use', () => {
    const { driver, device } = make({ hostAdapters: [6], hostDomains: [0x47] });
    const other = makeDevice(driver, 'mdev-2').device;
    device.configure({ adapters: [5], domains: [0x47] });
    other.configure({ adapters: [5, 6] });
    assert.throws(() => other.assignDomain(0x47), { name: 'AP_RESERVED' });
  });

  test('control domains are shared freely', () => {
    const { driver, device } = make();
    const other = makeDevice(driver, 'mdev-2').device;
    device.configure({ adapters: [5], domains: [0x47], controlDomains: [0x47] });
    other.assignControlDomain(0x47);
    assert.deepEqual(other.matrix.controlDomains.indices(), [0x47]);
    other.unassignControlDomain(0x47);
    assert.deepEqual(other.matrix.controlDomains.indices(), []);
  });

  test('configure replaces all three masks or none', () => {
    const { driver, device } = make({ hostAdapters: [6], hostDomains: [0x48] });
    device.configure({ adapters: [5], domains: [0x47], controlDomains: [1] });
    const other = makeDevice(driver, 'mdev-2').device;
    other.configure({ adapters: [6], domains: [0x47], controlDomains: [2] });
    const refused = [
      { adapters: [5], domains: [0x47], controlDomains: [3] },
      { adapters: [6], domains: [0x48], controlDomains: [3] },
      { adapters: [6], domains: [0x47], controlDomains: [256] },
    ];
    for (const indices of refused) {
      assert.throws(() => other.configure(indices), /device|above/);
      assert.deepEqual(formatMatrix(other.matrix), ['06.0047']);
      assert.deepEqual(other.matrix.controlDomains.indices(), [2]);
    }
  });

  test('two devices never share a queue, whatever is tried', () => {
    const step = fc.record({
      device: fc.integer({ min: 0, max: 1 }),
      verb: fc.constantFrom(...verbs),
      index: fc.integer({ min: 0, max: 4 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { driver, device } = make({ hostAdapters: [0], hostDomains: [0] });
        const devices = [device, makeDevice(driver, 'mdev-2').device];
        for (const { device: which, verb, index } of steps) {
          try {
            devices[which]?.[verb](index);
          } catch (error) {
            assert.ok(isErrno(error, 'EADDRINUSE') || isErrno(error, 'EADDRNOTAVAIL'));
          }
        }
        const [mine, others] = devices.map(({ matrix }) => apqnsOf(matrix));
        assert.deepEqual(
          mine?.filter((apqn) => others?.includes(apqn)),
          [],
        );
        assert.ok(![mine, others].some((apqns) => apqns?.includes(0)));
      }),
    );
  });
});

describe('hot plug', () => {
  test('the guest sees only what the machine has, and is told when that changes', () => {
    const { device } = openRoom();
    const told: number[] = [];
    device.setIrqSink((index) => told.push(index));
    assert.deepEqual(formatMatrix(device.guestMatrix), ['05.0047', '05.0048']);
    device.assignAdapter(7); // not plugged
    assert.deepEqual(told, []);
    device.assignAdapter(6);
    assert.deepEqual(told, [AP_IRQ.CFG_CHG]);
    assert.deepEqual(formatMatrix(device.guestMatrix), ['05.0047', '05.0048', '06.0047', '06.0048']);
    assert.equal(testQueue(device, 0x0647), 0x8000_0000n);
    device.setIrqSink(undefined);
    device.unassignAdapter(6);
    assert.equal(testQueue(device, 0x0647), 0x0001_0000n);
    assert.deepEqual(told, [AP_IRQ.CFG_CHG]);
  });

  test('a queue that goes is silent before its page is given back; the others keep theirs', () => {
    const { device, pins } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, 0x0548, { isc: 3, nib: 0x9000n });
    device.unassignDomain(0x47);
    assert.deepEqual(pins.held, [[9, 1]]);
    assert.deepEqual(device.interrupts, [{ apqn: 0x0548, isc: 3, page: 9 }]);
    device.close();
    assert.deepEqual(pins.held, []);
  });

  test('a replugged queue has forgotten everything', () => {
    const { device, clock } = openRoom();
    device.nqap(Q47, 1n, new Uint8Array(16));
    device.unassignDomain(0x47);
    assert.equal(clock.pending, 0);
    device.assignDomain(0x47);
    assert.equal(testQueue(device, Q47), 0x8000_0000n);
  });

  test('a removed device frees its queues and takes no new ones', () => {
    const driver = createApDriver({ ...MACHINE, matrix: { adapters: [5], domains: [0x47] } });
    const { device } = makeDevice(driver);
    assert.throws(() => makeDevice(driver, 'mdev-2'), { name: 'AP_IN_USE' });
    device.remove();
    assert.throws(() => device.assignAdapter(6), { name: 'AP_REMOVED', errno: 'ENODEV' });
    assert.deepEqual(formatMatrix(makeDevice(driver, 'mdev-2').device.matrix), ['05.0047']);
  });
});
