/** Raster operations over rows of words. Each loop is written out: a call per word would cost more than the operation. */

/** Rows as 32-bit words, all as long as the output. */
export interface MergeRows {
  readonly pattern: Uint32Array;
  readonly source: Uint32Array;
  readonly old: Uint32Array;
}

/** Combines rows bit by bit into `out`. */
export type MergeLoop = (rows: MergeRows, out: Uint32Array) => void;

/** The ones that drivers use, by code. Source: Intel PRM, "Raster operation codes" (Microsoft's ternary operations). */
const LOOPS: Readonly<Record<number, MergeLoop>> = {
  0: (_rows, out) => {
    out.fill(0);
  },
  85: ({ old }, out) => {
    for (let at = 0; at < out.length; at++) out[at] = ~(old[at] ?? 0);
  },
  90: ({ pattern, old }, out) => {
    for (let at = 0; at < out.length; at++) out[at] = (pattern[at] ?? 0) ^ (old[at] ?? 0);
  },
  102: ({ source, old }, out) => {
    for (let at = 0; at < out.length; at++) out[at] = (source[at] ?? 0) ^ (old[at] ?? 0);
  },
  136: ({ source, old }, out) => {
    for (let at = 0; at < out.length; at++) out[at] = (source[at] ?? 0) & (old[at] ?? 0);
  },
  204: ({ source }, out) => {
    out.set(source);
  },
  238: ({ source, old }, out) => {
    for (let at = 0; at < out.length; at++) out[at] = (source[at] ?? 0) | (old[at] ?? 0);
  },
  240: ({ pattern }, out) => {
    out.set(pattern);
  },
  255: (_rows, out) => {
    out.fill(0xffffffff);
  },
};

/** All bits of a word, or none: whether the row `P << 2 | S << 1 | D` of the truth table is one. */
const term = (code: number, row: number): number => -((code >> row) & 1);

/** Any code, by its truth table. */
function general(code: number): MergeLoop {
  const [none, d, s, sd] = [term(code, 0), term(code, 1), term(code, 2), term(code, 3)];
  const [p, pd, ps, psd] = [term(code, 4), term(code, 5), term(code, 6), term(code, 7)];
  return ({ pattern, source, old }, out) => {
    for (let at = 0; at < out.length; at++) {
      const inP = pattern[at] ?? 0;
      const inS = source[at] ?? 0;
      const inD = old[at] ?? 0;
      const zeros = (inS & ((inD & sd) | (~inD & s))) | (~inS & ((inD & d) | (~inD & none)));
      const ones = (inS & ((inD & psd) | (~inD & ps))) | (~inS & ((inD & pd) | (~inD & p)));
      out[at] = (inP & ones) | (~inP & zeros);
    }
  };
}

/** What carries the operation of an 8-bit code out. */
export const mergeLoop = (code: number): MergeLoop => LOOPS[code] ?? general(code);

/** Puts the old bits back where `mask` has zeros; a number stands for the same mask in each word. */
export function keepOld(mask: Uint32Array | number, old: Uint32Array, out: Uint32Array): void {
  for (let at = 0; at < out.length; at++) {
    const drawn = typeof mask === 'number' ? mask : (mask[at] ?? 0);
    out[at] = ((out[at] ?? 0) & drawn) | ((old[at] ?? 0) & ~drawn);
  }
}

/** Whether the result depends on the pattern, the source, the destination: compare the truth table's halves. */
export const usesPattern = (code: number): boolean => code >> 4 !== (code & 0x0f);
export const usesSource = (code: number): boolean => ((code >> 2) & 0x33) !== (code & 0x33);
export const usesDestination = (code: number): boolean => ((code >> 1) & 0x55) !== (code & 0x55);
