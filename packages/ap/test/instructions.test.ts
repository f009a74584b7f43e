import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type ApStatus,
  conditionCode,
  createApDriver,
  PQAP_FUNCTION,
  pqapRegister0,
  RESPONSE,
  type ResponseCode,
  statusWord,
} from '@pinion/ap';
import { makeDevice, openRoom, Q47, test as testQueue } from './machine-room.js';

const FOREIGN = 0x0647;
const message = (length = 1): Uint8Array => new Uint8Array(length).fill(0xee);

describe('status words', () => {
  const idle: ApStatus = {
    code: RESPONSE.NORMAL,
    empty: false,
    replies: false,
    full: false,
    async: false,
    irqEnabled: false,
  };
  const words: readonly [Partial<ApStatus>, word: number, cc: number][] = [
    [{}, 0, 0],
    [{ empty: true }, 0x8000_0000, 0],
    [{ replies: true }, 0x4000_0000, 0],
    [{ full: true }, 0x2000_0000, 0],
    [{ async: true }, 0x0200_0000, 0],
    [{ irqEnabled: true }, 0x0100_0000, 0],
    [{ empty: true, irqEnabled: true, code: RESPONSE.NO_PENDING_REPLY }, 0x8110_0000, 3],
    [{ code: RESPONSE.QUEUE_NOT_AVAILABLE }, 0x0001_0000, 3],
    [{ code: RESPONSE.MESSAGE_TOO_BIG }, 0x0015_0000, 3],
  ];
  for (const [change, word, cc] of words) {
    test(`0x${word.toString(16)} is ${JSON.stringify(change)}`, () => {
      assert.equal(statusWord({ ...idle, ...change }), word);
      assert.equal(conditionCode({ ...idle, ...change }), cc);
    });
  }
});

describe('PQAP', () => {
  test('TAPQ tells the state and what the queue is', () => {
    const { device } = openRoom({ depth: 4 });
    // mex4k, crt4k, accelerator, APXA; type 14; domains up to 255; 3 x 4 KiB; depth 4
    assert.deepEqual(device.pqap(0x547n, 0n, 0n), { cc: 0, gr1: 0x8000_0000n, gr2: 0x6a00_0000_0eff_0303n });
    assert.deepEqual(device.pqap(0x80_0547n, 0n, 0n).gr2, 0x6a00_0000_0eff_0303n); // with the T bit
  });

  test('TAPQ of a small machine says so', () => {
    const driver = createApDriver({
      adapters: [63],
      domains: [15],
      maxAdapter: 63,
      maxDomain: 15,
      depth: 16,
      maxMessage: 61440,
      matrix: { adapters: [63], domains: [15] },
    });
    const { device } = makeDevice(driver);
    device.open();
    assert.equal(device.pqap(0x3f0fn, 0n, 0n).gr2, 0x6800_0000_0e0f_0f0fn);
    for (const gr0 of [0x4000n, 0x0010n]) {
      assert.throws(() => device.pqap(gr0, 0n, 0n), { name: 'AP_SPECIFICATION_EXCEPTION', errno: 'EINVAL' });
    }
  });

  const { QCI: _, ...ofQueues } = PQAP_FUNCTION;
  for (const code of Object.values(ofQueues)) {
    test(`function ${code} of a queue that the guest does not have answers 01, cc 3`, () => {
      const { device, pins } = openRoom();
      const answer = device.pqap(pqapRegister0(code, FOREIGN), 0x8000_0000_0000n, 0x7000n);
      assert.deepEqual(answer, { cc: 3, gr1: 0x0001_0000n, gr2: 0x7000n });
      assert.deepEqual(pins.held, []);
    });
  }

  for (const code of [6, 9, 0xff]) {
    test(`function ${code} is an operation exception, before anything else is looked at`, () => {
      const { device } = openRoom();
      assert.throws(() => device.pqap(pqapRegister0(code, FOREIGN) | 0x7f_0000n, 0n, 0n), {
        name: 'AP_OPERATION_EXCEPTION',
        errno: 'EOPNOTSUPP',
      });
    });
  }

  for (const bit of [16n, 17n, 18n, 19n, 20n, 21n, 22n]) {
    test(`reserved bit ${bit} of register 0 is a specification exception, and nothing happens`, () => {
      const { device, pins } = openRoom();
      const gr0 = pqapRegister0(PQAP_FUNCTION.AQIC, Q47) | (1n << bit);
      assert.throws(() => device.pqap(gr0, 0x8000_0000_0000n, 0x7000n), { name: 'AP_SPECIFICATION_EXCEPTION' });
      assert.deepEqual(pins.held, []);
    });
  }
});

describe('NQAP and DQAP', () => {
  test('a message is answered later, never on the stack of NQAP', () => {
    const { device, clock } = openRoom();
    assert.equal(statusWord(device.nqap(Q47, 1n, message())), 0);
    assert.equal(statusWord(device.dqap(Q47, 100).status), 0x0010_0000);
    clock.run();
    assert.equal(testQueue(device, Q47), 0x4000_0000n);
    const { status, psmid, message: reply, remaining } = device.dqap(Q47, 100);
    assert.equal(statusWord(status), 0x8000_0000);
    assert.deepEqual([psmid, reply.length, remaining], [1n, 8, 0]);
  });

  test('replies come in the order of the messages, with all 64 bits of their identifiers', () => {
    const { device, clock } = openRoom();
    const psmids = [0n, 0xffff_ffff_ffff_ffffn, 0x0123_4567_89ab_cdefn];
    for (const psmid of psmids) device.nqap(Q47, psmid, message());
    clock.run();
    assert.deepEqual(
      psmids.map(() => device.dqap(Q47, 100).psmid),
      psmids,
    );
  });

  test('queues do not see each other’s messages', () => {
    const { device, clock } = openRoom();
    device.nqap(Q47, 1n, message());
    clock.run();
    assert.equal(device.dqap(0x0548, 100).status.code, RESPONSE.NO_PENDING_REPLY);
    assert.equal(device.dqap(Q47, 100).psmid, 1n);
  });

  test('a message counts until its reply was taken: then 10', () => {
    const { device, clock } = openRoom({ depth: 2 });
    device.nqap(Q47, 1n, message());
    assert.equal(statusWord(device.nqap(Q47, 2n, message())), 0x2000_0000);
    assert.equal(statusWord(device.nqap(Q47, 3n, message())), 0x2010_0000);
    clock.step();
    assert.equal(statusWord(device.nqap(Q47, 3n, message())), 0x6010_0000);
    device.dqap(Q47, 100);
    assert.equal(device.nqap(Q47, 3n, message()).code, RESPONSE.NORMAL);
  });

  test('a message may change after NQAP: the queue has a copy', () => {
    const { device, clock } = openRoom();
    const bytes = new Uint8Array(16).fill(0x50);
    device.nqap(Q47, 1n, bytes);
    bytes.fill(0);
    clock.run();
    assert.equal(device.dqap(Q47, 100).message[4], 0x23); // a zeroed message would get 20
  });

  test('a reply that does not fit comes in pieces', () => {
    const { device, clock } = openRoom();
    device.nqap(Q47, 7n, message());
    device.nqap(Q47, 8n, message());
    clock.run();
    const whole = [0x00, 0x82, 0, 0, 0x40, 0, 0, 0];
    assert.deepEqual(device.dqap(Q47, 0).remaining, 8);
    const head = device.dqap(Q47, 5);
    assert.deepEqual([head.psmid, [...head.message], head.remaining], [7n, whole.slice(0, 5), 3]);
    const tail = device.dqap(Q47, 5);
    assert.deepEqual([tail.psmid, [...tail.message], tail.remaining], [7n, whole.slice(5), 0]);
    assert.equal(device.dqap(Q47, 8).psmid, 8n);
  });

  test('the longest message is accepted, one byte more is 15, and that comes before 10', () => {
    const { device } = openRoom({ depth: 1, maxMessage: 4096 });
    assert.equal(device.nqap(Q47, 1n, message(4097)).code, RESPONSE.MESSAGE_TOO_BIG);
    assert.equal(device.nqap(Q47, 1n, message(4096)).code, RESPONSE.NORMAL);
    assert.equal(device.nqap(Q47, 1n, message(4097)).code, RESPONSE.MESSAGE_TOO_BIG);
    assert.equal(device.nqap(Q47, 1n, message()).code, RESPONSE.QUEUE_FULL);
  });

  const strangers = [FOREIGN, -1, 0x10547, Number.NaN];
  for (const apqn of strangers) {
    test(`queue ${apqn} answers 01`, () => {
      const { device } = openRoom();
      const none: ResponseCode = RESPONSE.QUEUE_NOT_AVAILABLE;
      assert.equal(device.nqap(apqn, 1n, message(100_000)).code, none);
      assert.equal(device.dqap(apqn, 1).status.code, none);
    });
  }

  for (const max of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    test(`DQAP of ${max} bytes is refused and loses nothing`, () => {
      const { device, clock } = openRoom();
      device.nqap(Q47, 1n, message());
      clock.run();
      assert.throws(() => device.dqap(Q47, max), { name: 'AP_BAD_LENGTH', errno: 'EINVAL' });
      assert.equal(device.dqap(Q47, 100).message.length, 8);
    });
  }

  test('a reset forgets messages and replies', () => {
    const { device, clock } = openRoom();
    device.nqap(Q47, 1n, message());
    clock.run();
    device.nqap(Q47, 2n, message());
    device.pqap(pqapRegister0(PQAP_FUNCTION.ZAPQ, Q47), 0n, 0n);
    assert.equal(clock.pending, 0);
    assert.equal(testQueue(device, Q47), 0x8000_0000n);
    device.nqap(Q47, 3n, message());
    clock.run();
    assert.equal(device.dqap(Q47, 100).psmid, 3n);
  });
});
