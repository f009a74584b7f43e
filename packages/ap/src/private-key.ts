/**
 * Private keys as OpenSSL wants them. Its private-key operation is twice as fast as two exponentiations, but needs the public exponent,
 * which a message of the cards does not carry; it is found once per key and remembered as long as the thread lives.
 */
import { checkPrimeSync, constants, createPrivateKey, type KeyObject, privateDecrypt } from 'node:crypto';

/** The numbers of a key in Chinese remainder form: u is q^-1 mod p. */
export interface CrtNumbers {
  readonly p: bigint;
  readonly q: bigint;
  readonly dp: bigint;
  readonly dq: bigint;
  readonly u: bigint;
}

/** Keys that are remembered; the oldest is forgotten first. */
const REMEMBERED = 32;
/** Smaller primes are computed with as numbers: OpenSSL refuses or has no advantage. */
const SMALLEST_PRIME = 1n << 256n;
/** Rounds of the prime test: enough for numbers that somebody chose badly, which is all that can harm the result. */
const PRIME_CHECKS = 10;

const known = new Map<string, KeyObject | undefined>();
const padding = constants.RSA_NO_PADDING;

const bytesOf = (value: bigint): Buffer => {
  const digits = value.toString(16);
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
};
const base64 = (value: bigint): string => bytesOf(value).toString('base64url');

/** a^-1 mod m, undefined if there is none. */
function inverse(a: bigint, m: bigint): bigint | undefined {
  let [low, high, x, y] = [a % m, m, 1n, 0n];
  while (low > 1n) {
    const times = high / low;
    [low, high, x, y] = [high % low, low, y - times * x, x];
  }
  return low === 1n ? ((x % m) + m) % m : undefined;
}

/** The key for OpenSSL, if these numbers are those of a real key with one public exponent. */
function importKey({ p, q, dp, dq, u }: CrtNumbers): KeyObject | undefined {
  if (p < SMALLEST_PRIME || q < SMALLEST_PRIME || p === q) return undefined;
  const e = inverse(dp, p - 1n);
  const real = e !== undefined && (e * dq) % (q - 1n) === 1n && (u * q) % p === 1n && u < p && dp < p && dq < q;
  if (!real || ![p, q].every((prime) => checkPrimeSync(prime, { checks: PRIME_CHECKS }))) return undefined;
  const d = inverse(e, (p - 1n) * (q - 1n));
  if (d === undefined) return undefined;
  const numbers = { n: p * q, e, d, p, q, dp, dq, qi: u };
  const jwk = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, base64(value)]));
  return createPrivateKey({ key: { kty: 'RSA', ...jwk }, format: 'jwk' });
}

function keyOf(numbers: CrtNumbers): KeyObject | undefined {
  const { p, q, dp, dq, u } = numbers;
  const name = [p, q, dp, dq, u].map((number) => number.toString(16)).join();
  const seen = known.get(name);
  if (seen !== undefined || known.has(name)) return seen;
  const key = importKey(numbers);
  const [oldest] = known.keys();
  if (known.size >= REMEMBERED && oldest !== undefined) known.delete(oldest);
  known.set(name, key);
  return key;
}

/** message^d mod p*q by OpenSSL; `message` is below p*q. Undefined: these numbers are not for OpenSSL. */
export function opensslCrt(numbers: CrtNumbers, message: bigint): bigint | undefined {
  const key = keyOf(numbers);
  if (key === undefined) return undefined;
  const size = bytesOf(numbers.p * numbers.q).length;
  const input = Buffer.from(message.toString(16).padStart(size * 2, '0'), 'hex');
  return BigInt(`0x${privateDecrypt({ key, padding }, input).toString('hex')}`);
}
