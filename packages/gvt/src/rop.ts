/** Combines pattern, source and destination bit by bit. */
export type RasterOperation = (pattern: number, source: number, destination: number) => number;

/** The ones that drivers use. Source: Intel PRM, "Raster operation codes" (Microsoft's ternary operations). */
const COMMON: Readonly<Record<number, RasterOperation>> = {
  0: () => 0,
  85: (_p, _s, d) => ~d,
  90: (p, _s, d) => p ^ d,
  102: (_p, s, d) => s ^ d,
  136: (_p, s, d) => s & d,
  204: (_p, s) => s,
  238: (_p, s, d) => s | d,
  240: (p) => p,
  255: () => -1,
};

/** Bit `P << 2 | S << 1 | D` of the code is the result. */
const general =
  (code: number): RasterOperation =>
  (p, s, d) => {
    let result = 0;
    for (let row = 0; row < 8; row++) {
      if ((code & (1 << row)) === 0) continue;
      result |= ((row & 4) === 0 ? ~p : p) & ((row & 2) === 0 ? ~s : s) & ((row & 1) === 0 ? ~d : d);
    }
    return result;
  };

/** The operation of an 8-bit code, on 32 bits at a time. */
export const rasterOperation = (code: number): RasterOperation => COMMON[code] ?? general(code);

/** Whether the result depends on the pattern, the source, the destination: compare the truth table's halves. */
export const usesPattern = (code: number): boolean => code >> 4 !== (code & 0x0f);
export const usesSource = (code: number): boolean => ((code >> 2) & 0x33) !== (code & 0x33);
export const usesDestination = (code: number): boolean => ((code >> 1) & 0x55) !== (code & 0x55);
