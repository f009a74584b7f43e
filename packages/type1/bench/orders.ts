/** The orders and sizes that the benchmarks work in; `yardstick/rbtree.c` draws the same numbers from the same generator. */

/** Marsaglia's 32-bit xorshift. `seed`: not 0. */
export function xorshift(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** 0, stride, 2 x stride ... (`count` of them), shuffled if there is a `seed`. */
export function order(count: number, stride: number, seed?: number): Int32Array {
  const items = Int32Array.from({ length: count }, (_, i) => i * stride);
  if (seed === undefined) return items;
  const next = xorshift(seed);
  for (let i = count - 1; i > 0; i--) {
    const j = next() % (i + 1);
    const swap = items[i] ?? 0;
    items[i] = items[j] ?? 0;
    items[j] = swap;
  }
  return items;
}
