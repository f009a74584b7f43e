/** Letters of 3 x 5 dots, a row per octal digit from the top: bit 2 is the left dot. */
const GLYPHS: Readonly<Record<string, string>> = {
  A: '25755',
  B: '65656',
  C: '34443',
  D: '65556',
  E: '74647',
  F: '74644',
  G: '34553',
  H: '55755',
  I: '72227',
  J: '11152',
  K: '55655',
  L: '44447',
  M: '57755',
  N: '65555',
  O: '25552',
  P: '65644',
  Q: '25563',
  R: '65655',
  S: '34216',
  T: '72222',
  U: '55557',
  V: '55552',
  W: '55775',
  X: '55255',
  Y: '55222',
  Z: '71247',
  0: '75557',
  1: '26227',
  2: '61247',
  3: '61216',
  4: '55711',
  5: '74616',
  6: '34757',
  7: '71222',
  8: '75757',
  9: '75716',
  '-': '00700',
  '+': '02720',
  '(': '24442',
  ')': '21112',
  '%': '51245',
  '.': '00002',
  ':': '02020',
};

/** The dots of a character as [column, row]. */
export function dotsOf(character: string): readonly (readonly [column: number, row: number])[] {
  const rows = GLYPHS[character] ?? '00000';
  return [...rows].flatMap((digit, row) =>
    [0, 1, 2].filter((column) => (Number(digit) & (4 >> column)) !== 0).map((column) => [column, row] as const),
  );
}
