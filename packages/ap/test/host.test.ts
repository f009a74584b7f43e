/** The host changes while guests run: masks, cards, domains, queues, conditions. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  AP_IRQ,
  type ApDevice,
  ApMask,
  apqnAdapter,
  apqnsOf,
  createApDriver,
  formatApqn,
  makeApqn,
  PQAP_FUNCTION,
  pqapRegister0,
  RESPONSE,
} from '@pinion/ap';
import { PinionError } from '@pinion/core';
import fc from 'fast-check';
import { enable, MACHINE, openRoom, Q47, Q48, test as testQueue } from './machine-room.js';

const NOT_AVAILABLE = 0x0001_0000n;
const READY = 0x8000_0000n;
const BOTH = { matrix: { adapters: [5, 6], domains: [0x47, 0x48] } };
const ALL = ['05.0047', '05.0048', '06.0047', '06.0048'];
const guestQueues = ({ guestMatrix }: ApDevice): string[] => apqnsOf(guestMatrix).map(formatApqn);

/** An open room, and what its hypervisor is told. */
function toldRoom(options: Parameters<typeof openRoom>[0] = BOTH) {
  const room = openRoom(options);
  const told: number[] = [];
  room.device.setIrqSink((index) => told.push(index));
  return { ...room, told, machine: room.device.machine };
}

describe('host masks', () => {
  test('a queue that a device has cannot go to the host: EADDRINUSE names it, and nothing changes', () => {
    const { machine, device, told } = toldRoom();
    machine.writeHostMask('apmask', '+5');
    assert.throws(() => machine.writeHostMask('aqmask', '+0x1,+0x48'), {
      name: 'AP_MASK_IN_USE',
      errno: 'EADDRINUSE',
      message: /05\.0048.*mdev-1/,
    });
    assert.deepEqual(machine.hostMasks.domains.indices(), []);
    assert.deepEqual([guestQueues(device), told], [ALL, []]);
    machine.writeHostMask('aqmask', '+0x1'); // both bits, but no device has it
  });

  test('a queue that the host has cannot be assigned: EADDRNOTAVAIL; given up by the host, it can', () => {
    const { machine, device } = toldRoom({ matrix: { adapters: [5], domains: [0x47] } });
    machine.setHostMasks({ adapters: ApMask.of([6]), domains: ApMask.of([0x47]) });
    assert.throws(() => device.assignAdapter(6), { name: 'AP_RESERVED', errno: 'EADDRNOTAVAIL' });
    assert.throws(() => machine.queueUse(0x0647), { name: 'AP_NO_QUEUE' });
    machine.writeHostMask('aqmask', '-0x47');
    device.assignAdapter(6);
    assert.deepEqual(guestQueues(device), ['05.0047', '06.0047']);
  });

  test('one mask alone reserves nothing', () => {
    const { machine, device } = toldRoom();
    machine.setHostMasks({ adapters: ApMask.of([5, 6]) });
    assert.deepEqual(guestQueues(device), ALL);
  });

  test('queues of the host are not the driver’s, and are again when it gives them up', () => {
    const { machine } = createApDriver({ ...MACHINE, hostAdapters: [5], hostDomains: [0x47] });
    assert.equal(machine.bound(Q47), undefined);
    assert.equal(machine.queueUse(Q48), 'unassigned');
    machine.writeHostMask('apmask', `0x${'0'.repeat(64)}\n`);
    assert.equal(machine.queueUse(Q47), 'unassigned');
  });

  for (const text of [
    '',
    '5',
    '0x',
    '0xg',
    `0x${'1'.repeat(65)}`,
    '+',
    '+5-',
    '+5-3',
    '+256',
    '+1,,2',
    '+-1',
    '+5 ',
    '-0xzz',
  ]) {
    test(`the mask '${text}' is EINVAL`, () => {
      const { machine } = toldRoom();
      assert.throws(
        () => machine.writeHostMask('apmask', text),
        (error) => error instanceof PinionError && error.errno === 'EINVAL',
      );
      assert.deepEqual(machine.hostMasks.adapters.indices(), []);
    });
  }
});

describe('queues of the driver', () => {
  test('what sysfs shows as their status', () => {
    const { machine, device } = toldRoom({ matrix: { adapters: [5], domains: [0x47] } });
    assert.equal(machine.queueUse(Q47), 'in use');
    assert.equal(machine.queueUse(0x0647), 'unassigned');
    machine.unbindQueue(0x0647);
    device.assignAdapter(6);
    assert.throws(() => machine.queueUse(0x0647), { name: 'AP_NO_QUEUE', errno: 'ENODEV' });
    assert.throws(() => machine.unbindQueue(0x0647), { name: 'AP_NO_QUEUE' });
    assert.throws(() => machine.bindQueue(0x0747), { name: 'AP_NO_QUEUE' });
  });

  test('a queue that is taken away takes its whole adapter from the guest, after their reset', () => {
    const { machine, device, pins, told } = toldRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 3, nib: 0x8000n });
    enable(device, 0x0647, { isc: 3, nib: 0x9000n });
    machine.unbindQueue(Q48);
    assert.deepEqual([guestQueues(device), told], [['06.0047', '06.0048'], [AP_IRQ.CFG_CHG]]);
    assert.deepEqual(pins.held, [[9, 1]]);
    assert.equal(testQueue(device, Q47), NOT_AVAILABLE);
    assert.equal(machine.queueUse(Q47), 'assigned');
    machine.bindQueue(Q48);
    machine.bindQueue(Q48);
    assert.deepEqual([guestQueues(device), told], [ALL, [AP_IRQ.CFG_CHG, AP_IRQ.CFG_CHG]]);
    assert.equal(testQueue(device, Q47), READY);
  });

  test('a queue that nobody has is reset when it is taken away', () => {
    const asked: string[] = [];
    const { machine } = createApDriver({ ...MACHINE, respond: (instruction) => void asked.push(instruction) });
    machine.unbindQueue(Q47);
    assert.deepEqual(asked, ['ZAPQ']);
  });

  test('a queue that cannot be emptied is given to nobody, however often it is bound', async () => {
    let stuck = false;
    const { machine, device } = toldRoom({
      matrix: { adapters: [5], domains: [0x47] },
      respond: (instruction) => (stuck && instruction === 'ZAPQ' ? RESPONSE.BOUND_TO_ANOTHER : undefined),
    });
    device.nqap(Q47, 1n, new Uint8Array(1));
    stuck = true;
    machine.unbindQueue(Q47);
    machine.bindQueue(Q47);
    assert.deepEqual(guestQueues(device), []);
    stuck = false;
    machine.unbindQueue(Q47);
    machine.bindQueue(Q47);
    assert.deepEqual(guestQueues(device), ['05.0047']);
    assert.equal(testQueue(device, Q47), READY);
    await device.close();
  });

  test('cards older than CEX4 are never given to guests', () => {
    const adapters = [5, { adapter: 6, type: 9 }];
    const { device } = toldRoom({ adapters, ...BOTH });
    assert.deepEqual(guestQueues(device), ['05.0047', '05.0048']);
  });

  test('quirk partial-adapters: the guest keeps the rest of the adapter, and a queue that answers 01', () => {
    const { machine, device } = toldRoom({ ...BOTH, quirks: ['partial-adapters'] });
    machine.unbindQueue(Q48);
    assert.deepEqual(guestQueues(device), ALL);
    assert.deepEqual([testQueue(device, Q47), testQueue(device, Q48)], [READY, NOT_AVAILABLE]);
  });
});

describe('configuration changes', () => {
  test('what goes, goes at once; what comes is shown when the scan is complete, in one signal', () => {
    const { machine, device, told } = toldRoom({ matrix: { adapters: [4, 5, 6], domains: [0x47, 0x48] } });
    machine.changeConfiguration({ adapters: [4, 6], domains: [0x47, 0x48] });
    assert.deepEqual([guestQueues(device), told], [['06.0047', '06.0048'], [AP_IRQ.CFG_CHG]]);
    machine.completeScan();
    assert.deepEqual(guestQueues(device), ['04.0047', '04.0048', '06.0047', '06.0048']);
    assert.deepEqual(told, [AP_IRQ.CFG_CHG, AP_IRQ.CFG_CHG]);
    machine.completeScan();
    assert.equal(told.length, 2);
  });

  test('a domain that goes takes its queues, and the others go on', () => {
    const { machine, device, clock, pins } = toldRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 3, nib: 0x8000n });
    device.nqap(Q47, 1n, new Uint8Array(1));
    machine.reconfigure({ adapters: [5, 6], domains: [0x47] });
    assert.deepEqual([guestQueues(device), pins.held], [['05.0047', '06.0047'], [[7, 1]]]);
    clock.run();
    assert.equal(device.dqap(Q47, 100).psmid, 1n);
  });

  test('a card that is pulled under load: nothing is written to the guest any more, its pages are given back at once', () => {
    const { machine, device, clock, pins, guest } = toldRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.nqap(Q47, 1n, new Uint8Array(1));
    const page = pins.page(7);
    machine.unplugAdapter(5);
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
    clock.run();
    assert.deepEqual([guest.interrupts, pins.page(7)[0], page[0]], [[], 0, 0xdb]); // poisoned, not written
    assert.equal(device.nqap(Q47, 2n, new Uint8Array(1)).code, RESPONSE.QUEUE_NOT_AVAILABLE);
    machine.plugAdapter(5);
    assert.equal(testQueue(device, Q47), READY);
  });

  test('an exchanged card is another one: empty queues, other properties', () => {
    const { machine, device } = toldRoom();
    device.nqap(Q47, 1n, new Uint8Array(1));
    device.nqap(0x0647, 1n, new Uint8Array(1));
    machine.plugAdapter({ adapter: 5, mode: 'cca', depth: 2 });
    assert.equal(device.pqap(BigInt(Q47), 0n, 0n).gr2 & 0xfn, 1n);
    assert.deepEqual([testQueue(device, Q47), testQueue(device, 0x0647)], [READY, 0n]);
  });

  test('a bad configuration changes nothing', () => {
    const { machine, device } = toldRoom();
    for (const adapters of [[256], [{ adapter: 5, depth: 17 }], [{ adapter: 5, mode: 'ep11' as 'cca' }]]) {
      // why: the type forbids the mode, a configuration file does not
      assert.throws(() => machine.reconfigure({ adapters, domains: [] }), { name: 'AP_BAD_OPTION', errno: 'EINVAL' });
    }
    assert.deepEqual(guestQueues(device), ALL);
  });

  test('the guest leaves between change and scan', async () => {
    const { machine, device, told, pins } = toldRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    machine.changeConfiguration({ adapters: [5, 6, 7], domains: [0x47] });
    await device.close();
    device.setGuest(undefined);
    device.assignAdapter(7);
    machine.completeScan();
    assert.deepEqual([told, pins.held], [[AP_IRQ.CFG_CHG], []]);
    assert.deepEqual(guestQueues(device), ['05.0047', '06.0047', '07.0047']); // the next guest's
  });

  test('a closed device follows too, without signals', async () => {
    const { machine, device, told } = toldRoom();
    await device.close();
    machine.unplugAdapter(6);
    assert.deepEqual([guestQueues(device), told], [['05.0047', '05.0048'], []]);
  });

  test('quirk reset-unconfigured: a queue that is gone is reset in vain', () => {
    const { machine, device, warnings } = toldRoom({ ...BOTH, quirks: ['reset-unconfigured'] });
    machine.unplugAdapter(5);
    assert.deepEqual(guestQueues(device), ['06.0047', '06.0048']);
    assert.deepEqual(warnings, []); // it is found out a moment later
    return device.settled();
  });
});

describe('the condition of a card', () => {
  for (const [condition, code] of [
    ['deconfigured', 3],
    ['checkstopped', 4],
  ] as const) {
    test(`${condition}: every instruction answers ${code}, and messages are lost`, () => {
      const { machine, device, clock } = toldRoom();
      device.nqap(Q47, 1n, new Uint8Array(1));
      machine.setCondition(5, condition);
      assert.equal(device.nqap(Q47, 1n, new Uint8Array(1)).code, code);
      assert.equal(device.dqap(Q47, 100).status.code, code);
      for (const fc of [PQAP_FUNCTION.TAPQ, PQAP_FUNCTION.RAPQ, PQAP_FUNCTION.ZAPQ, PQAP_FUNCTION.AQIC]) {
        assert.equal(
          (device.pqap(pqapRegister0(fc, Q47), 0x8000_0000_0000n, 0x7000n).gr1 >> 16n) & 0xffn,
          BigInt(code),
        );
      }
      assert.equal(testQueue(device, 0x0647), READY);
      machine.setCondition(5, 'online');
      clock.run();
      assert.equal(testQueue(device, Q47), READY);
    });

    test(`${condition}: close gives the page back without AQIC`, async () => {
      const asked: string[] = [];
      const { machine, device, pins } = toldRoom({ respond: (instruction) => void asked.push(instruction) });
      enable(device, Q47, { isc: 3, nib: 0x7000n });
      machine.setCondition(5, condition);
      asked.length = 0;
      await device.close();
      assert.ok(asked.length > 0 && asked.every((instruction) => instruction === 'ZAPQ'), asked.join());
      assert.deepEqual([pins.held, pins.foreign], [[], []]);
    });
  }
});

test('whatever the host does, a guest sees whole adapters of its own queues, and holds pages for these only', async () => {
  const index = fc.constantFrom(5, 6, 7);
  const domain = fc.constantFrom(0x47, 0x48);
  type Step = (device: ApDevice) => void;
  const attempt = (act: () => void): void => {
    try {
      act();
    } catch (error) {
      assert.ok(error instanceof PinionError);
    }
  };
  const step: fc.Arbitrary<Step> = fc.oneof(
    index.map(
      (n): Step =>
        ({ machine }) =>
          machine.unplugAdapter(n),
    ),
    index.map(
      (n): Step =>
        ({ machine }) =>
          machine.plugAdapter(n),
    ),
    fc.tuple(index, domain).map(
      ([n, d]): Step =>
        ({ machine }) =>
          attempt(() => machine.unbindQueue(makeApqn(n, d))),
    ),
    fc.tuple(index, domain).map(
      ([n, d]): Step =>
        ({ machine }) =>
          attempt(() => machine.bindQueue(makeApqn(n, d))),
    ),
    index.map(
      (n): Step =>
        (device) =>
          attempt(() => device.assignAdapter(n)),
    ),
    index.map(
      (n): Step =>
        (device) =>
          attempt(() => device.unassignAdapter(n)),
    ),
    domain.map(
      (n): Step =>
        (device) =>
          attempt(() => device.assignDomain(n)),
    ),
    domain.map(
      (n): Step =>
        (device) =>
          attempt(() => device.unassignDomain(n)),
    ),
    fc.tuple(fc.constantFrom('+', '-'), index).map(
      ([sign, n]): Step =>
        ({ machine }) =>
          attempt(() => machine.writeHostMask('apmask', `${sign}${n}`)),
    ),
    fc.tuple(fc.constantFrom('+', '-'), domain).map(
      ([sign, n]): Step =>
        ({ machine }) =>
          attempt(() => machine.writeHostMask('aqmask', `${sign}${n}`)),
    ),
    fc.tuple(index, domain, fc.constantFrom(0x7000n, 0x9000n)).map(
      ([n, d, nib]): Step =>
        (device) =>
          void enable(device, makeApqn(n, d), { isc: 1, nib }),
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const { device, pins } = openRoom(BOTH);
      for (const act of steps) {
        act(device);
        const seen = apqnsOf(device.guestMatrix);
        const wanted = apqnsOf(device.matrix);
        const adapters = new Set(seen.map(apqnAdapter));
        assert.ok(seen.every((apqn) => wanted.includes(apqn) && device.machine.bound(apqn) !== undefined));
        const there = wanted.filter((apqn) => device.machine.shown.domains.has(apqn & 0xff));
        assert.deepEqual(
          there.filter((apqn) => adapters.has(apqnAdapter(apqn))),
          seen,
        );
        assert.ok(device.interrupts.every(({ apqn }) => seen.includes(apqn)));
        assert.equal(
          pins.held.reduce((sum, [, count]) => sum + count, 0),
          device.interrupts.length,
        );
      }
      await device.close();
      assert.deepEqual([pins.held, pins.foreign], [[], []]);
    }),
    { numRuns: 60 },
  );
});
