import type { IovaAllocator } from '@pinion/iommu';

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** FNV-1a 64 over both ends of every range as 8-byte little endian numbers. */
function fingerprint(words: readonly number[]): string {
  let hash = 0xcbf29ce484222325n;
  for (const word of words) {
    let rest = BigInt(word);
    for (let byte = 0; byte < 8; byte += 1, rest >>= 8n) {
      hash = BigInt.asUintN(64, (hash ^ (rest & 0xffn)) * 0x100000001b3n);
    }
  }
  return hex(hash);
}

/** The dump of a domain's ranges and the allocator's state. */
export function treeAnswer(iovas: IovaAllocator): Record<string, unknown> {
  const ranges = [...iovas.ranges()];
  const { cached, cached32, refused32, caches } = iovas.state;
  return {
    n: ranges.length,
    pages: ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0),
    tree: ranges.map(({ first, last }) => [hex(first), hex(last)]),
    fnv: fingerprint(ranges.flatMap(({ first, last }) => [first, last])),
    st: [cached, cached32, refused32].map((frame) => (frame === undefined ? 'top' : hex(frame))),
    rc: caches.map((level) => [level.loaded, level.previous, level.depot]),
  };
}

/** Bytes as runs [value, count]. */
export function byteRuns(bytes: Uint8Array): readonly (readonly [number, number])[] {
  const runs: [number, number][] = [];
  for (const value of bytes) {
    const last = runs.at(-1);
    if (last?.[0] === value) last[1] += 1;
    else runs.push([value, 1]);
  }
  return runs;
}

/** Addresses in order as runs [first, step, count], the way the recorder makes them. */
export function addressRuns(addresses: readonly bigint[]): readonly (readonly [string, number, number])[] {
  const runs: { first: bigint; step: bigint; last: bigint; count: number }[] = [];
  for (const address of addresses) {
    const run = runs.at(-1);
    const step = run === undefined ? 0n : address - run.last;
    if (run !== undefined && (run.count === 1 || step === run.step)) {
      run.step = step;
      run.last = address;
      run.count += 1;
    } else runs.push({ first: address, step: 0n, last: address, count: 1 });
  }
  return runs.map(({ first, step, count }) => [hex(first), Number(step), count] as const);
}

/** The recorder looks no further. */
const MOST_BITS = 24;

/** How many low bits of an address are 0, at most 24. */
export function alignment(address: bigint): number {
  let bits = 0;
  while (bits < MOST_BITS && (address & (1n << BigInt(bits))) === 0n) bits += 1;
  return bits;
}
