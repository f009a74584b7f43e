import assert from 'node:assert/strict';
import {
  constants,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  privateDecrypt,
  publicEncrypt,
} from 'node:crypto';
import { describe, test } from 'node:test';
import { decodeReply, encodeRequest, REPLY_CODE, type RsaRequest } from '@pinion/ap';
import fc from 'fast-check';
import { KEYS } from './keys.js';
import { openRoom, Q47 } from './machine-room.js';

const padding = constants.RSA_NO_PADDING;
const bytes = (base64: string): Uint8Array => Buffer.from(base64, 'base64url');
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');
const number = (value: number | bigint): Uint8Array => {
  const digits = value.toString(16);
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
};

const value = (data: Uint8Array): bigint => BigInt(`0x${hex(data)}`);

/** Sends one message to a queue and returns the raw reply. */
function send(message: Uint8Array): Uint8Array {
  const { device, clock } = openRoom();
  device.nqap(Q47, 1n, message);
  clock.run();
  return device.dqap(Q47, 0x210).message;
}

const ask = (request: RsaRequest): Uint8Array => send(encodeRequest(request));

type Key = (typeof KEYS)[keyof typeof KEYS];
const me = (key: Key, exponent: 'e' | 'd', message: Uint8Array): RsaRequest => ({
  form: 'ME',
  exponent: bytes(key[exponent]),
  modulus: bytes(key.n),
  message,
});
const crt = (key: Key, message: Uint8Array): Extract<RsaRequest, { form: 'CRT' }> => ({
  form: 'CRT',
  p: bytes(key.p),
  q: bytes(key.q),
  dp: bytes(key.dp),
  dq: bytes(key.dq),
  u: bytes(key.qi),
  message,
});

describe('message formats', () => {
  const formats: readonly [
    name: string,
    bits: 1024 | 2048 | 4096,
    make: (key: Key, message: Uint8Array) => RsaRequest,
    header: string,
  ][] = [
    ['MEB1', 1024, (key, message) => me(key, 'e', message), '0050019000000000' + '0001'],
    ['MEB2', 2048, (key, message) => me(key, 'e', message), '0050031000000000' + '0002'],
    ['MEB3', 4096, (key, message) => me(key, 'e', message), '0050061000000000' + '0003'],
    ['CRB1', 1024, crt, '005001d000000000' + '0011'],
    ['CRB2', 2048, crt, '0050039000000000' + '0012'],
    ['CRB3', 4096, crt, '0050071000000000' + '0013'],
  ];
  for (const [name, bits, make, header] of formats) {
    test(`${name} begins as the reference says and is as long as it says`, () => {
      const message = encodeRequest(make(KEYS[bits], Uint8Array.of(1)));
      assert.equal(hex(message.subarray(0, 16)), `${header}000000000000`);
      assert.equal(message.length, Buffer.from(header, 'hex').readUInt16BE(2));
      assert.equal(message.at(-1), 1);
    });
  }

  test('every field stands at its place, right-justified', () => {
    const exponent = Uint8Array.of(3);
    const modulus = Uint8Array.of(0x11, 0x22);
    const message = encodeRequest({ form: 'ME', exponent, modulus, message: Uint8Array.of(5) });
    const at = [...message.entries()].filter(([offset, byte]) => offset >= 16 && byte !== 0);
    assert.deepEqual(at, [
      [16 + 127, 3],
      [16 + 254, 0x11],
      [16 + 255, 0x22],
      [16 + 383, 5],
    ]);
    const key = { p: number(1), q: number(2), dp: number(3), dq: number(4), u: number(5) };
    const crtMessage = encodeRequest({ form: 'CRT', ...key, message: number(6) });
    const crtAt = [...crtMessage.entries()].filter(([offset, byte]) => offset >= 16 && byte !== 0);
    assert.deepEqual(
      crtAt,
      [1, 2, 3, 4, 5, 7].map((halves, index) => [16 + halves * 64 - 1, index + 1]),
    );
  });

  test('a reply of type 80 ends with the result, as long as the operand', () => {
    const request = { exponent: number(3), modulus: number(1001), message: number(10) };
    const reply = send(encodeRequest({ form: 'ME', ...request }));
    assert.equal(hex(reply), `00800090${'00'.repeat(12)}${'00'.repeat(126)}03e8`); // 10^3 mod 1001 = 1000
  });

  test('operands above 4096 bits have no format', () => {
    const long = new Uint8Array(513);
    const short = Uint8Array.of(1);
    assert.throws(() => encodeRequest({ form: 'ME', exponent: short, modulus: long, message: short }), {
      name: 'AP_OPERAND_TOO_LONG',
      errno: 'EINVAL',
    });
    const half = new Uint8Array(257);
    const key = { p: short, q: half, dp: short, dq: short, u: short };
    assert.throws(() => encodeRequest({ form: 'CRT', ...key, message: short }), { name: 'AP_OPERAND_TOO_LONG' });
  });

  const broken: readonly [what: string, reply: Uint8Array][] = [
    ['nothing', new Uint8Array(0)],
    ['half an error', Uint8Array.of(0, 0x82, 0, 0, 0x20)],
    ['another type', Uint8Array.of(0, 0x86, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['a header that is too short', Uint8Array.of(0, 0x80, 0, 8, 0, 0, 0, 0)],
    ['a length field that is wrong', Uint8Array.of(0, 0x80, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
  ];
  for (const [what, reply] of broken) {
    test(`decodeReply refuses ${what}`, () => {
      assert.throws(() => decodeReply(reply), { name: 'AP_BAD_REPLY', errno: 'EBADMSG' });
    });
  }

  test('decodeReply reads refusals of both types', () => {
    assert.deepEqual(decodeReply(Uint8Array.of(0, 0x82, 0, 0, 0x85, 0, 0, 0)), { ok: false, type: 0x82, code: 0x85 });
    assert.deepEqual(decodeReply(Uint8Array.of(0, 0x88, 0, 0, 0x10, 0, 0, 0)), { ok: false, type: 0x88, code: 0x10 });
  });
});

describe('the same result as node:crypto', () => {
  const resultOf = (request: RsaRequest): string => {
    const reply = decodeReply(ask(request));
    return reply.ok ? hex(reply.result) : assert.fail(`refused with 0x${reply.code.toString(16)}`);
  };

  for (const bits of [1024, 2048, 4096] as const) {
    const key = KEYS[bits];
    const privateKey = createPrivateKey({ key, format: 'jwk' });
    const publicKey = createPublicKey({ key, format: 'jwk' });
    const clear = new Uint8Array(bits / 8).map((_, index) => (index === 0 ? 0 : (index * 37 + bits) & 0xff));
    const cipher = publicEncrypt({ key: publicKey, padding }, clear);

    test(`${bits} bits: public exponent`, () => assert.equal(resultOf(me(key, 'e', clear)), hex(cipher)));
    test(`${bits} bits: private exponent`, () => assert.equal(resultOf(me(key, 'd', cipher)), hex(clear)));
    test(`${bits} bits: CRT`, () => {
      assert.equal(resultOf(crt(key, cipher)), hex(clear));
      assert.equal(resultOf(crt(key, clear)), hex(privateDecrypt({ key: privateKey, padding }, clear)));
    });
  }

  test('a fresh key, and its primes exchanged', () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const key = privateKey.export({ format: 'jwk' }) as unknown as Key; // why: an RSA key's JWK has these fields
    const clear = new Uint8Array(128).fill(0x2a, 1);
    const signed = hex(privateDecrypt({ key: privateKey, padding }, clear));
    assert.equal(resultOf(crt(key, clear)), signed);
    const { p, q, dp, dq } = crt(key, clear);
    const inverse = power(value(p) % value(q), value(q) - 2n, value(q)); // p^-1 mod q, by Fermat
    assert.equal(resultOf({ form: 'CRT', p: q, q: p, dp: dq, dq: dp, u: number(inverse), message: clear }), signed);
  });

  const key = KEYS[1024];
  const good = crt(key, Uint8Array.of(2));
  const strange: readonly [what: string, change: Partial<typeof good>][] = [
    ['a real key', {}],
    ['a u that is no inverse', { u: number(value(good.u) - 1n) }],
    ['a u above p', { u: number(value(good.u) + value(good.p)) }],
    ['exponents that do not belong together', { dp: number(3), dq: number(value(good.dq) - 2n) }],
    ['a dp without inverse', { dp: number(2) }],
    ['a p that is no prime', { p: number(value(good.p) + 2n) }],
    ['equal primes', { q: good.p, dq: good.dp }],
    ['small primes', { p: number(61), q: number(53), dp: number(53), dq: number(49), u: number(38) }],
  ];
  for (const [what, change] of strange) {
    test(`${what}: Garner's formula, whatever the numbers mean, the first and the second time`, () => {
      const request = { ...good, ...change };
      const [p, q, dp, dq, u] = [request.p, request.q, request.dp, request.dq, request.u].map(value);
      assert.ok(p && q && dp && dq && u);
      const [atP, atQ] = [power(2n % p, dp, p), power(2n % q, dq, q)];
      const expected = atQ + ((u * ((((atP - atQ) % p) + p) % p)) % p) * q;
      for (let time = 0; time < 2; time++) assert.equal(BigInt(`0x${resultOf(request)}`), expected);
    });
  }

  test('more keys than a card remembers', () => {
    const results = Array.from({ length: 40 }, (_, index) => resultOf({ ...good, u: number(index + 1) }));
    assert.equal(new Set(results).size, 40);
    assert.equal(resultOf({ ...good, u: number(1) }), results[0]);
  });

  test('small numbers by hand, leading zeros and all', () => {
    const odd = fc.bigInt({ min: 1n, max: 1n << 130n }).map((half) => 2n * half + 1n);
    const anything = fc.bigInt({ min: 1n, max: 1n << 131n });
    fc.assert(
      fc.property(odd, anything, anything, (modulus, exponent, message) => {
        const base = message % modulus;
        const request = { exponent: number(exponent), modulus: number(modulus), message: number(base) };
        const result = BigInt(`0x${resultOf({ form: 'ME', ...request })}`);
        assert.equal(result, power(base, exponent, modulus));
      }),
    );
  });
});

/** The definition, for small numbers. */
function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  if (exponent === 0n) return 1n % modulus;
  const half = power((base * base) % modulus, exponent >> 1n, modulus);
  return exponent & 1n ? (half * base) % modulus : half;
}

describe('refusals', () => {
  const good = { exponent: number(65537), modulus: number(0x1_0001_0001n), message: number(5) };
  const valid = (): Uint8Array => encodeRequest({ form: 'ME', ...good });
  const patched = (offset: number, byte: number): Uint8Array => {
    const message = valid();
    message[offset] = byte;
    return message;
  };
  const meWith = (change: Partial<typeof good>): Uint8Array => encodeRequest({ form: 'ME', ...good, ...change });
  const key = crt(KEYS[1024], number(5));
  const crtWith = (change: object): Uint8Array => encodeRequest({ ...key, ...change });
  const zero = number(0);
  const one = number(1);
  const six = number(6);

  const table: readonly (readonly [what: string, message: Uint8Array, code: number])[] = [
    ['nothing at all', new Uint8Array(0), REPLY_CODE.MALFORMED],
    ['less than a header', valid().subarray(0, 15), REPLY_CODE.MALFORMED],
    ['type 6', patched(1, 0x06), REPLY_CODE.MESSAGE_TYPE],
    ['a length field that is too small', patched(3, 0x8f), REPLY_CODE.MESSAGE_LENGTH],
    ['a length field that is too big', patched(2, 0xff), REPLY_CODE.MESSAGE_LENGTH],
    ...[0, 4, 6, 7, 10, 11, 12, 13, 14, 15].map((offset): readonly [string, Uint8Array, number] => [
      `reserved byte ${offset}`,
      patched(offset, 1),
      REPLY_CODE.RESERVED_FIELD,
    ]),
    ['key block type 0', patched(9, 0), REPLY_CODE.MALFORMED],
    ['key block type 4', patched(9, 4), REPLY_CODE.MALFORMED],
    ['key block type 14', patched(9, 0x14), REPLY_CODE.MALFORMED],
    ['key block type 101', patched(8, 1), REPLY_CODE.MALFORMED],
    ['a key block of another size', patched(9, 2), REPLY_CODE.OPERAND_SIZE],
    ['a key block of another form', patched(9, 0x11), REPLY_CODE.OPERAND_SIZE],
    ['modulus 0', meWith({ modulus: zero, message: zero }), REPLY_CODE.OPERAND_INVALID],
    ['modulus 1', meWith({ modulus: one, message: zero }), REPLY_CODE.OPERAND_INVALID],
    ['an even modulus', meWith({ modulus: six }), REPLY_CODE.EVEN_MODULUS],
    ['exponent 0', meWith({ exponent: zero }), REPLY_CODE.OPERAND_INVALID],
    ['a message equal to the modulus', meWith({ message: good.modulus }), REPLY_CODE.OPERAND_INVALID],
    ['an even p', crtWith({ p: six }), REPLY_CODE.EVEN_MODULUS],
    ['an even q', crtWith({ q: six }), REPLY_CODE.EVEN_MODULUS],
    ['p 0', crtWith({ p: zero }), REPLY_CODE.OPERAND_INVALID],
    ['q 1', crtWith({ q: one }), REPLY_CODE.OPERAND_INVALID],
    ['dp 0', crtWith({ dp: zero }), REPLY_CODE.OPERAND_INVALID],
    ['dq 0', crtWith({ dq: zero }), REPLY_CODE.OPERAND_INVALID],
    ['u 0', crtWith({ u: zero }), REPLY_CODE.OPERAND_INVALID],
    ['a message equal to p * q', crtWith({ message: bytes(KEYS[1024].n) }), REPLY_CODE.OPERAND_INVALID],
  ];
  for (const [what, message, code] of table) {
    test(`${what}: type 82, code ${code.toString(16)}`, () => {
      assert.equal(hex(send(message)), `00820000${code.toString(16)}000000`);
    });
  }

  test('the byte that cards ignore is ignored', () => {
    assert.equal(decodeReply(send(patched(5, 0xff))).ok, true);
  });

  test('a card that fails answers with type 88, code 10, and is reported', () => {
    const { device, clock, warnings } = openRoom({ card: () => assert.fail('overheated') });
    device.nqap(Q47, 1n, valid());
    clock.run();
    assert.equal(hex(device.dqap(Q47, 100).message), '0088000010000000');
    assert.deepEqual(warnings, ['queue 05.0047: the card failed']);
  });

  test('no message makes the card throw or fall silent', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(399), (noise, at) => {
        const message = valid();
        message.set(noise.subarray(0, 400 - at), at);
        const type = send(message)[1];
        assert.ok(type === 0x80 || type === 0x82, `type ${type}`);
      }),
      { numRuns: 60 },
    );
  });
});
