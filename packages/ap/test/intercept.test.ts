/** What a PQAP meets before its queue does: the order of handle_pqap(). And QCI, TAPQ, BAPQ, AAPQ, QACT. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type ApFacilities,
  CONFIG_INFO_SIZE,
  createApDriver,
  decodeConfigInfo,
  decodeQueueInfo,
  formatMatrix,
  PQAP_FUNCTION,
  pqapRegister0,
} from '@pinion/ap';
import { catalogue } from '@pinion/core';
import { FakeGuest, MACHINE, makeDevice, openRoom, Q47, type Room } from './machine-room.js';

const { TAPQ, AQIC, QCI, QACT, BAPQ, AAPQ } = PQAP_FUNCTION;
const OPERATION = 'AP_OPERATION_EXCEPTION';
const PRIVILEGED = 'AP_PRIVILEGED_OPERATION';
const SPECIFICATION = 'AP_SPECIFICATION_EXCEPTION';
const IRQ_ON = 0x8000_0000_0003n;

/** A guest that lacks something, with its device open or closed. */
function roomOf(facilities: ApFacilities, more: { problem?: boolean; open?: boolean; apxa?: boolean } = {}): Room {
  const small = more.apxa === false ? { adapters: [5], domains: [7], maxAdapter: 63, maxDomain: 15 } : {};
  const room = makeDevice(
    createApDriver({
      ...MACHINE,
      matrix: { adapters: [5], domains: [0x47] },
      ...small,
      ...(more.apxa === false ? { matrix: {} } : {}),
    }),
  );
  const guest = Object.assign(new FakeGuest(), { facilities, problemState: () => more.problem === true });
  room.device.setGuest(guest);
  if (more.open !== false) room.device.open();
  return { ...room, guest };
}

describe('the order of checks', () => {
  // Each row fails at its own step and at all later ones.
  const everything = { problem: true, open: false, apxa: false };
  const rows: readonly [what: string, room: () => Room, gr0: bigint, answer: string | bigint][] = [
    ['no AP instructions', () => roomOf({ instructions: false }, everything), 0x06ff_4747n, OPERATION],
    ['a function that does not exist', () => roomOf({}, everything), 0x06ff_4747n, OPERATION],
    ['problem state', () => roomOf({}, everything), 0x03ff_4747n, PRIVILEGED],
    ['reserved bits', () => roomOf({}, { ...everything, problem: false }), 0x037f_0000n, SPECIFICATION],
    ['the T bit without facility 15', () => roomOf({ test: false }, { open: false }), 0x0080_0000n, SPECIFICATION],
    ['an adapter above 63 without APXA', () => roomOf({}, { apxa: false, open: false }), 0x0300_4000n, SPECIFICATION],
    ['a domain above 15 without APXA', () => roomOf({}, { apxa: false, open: false }), 0x0300_0010n, SPECIFICATION],
    [
      'AQIC without facility 65',
      () => roomOf({ queueInterrupts: false }, { open: false }),
      0x0300_0547n,
      SPECIFICATION,
    ],
    ['a closed device', () => roomOf({ delivery: false }, { open: false }), 0x0300_0547n, 0x0001_0000n],
    ['AQIC without delivery', () => roomOf({ delivery: false }), 0x0300_0647n, OPERATION],
    ['a queue of somebody else', () => roomOf({}), 0x0300_0647n, 0x0001_0000n],
    [
      'the T bit with facility 15',
      () => roomOf({ queueInterrupts: false, delivery: false }),
      0x0080_0547n,
      0x8000_0000n,
    ],
  ];
  for (const [what, make, gr0, answer] of rows) {
    test(`${what}: ${answer}`, () => {
      const { device, pins } = make();
      const pqap = () => device.pqap(gr0, IRQ_ON, 0x7000n);
      if (typeof answer === 'string') assert.throws(pqap, { name: answer });
      else assert.equal(pqap().gr1, answer);
      assert.deepEqual(pins.held, []);
    });
  }

  test('problem state may not use NQAP and DQAP either', () => {
    const { device } = roomOf({}, { problem: true });
    assert.throws(() => device.nqap(Q47, 1n, new Uint8Array(1)), { name: PRIVILEGED, errno: 'EPERM' });
    assert.throws(() => device.dqap(Q47, 1), { name: PRIVILEGED });
  });
});

describe('what the guest is told of its queues', () => {
  test('TAPQ of a CCA card', () => {
    const { device } = openRoom({ mode: 'cca', depth: 16, maxMessage: 4096 });
    const { gr2 } = device.pqap(pqapRegister0(TAPQ, Q47), 0n, 0n);
    assert.equal(gr2, 0x7200_0000_0eff_010fn); // mex4k, crt4k, CCA, APXA; type 14; domains up to 255; 4 KiB; depth 16
    assert.deepEqual(decodeQueueInfo(gr2), { mode: 'cca', type: 14, depth: 16, maxMessage: 4096 });
    assert.equal(decodeQueueInfo(0n).mode, 'other');
  });

  test('cards of one machine may differ', () => {
    const { device } = openRoom({ adapters: [{ adapter: 5, type: 10, depth: 3, maxMessage: 8192 }, 6] });
    const info = (apqn: number) => decodeQueueInfo(device.pqap(BigInt(apqn), 0n, 0n).gr2);
    assert.deepEqual(info(Q47), { mode: 'accelerator', type: 10, depth: 3, maxMessage: 8192 });
    device.assignAdapter(6);
    assert.deepEqual(info(0x0647), { mode: 'accelerator', type: 14, depth: 8, maxMessage: 12_288 });
  });

  for (const code of [QACT, BAPQ, AAPQ]) {
    test(`function ${code} answers 16: the facility is not installed`, () => {
      const { device, pins } = openRoom();
      assert.deepEqual(device.pqap(pqapRegister0(code, Q47), IRQ_ON, 9n), { cc: 3, gr1: 0x8016_0000n, gr2: 9n });
      assert.deepEqual(pins.held, []);
    });
  }
});

describe('QCI', () => {
  const fault = catalogue('TEST', { FAULT: ['EFAULT', () => 'no memory there'] });

  /** A room whose guest memory keeps what was written. */
  function writingRoom(write: (at: bigint, bytes: Uint8Array) => void): Room {
    const driver = createApDriver({
      ...MACHINE,
      matrix: { adapters: [5, 6, 7], domains: [0x47], controlDomains: [0x48] },
    });
    const room = makeDevice(driver, 'mdev-1', { read: () => {}, write });
    room.device.open();
    return room;
  }

  test('stores the guest’s masks and the machine’s limits', () => {
    const blocks: [bigint, Uint8Array][] = [];
    const { device } = writingRoom((at, bytes) => blocks.push([at, bytes]));
    assert.deepEqual(device.pqap(pqapRegister0(QCI, 0), 0n, 0x5000n), { cc: 0, gr1: 0n, gr2: 0x5000n });
    const [[at, block] = assert.fail()] = blocks;
    assert.deepEqual([at, block.length], [0x5000n, CONFIG_INFO_SIZE]);
    assert.deepEqual([...block.subarray(0, 18)], [0x40, 0, 0, 0, 255, 255, ...Array(10).fill(0), 0x06, 0]); // 5 and 6; 7 is not there
    assert.equal(block[48 + 8], 0x01);
    assert.equal(block[80 + 9], 0x80);
    assert.deepEqual(formatMatrix(decodeConfigInfo(block)), ['05.0047', '06.0047']);
  });

  test('where the guest has no memory: addressing exception, with the cause', () => {
    const { device } = writingRoom(() => {
      throw fault.FAULT({});
    });
    assert.throws(() => device.pqap(pqapRegister0(QCI, 0), 0n, 0x5000n), {
      name: 'AP_ADDRESSING_EXCEPTION',
      errno: 'EFAULT',
      message: /0x5000/,
    });
  });

  test('a bug is not a guest’s fault', () => {
    const { device } = writingRoom(() => {
      throw new TypeError('a bug');
    });
    assert.throws(() => device.pqap(pqapRegister0(QCI, 0), 0n, 0x5000n), TypeError);
  });

  test('of a closed device answers 01', () => {
    const { device } = roomOf({}, { open: false });
    assert.deepEqual(device.pqap(pqapRegister0(QCI, 0), 0n, 0n), { cc: 3, gr1: 0x0001_0000n, gr2: 0n });
  });
});

test('AQIC of a guest without delivery pins nothing', () => {
  const { device, pins } = roomOf({ delivery: false });
  assert.throws(() => device.pqap(pqapRegister0(AQIC, Q47), IRQ_ON, 0x7000n), { name: OPERATION, errno: 'EOPNOTSUPP' });
  assert.deepEqual(pins.held, []);
});
