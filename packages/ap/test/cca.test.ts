/** CCA coprocessors: type 6 in, type 86 out. */
import assert from 'node:assert/strict';
import { constants, createPrivateKey, createPublicKey, privateDecrypt, publicEncrypt } from 'node:crypto';
import { describe, test } from 'node:test';
import { answer, CCA_REASON, type CcaRequest, decodeCcaReply, encodeCcaRequest, REPLY_CODE } from '@pinion/ap';
import fc from 'fast-check';
import { KEYS } from './keys.js';
import { openRoom, Q47 } from './machine-room.js';

const DOMAIN = 0x47;
const padding = constants.RSA_NO_PADDING;
const bytes = (base64: string): Uint8Array => Buffer.from(base64, 'base64url');
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');

/** Sends one message to a queue of a CCA card and returns the raw reply. */
function send(message: Uint8Array): Uint8Array {
  const { device, clock } = openRoom({ mode: 'cca' });
  device.nqap(Q47, 1n, message);
  clock.run();
  return device.dqap(Q47, 12_288).message;
}

type Key = (typeof KEYS)[keyof typeof KEYS];
const encrypt = (key: Key, message: Uint8Array): Extract<CcaRequest, { verb: 'encrypt' }> => ({
  verb: 'encrypt',
  domain: DOMAIN,
  key: { form: 'ME', exponent: bytes(key.e), modulus: bytes(key.n) },
  message,
});
const decrypt = (key: Key, message: Uint8Array): Extract<CcaRequest, { verb: 'decrypt' }> => ({
  verb: 'decrypt',
  domain: DOMAIN,
  key: {
    form: 'CRT',
    p: bytes(key.p),
    q: bytes(key.q),
    dp: bytes(key.dp),
    dq: bytes(key.dq),
    u: bytes(key.qi),
    modulusBytes: bytes(key.n).length,
  },
  message,
});
const random = (length: number): CcaRequest => ({ verb: 'random', domain: DOMAIN, length });

describe('the same result as node:crypto', () => {
  for (const bits of [1024, 2048, 4096] as const) {
    const key = KEYS[bits];
    const clear = new Uint8Array(bits / 8).map((_, index) => (index === 0 ? 0 : (index * 41 + bits) & 0xff));
    const cipher = publicEncrypt({ key: createPublicKey({ key, format: 'jwk' }), padding }, clear);
    const signed = privateDecrypt({ key: createPrivateKey({ key, format: 'jwk' }), padding }, clear);

    const pairs: readonly [what: string, request: CcaRequest, result: Uint8Array][] = [
      ['PK encrypts', encrypt(key, clear), cipher],
      ['PD decrypts', decrypt(key, cipher), clear],
      ['PD signs', decrypt(key, clear), signed],
    ];
    for (const [what, request, result] of pairs) {
      test(`${bits} bits: ${what}`, () => {
        assert.deepEqual(decodeCcaReply(send(encodeCcaRequest(request))), {
          ok: true,
          result: Uint8Array.from(result),
        });
      });
    }
  }

  test('RL gives as many random bytes as asked for, others each time', () => {
    const results = [1, 32, 32, 8192].map((length) => decodeCcaReply(send(encodeCcaRequest(random(length)))));
    assert.deepEqual(
      results.map((reply) => reply.ok && reply.result.length),
      [1, 32, 32, 8192],
    );
    assert.notDeepEqual(results[1], results[2]);
  });
});

describe('the wire', () => {
  test('a request for random bytes, byte for byte', () => {
    const message = encodeCcaRequest(random(0x20));
    const view = new DataView(message.buffer, message.byteOffset);
    assert.equal(message.length, 0x58 + 220 + 2 + 10 + 2 + 2);
    assert.equal(hex(message.subarray(0, 0x10)), `0006${'00'.repeat(14)}`);
    assert.equal(hex(message.subarray(0x10, 0x14)), '00000058');
    assert.equal(hex(message.subarray(0x20, 0x30)), `4341${'00'.repeat(14)}`);
    assert.equal(hex(message.subarray(0x34, 0x36)), hex(Buffer.from('RL')));
    assert.deepEqual([view.getUint32(0x38), view.getUint32(0x4c)], [message.length - 0x58, 0x20]);
    const cprb = message.subarray(0x58);
    assert.equal(hex(cprb.subarray(0, 8)), `00dc02000000${hex(Buffer.from('T2'))}`);
    assert.equal(new DataView(cprb.buffer, cprb.byteOffset).getUint16(170), DOMAIN);
    assert.equal(hex(cprb.subarray(220)), hex(Buffer.from('RL\0\x0aRANDOM  \0\x02\0\x02', 'latin1')));
  });

  test('the key block of a private key: lengths, padding and the part that hides the modulus', () => {
    const key = KEYS[1024];
    const message = encodeCcaRequest(decrypt(key, new Uint8Array(128)));
    const block = message.subarray(0x58 + 220 + 2 + 10 + 2 + 128);
    const view = new DataView(block.buffer, block.byteOffset);
    // half 64, long 72: 3 * 72 + 2 * 64 = 344, a multiple of 8
    const size = 6 + 8 + 132 + 344 + 128 + 12 + 3;
    assert.deepEqual([block.length, view.getUint16(0), view.getUint16(2)], [size, size, size - 2]);
    assert.deepEqual([block[6], view.getUint16(8)], [0x1e, size - 6]);
    const section = block.subarray(14);
    const at = new DataView(section.buffer, section.byteOffset);
    assert.deepEqual([section[0], at.getUint16(2), section[28]], [0x08, 132 + 344 + 128, 0x40]);
    assert.deepEqual(
      [54, 56, 58, 60, 62, 64, 70].map((offset) => at.getUint16(offset)),
      [72, 64, 72, 64, 72, 128, 0],
    );
    assert.equal(hex(section.subarray(132 + 8, 132 + 72)), hex(bytes(key.p)));
    assert.ok(section.subarray(132 + 344, 132 + 344 + 128).every((byte) => byte === 0xff));
    assert.equal(hex(section.subarray(132 + 344 + 128)), '0400000f0000' + '0003' + '0400' + '0000' + '010001');
  });

  test('a reply of type 86: header, CPRB, function code, result', () => {
    const reply = send(encodeCcaRequest(encrypt(KEYS[1024], new Uint8Array(128).fill(1, 100))));
    const view = new DataView(reply.buffer, reply.byteOffset);
    assert.equal(hex(reply.subarray(0, 8)), '0086020000000000');
    assert.deepEqual(
      [16, 20, 24, 28].map((offset) => view.getUint32(offset)),
      [220 + 2 + 2 + 2 + 128, 48, 0, 0],
    );
    assert.deepEqual([view.getUint16(48 + 144), view.getUint16(48 + 146)], [0, 0]);
    assert.equal(hex(reply.subarray(48 + 220, 48 + 226)), `${hex(Buffer.from('PK'))}00020082`);
  });

  const broken: readonly [what: string, reply: Uint8Array][] = [
    ['nothing', new Uint8Array(0)],
    ['a header alone', Uint8Array.of(0, 0x86, 2, 0, 0, 0, 0, 0)],
    ['an answer of an accelerator', new Uint8Array(16).fill(0x80, 1, 2)],
    ['parts that lie outside', send(encodeCcaRequest(random(32))).subarray(0, 300)],
  ];
  for (const [what, reply] of broken) {
    test(`decodeCcaReply refuses ${what}`, () => {
      assert.throws(() => decodeCcaReply(reply), { name: 'AP_BAD_REPLY', errno: 'EBADMSG' });
    });
  }

  test('decodeCcaReply reads every kind of refusal', () => {
    assert.deepEqual(decodeCcaReply(Uint8Array.of(0, 0x86, 1, 0, 0x42, 0, 0, 0)), { ok: false, code: 0x42 });
    assert.deepEqual(decodeCcaReply(Uint8Array.of(0, 0x88, 0, 0, 0x10, 0, 0, 0)), { ok: false, code: 0x10 });
  });
});

describe('refusals', () => {
  const good = (): Uint8Array => encodeCcaRequest(encrypt(KEYS[1024], new Uint8Array(128).fill(1, 1)));
  const patched = (offset: number, ...values: number[]): Uint8Array => {
    const message = Uint8Array.from(good());
    message.set(values, offset);
    return message;
  };
  const CPRB = 0x58;
  const PARAMETERS = CPRB + 220;

  const envelope: readonly (readonly [what: string, message: Uint8Array, code: number])[] = [
    ['nothing at all', new Uint8Array(0), REPLY_CODE.MESSAGE_TYPE],
    ['type 50', patched(1, 0x50), REPLY_CODE.MESSAGE_TYPE],
    ['half a header', good().subarray(0, 40), REPLY_CODE.MALFORMED],
    ...[0, 2, 11, 0x14, 0x1f, 0x22, 0x32, 0x36, 0x3c, 0x47].map(
      (offset) => [`reserved byte ${offset}`, patched(offset, 1), REPLY_CODE.RESERVED_FIELD] as const,
    ),
    ['a CPRB elsewhere', patched(0x13, 0x60), REPLY_CODE.MALFORMED],
    ['another agent', patched(0x20, 0x58, 0x43), REPLY_CODE.INVALID_COMMAND],
    ['a length that is not the message’s', patched(0x3b, 1), REPLY_CODE.MESSAGE_LENGTH],
    ['another CPRB length', patched(CPRB + 1, 0xdd), REPLY_CODE.MALFORMED],
    ['another CPRB version', patched(CPRB + 2, 4), REPLY_CODE.MALFORMED],
    ['another function', patched(CPRB + 7, 0x34), REPLY_CODE.MALFORMED],
    ['a parameter length that is wrong', patched(CPRB + 15, 1), REPLY_CODE.MESSAGE_LENGTH],
    ['two different verbs', patched(PARAMETERS, 0x50, 0x44), REPLY_CODE.MALFORMED],
    ['another domain', patched(CPRB + 171, 0x48), REPLY_CODE.INVALID_DOMAIN],
    ['no room for any reply', patched(0x48, 0, 0, 0, 10), REPLY_CODE.PACKET_TRUNCATED],
    ['room for a refusal only', patched(0x48, 0, 0, 0, 230), REPLY_CODE.PACKET_TRUNCATED],
    ['no random bytes', encodeCcaRequest(random(0)), REPLY_CODE.ZERO_BUFFER],
  ];
  for (const [what, message, code] of envelope) {
    test(`${what}: type 82, code ${code.toString(16)}`, () => {
      assert.equal(hex(send(message)), `00820000${code.toString(16)}000000`);
    });
  }

  test('an unknown verb: type 82, code 30', () => {
    const message = patched(PARAMETERS, 0x58, 0x58);
    message.set([0x58, 0x58], 0x34);
    assert.equal(hex(send(message)), '0082000030000000');
  });

  const key = encrypt(KEYS[1024], new Uint8Array(0)).key;
  const crt = decrypt(KEYS[1024], new Uint8Array(0)).key;
  const one = new Uint8Array(128).fill(1, 127);
  const meWith = (change: object, message: Uint8Array = one): Uint8Array =>
    encodeCcaRequest({ verb: 'encrypt', domain: DOMAIN, key: { ...key, ...change }, message });
  const crtWith = (change: object, message: Uint8Array = one): Uint8Array =>
    encodeCcaRequest({ verb: 'decrypt', domain: DOMAIN, key: { ...crt, ...change }, message });
  const KEY_BLOCK = PARAMETERS + 2 + 10 + 2 + 128;

  const inside: readonly [what: string, message: Uint8Array, reason: number][] = [
    ['another rule', patched(PARAMETERS + 4, 0x58), CCA_REASON.RULE],
    ['a rule block of no length', patched(PARAMETERS + 2, 0, 0), CCA_REASON.LENGTH],
    ['blocks that end elsewhere', patched(PARAMETERS + 3, 9), CCA_REASON.LENGTH],
    ['a message shorter than the modulus', meWith({}, new Uint8Array(127)), CCA_REASON.LENGTH],
    ['a message longer than the modulus', crtWith({}, new Uint8Array(129)), CCA_REASON.LENGTH],
    ['a message equal to the modulus', meWith({}, bytes(KEYS[1024].n)), CCA_REASON.DATA],
    ['a message above p * q', crtWith({}, new Uint8Array(128).fill(0xff)), CCA_REASON.DATA],
    ['too many random bytes', encodeCcaRequest(random(8193)), CCA_REASON.LENGTH],
    ['no key token', patched(KEY_BLOCK + 6, 0x1f), CCA_REASON.KEY],
    ['a token length that is wrong', patched(KEY_BLOCK + 9, 1), CCA_REASON.KEY],
    ['an unknown section', patched(KEY_BLOCK + 14, 9), CCA_REASON.KEY],
    ['a section length that is wrong', patched(KEY_BLOCK + 17, 1), CCA_REASON.KEY],
    ['an exponent longer than the modulus', meWith({ exponent: new Uint8Array(129).fill(1) }), CCA_REASON.KEY],
    ['exponent 0', meWith({ exponent: Uint8Array.of(0) }), CCA_REASON.KEY],
    ['no exponent', meWith({ exponent: new Uint8Array(0) }), CCA_REASON.KEY],
    ['an even modulus', meWith({ modulus: new Uint8Array(128).fill(0xfe) }), CCA_REASON.KEY],
    ['no modulus', meWith({ modulus: new Uint8Array(0) }, new Uint8Array(0)), CCA_REASON.KEY],
    [
      'a modulus above 4096 bits',
      meWith({ modulus: new Uint8Array(513).fill(1) }, new Uint8Array(513)),
      CCA_REASON.KEY,
    ],
    ['p 0', crtWith({ p: Uint8Array.of(0) }), CCA_REASON.KEY],
    ['an even q', crtWith({ q: Uint8Array.of(6) }), CCA_REASON.KEY],
    [
      'a modulus that is longer than it says',
      crtWith({ modulusBytes: 64 }, new Uint8Array(64).fill(1)),
      CCA_REASON.KEY,
    ],
  ];
  for (const [what, message, rscode] of inside) {
    test(`${what}: CCA return code 8, reason ${rscode}`, () => {
      assert.deepEqual(decodeCcaReply(send(message)), { ok: false, rtcode: 8, rscode });
    });
  }

  test('an encrypt with a private key, a decrypt with a public one', () => {
    for (const [from, to] of [
      [meWith({}), 'PD'],
      [crtWith({}), 'PK'],
    ] as const) {
      const message = Uint8Array.from(from);
      for (const at of [0x34, PARAMETERS]) message.set(Buffer.from(to), at);
      message.set(Buffer.from(to === 'PD' ? 'ZERO-PAD' : 'MRP     '), PARAMETERS + 4);
      assert.deepEqual(decodeCcaReply(send(message)), { ok: false, rtcode: 8, rscode: CCA_REASON.KEY });
    }
  });

  test('each kind of card refuses the other’s messages', () => {
    const { device, clock } = openRoom();
    device.nqap(Q47, 1n, good());
    clock.run();
    assert.equal(hex(device.dqap(Q47, 100).message), '0082000020000000');
  });

  test('no message makes the card throw or fall silent', () => {
    const bases = [good(), crtWith({}), encodeCcaRequest(random(16))].map((base) => Uint8Array.from(base));
    fc.assert(
      fc.property(fc.constantFrom(...bases), fc.nat(), fc.uint8Array({ maxLength: 12 }), (base, at, noise) => {
        const message = Uint8Array.from(base);
        const offset = at % message.length;
        message.set(noise.subarray(0, message.length - offset), offset);
        const reply = answer({ mode: 'cca', domain: DOMAIN, message });
        assert.ok(reply[1] === 0x86 || reply[1] === 0x82, `type ${reply[1]}`);
        decodeCcaReply(reply);
      }),
      { numRuns: 300 },
    );
  });
});
