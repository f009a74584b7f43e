/** Code page 037, row by row; a dot in the middle is a byte that has no character here (controls, accents). */
const ROWS = [
  '················',
  '················',
  '················',
  '················',
  ' ··········.<(+|',
  '&·········!$*);·',
  '-/·········,%_>?',
  '·········`:#@\'="',
  '·abcdefghi······',
  '·jklmnopqr······',
  '·~stuvwxyz······',
  '^·········[]····',
  '{ABCDEFGHI······',
  '}JKLMNOPQR······',
  '\\·STUVWXYZ······',
  '0123456789······',
];
const NONE = '·';
const QUESTION_MARK = 0x6f;
const CHARACTERS = ROWS.join('');
const CODES: ReadonlyMap<string, number> = new Map(
  [...CHARACTERS].flatMap((character, code) => (character === NONE ? [] : [[character, code] as const])),
);

/** Text as a mainframe's devices have it (EBCDIC, code page 037). What has no code becomes a question mark. */
export const encodeEbcdic = (text: string): Uint8Array =>
  Uint8Array.from(text, (character) => CODES.get(character) ?? QUESTION_MARK);

/** The text of EBCDIC bytes. Bytes without a character become question marks, bytes of zero vanish. */
export const decodeEbcdic = (bytes: Uint8Array): string =>
  Array.from(
    bytes.filter((byte) => byte !== 0),
    (byte) => {
      const character = CHARACTERS[byte] ?? NONE;
      return character === NONE ? '?' : character;
    },
  ).join('');
