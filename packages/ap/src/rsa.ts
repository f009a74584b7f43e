/**
 * Raw RSA as an accelerator does it: no padding, the sender supplies the key with every message.
 *
 * All exponentiations are `base^exponent mod modulus`, which OpenSSL offers as the unpadded public-key operation, so a key is
 * imported as a public one whatever its exponent means to the sender. A CRT key that is a real one is imported as a private key; with
 * any other numbers it is two such operations with half the bits. Not hardened against timing: the keys belong to the guest's own
 * program, and nobody else can ask this card with them.
 */
import { constants, createPublicKey, publicEncrypt } from 'node:crypto';
import { opensslCrt } from './private-key.js';
import { decodeRequest, encodeError, encodeReply, REPLY_CODE, type ReplyCode, type RsaRequest } from './type50.js';

type MeRequest = Omit<Extract<RsaRequest, { form: 'ME' }>, 'form'>;
type CrtRequest = Omit<Extract<RsaRequest, { form: 'CRT' }>, 'form'>;

/** What cannot be computed with: an even modulus or prime, another number of the key, or a message that is not below the modulus. */
export type RsaProblem = 'even' | 'key' | 'message';

const PROBLEM_CODE: Readonly<Record<RsaProblem, ReplyCode>> = {
  even: REPLY_CODE.EVEN_MODULUS,
  key: REPLY_CODE.OPERAND_INVALID,
  message: REPLY_CODE.OPERAND_INVALID,
};

const toNumber = (bytes: Uint8Array): bigint => BigInt(`0x0${Buffer.from(bytes).toString('hex')}`);
/** A number, big endian, in a field of `size` bytes that it fits. */
export const toBytes = (value: bigint, size: number): Buffer =>
  Buffer.from(value.toString(16).padStart(size * 2, '0'), 'hex');
const byteLength = (value: bigint): number => Math.ceil(value.toString(16).length / 2);
const bitLength = (value: bigint): number => value.toString(2).length;
const toBase64 = (value: bigint): string => toBytes(value, byteLength(value)).toString('base64url');
const isEven = (value: bigint): boolean => (value & 1n) === 0n;

/** What OpenSSL refuses: exponents above 64 bits with a modulus above 3072, and exponents that are not below the modulus. */
const OPENSSL = { SMALL_MODULUS_BITS: 3072, EXPONENT_BITS: 64 } as const;

const opensslTakes = (exponent: bigint, modulus: bigint): boolean =>
  exponent < modulus &&
  (bitLength(modulus) <= OPENSSL.SMALL_MODULUS_BITS || bitLength(exponent) <= OPENSSL.EXPONENT_BITS);

function opensslPower(base: bigint, exponent: bigint, modulus: bigint): bigint {
  const jwk = { kty: 'RSA', n: toBase64(modulus), e: toBase64(exponent) };
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  return toNumber(publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, toBytes(base, byteLength(modulus))));
}

/** Only for what OpenSSL refuses, chiefly a 4096-bit private exponent: about 100 ms, which CRT form avoids. */
function bigintPower(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  let square = base;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

/** `modulus` is odd and above 1, `base` below it, `exponent` above 0. */
const power = (base: bigint, exponent: bigint, modulus: bigint): bigint =>
  (opensslTakes(exponent, modulus) ? opensslPower : bigintPower)(base, exponent, modulus);

/** message^exponent mod modulus: encrypts, verifies, and - slowly - decrypts and signs. */
export function modExpo(request: MeRequest): bigint | RsaProblem {
  const modulus = toNumber(request.modulus);
  const exponent = toNumber(request.exponent);
  const message = toNumber(request.message);
  if (modulus !== 0n && isEven(modulus)) return 'even';
  if (modulus <= 1n || exponent === 0n) return 'key';
  if (message >= modulus) return 'message';
  return power(message, exponent, modulus);
}

/** Chinese remainders (Garner): message^d mod p*q with dp = d mod p-1, dq = d mod q-1, u = q^-1 mod p. Works for p < q too. */
export function crt(request: CrtRequest): bigint | RsaProblem {
  const [p, q, u] = [toNumber(request.p), toNumber(request.q), toNumber(request.u)];
  const [dp, dq] = [toNumber(request.dp), toNumber(request.dq)];
  const message = toNumber(request.message);
  if ([p, q].some((prime) => prime !== 0n && isEven(prime))) return 'even';
  if (p <= 1n || q <= 1n || [u, dp, dq].includes(0n)) return 'key';
  if (message >= p * q) return 'message';
  const fast = opensslCrt({ p, q, dp, dq, u }, message);
  if (fast !== undefined) return fast;
  const atP = power(message % p, dp, p);
  const atQ = power(message % q, dq, q);
  const difference = (((atP - atQ) % p) + p) % p;
  return atQ + ((u * difference) % p) * q;
}

/**
 * What an accelerator answers to a message: always a whole reply of type 80, 82 or 88. Computes on the calling stack.
 * @throws whatever node:crypto throws for a reason that is not the message's.
 */
export function answerRsa(message: Uint8Array): Uint8Array {
  const request = decodeRequest(message);
  if (typeof request === 'number') return encodeError(request);
  const result = request.form === 'ME' ? modExpo(request) : crt(request);
  return typeof result === 'bigint'
    ? encodeReply(toBytes(result, request.message.length))
    : encodeError(PROBLEM_CODE[result]);
}
