/** A u64 as the recordings write it. */
export const hexText = (value: bigint): string => `0x${value.toString(16)}`;

const PRIME_LOW = 0x1b3;
const PRIME_SHIFT = 256; // the prime is 2^40 + 0x1b3: the low word enters the high one shifted by 8

/** FNV-1a, 64 bits, over all bytes; in two 32-bit halves, because a bigint per byte is slow. */
export function fnv(bytes: Uint8Array): string {
  let low = 0x84222325;
  let high = 0xcbf29ce4;
  for (const byte of bytes) {
    low = (low ^ byte) >>> 0;
    const product = low * PRIME_LOW;
    high = (high * PRIME_LOW + low * PRIME_SHIFT + Math.floor(product / 0x1_0000_0000)) % 0x1_0000_0000;
    low = product >>> 0;
  }
  const word = (half: number): string => half.toString(16).padStart(8, '0');
  return `0x${word(high)}${word(low)}`;
}

/** The first 16 bytes, hex. */
export const head = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, 16)).toString('hex');

/** Set bits of a bitmap as closed runs. */
export function bitRuns(data: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (let bit = 0; bit < data.length * 8; bit += 1) {
    if (((data[bit >> 3] ?? 0) & (1 << (bit & 7))) === 0) continue;
    const last = runs[runs.length - 1];
    if (last !== undefined && last[1] === bit - 1) last[1] = bit;
    else runs.push([bit, bit]);
  }
  return runs;
}
