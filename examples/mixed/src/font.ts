/** Capital letters, digits and a few signs, 5 by 7 dots: seven rows of five bits, each as two hexadecimal digits, the left dot highest. */
const GLYPHS: Readonly<Record<string, string>> = {
  A: '0e11111f111111',
  B: '1e11111e11111e',
  C: '0e11101010110e',
  D: '1e11111111111e',
  E: '1f10101e10101f',
  F: '1f10101e101010',
  G: '0e11101713110f',
  H: '1111111f111111',
  I: '0e04040404040e',
  J: '0702020202120c',
  K: '11121418141211',
  L: '1010101010101f',
  M: '111b1515111111',
  N: '11191915131311',
  O: '0e11111111110e',
  P: '1e11111e101010',
  Q: '0e11111115120d',
  R: '1e11111e141211',
  S: '0f10100e01011e',
  T: '1f040404040404',
  U: '1111111111110e',
  V: '11111111110a04',
  W: '11111115151b11',
  X: '11110a040a1111',
  Y: '11110a04040404',
  Z: '1f01020408101f',
  '0': '0e11131519110e',
  '1': '040c040404040e',
  '2': '0e11010204081f',
  '3': '1f02040201110e',
  '4': '02060a121f0202',
  '5': '1f101e0101110e',
  '6': '0608101e11110e',
  '7': '1f010204080808',
  '8': '0e11110e11110e',
  '9': '0e11110f01020c',
  '-': '0000001f000000',
  '.': '00000000000c0c',
  ',': '000000000c0408',
  ':': '000c0c000c0c00',
  '+': '0004041f040400',
  '>': '08040201020408',
  '/': '01010204081010',
};

export const GLYPH = { width: 5, height: 7, advance: 6 } as const;

/** A horizontal run of dots: `x` and `y` from the text's left upper corner, `length` dots. */
export interface Run {
  readonly x: number;
  readonly y: number;
  readonly length: number;
}

/** The text as runs of dots; signs that the font lacks are blanks. */
export function textRuns(text: string): Run[] {
  return [...text].flatMap((sign, place) =>
    Array.from({ length: GLYPH.height }, (_, y) => rowRuns(rowOf(sign, y), place * GLYPH.advance, y)).flat(),
  );
}

export const textWidth = (text: string): number => text.length * GLYPH.advance - 1;

const rowOf = (sign: string, y: number): number => Number.parseInt(GLYPHS[sign]?.slice(y * 2, y * 2 + 2) ?? '0', 16);

function rowRuns(bits: number, left: number, y: number): Run[] {
  const runs: Run[] = [];
  let start = -1;
  for (let x = 0; x <= GLYPH.width; x++) {
    const set = x < GLYPH.width && (bits & (1 << (GLYPH.width - 1 - x))) !== 0;
    if (set && start < 0) start = x;
    if (set || start < 0) continue;
    runs.push({ x: left + start, y, length: x - start });
    start = -1;
  }
  return runs;
}
