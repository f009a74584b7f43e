/**
 * Clear RSA keys as CCA requests carry them: a token with a private section (Chinese remainder form), a public section, or only the latter.
 * Big endian. Source: reference F.2 (struct cca_token_hdr, cca_public_sec, cca_pvt_ext_CRT_sec).
 */

/** A public key. Numbers are big endian. */
export interface CcaPublicKey {
  readonly form: 'ME';
  readonly exponent: Uint8Array;
  readonly modulus: Uint8Array;
}

/** A private key; `u` is q^-1 mod p, `modulusBytes` the length of p * q. */
export interface CcaPrivateKey {
  readonly form: 'CRT';
  readonly p: Uint8Array;
  readonly q: Uint8Array;
  readonly dp: Uint8Array;
  readonly dq: Uint8Array;
  readonly u: Uint8Array;
  readonly modulusBytes: number;
}

export type CcaKey = CcaPublicKey | CcaPrivateKey;

const BLOCK = { FLAGS: 2, TOKEN: 4 } as const;
const TOKEN = { ID: 0, LENGTH: 2, SIZE: 8 } as const;
const PUBLIC = { ID: 0, LENGTH: 2, EXPONENT: 6, BITS: 8, MODULUS: 10, SIZE: 12 } as const;
const PRIVATE = { ID: 0, LENGTH: 2, FORMAT: 28, PARTS: 54, MODULUS: 64, PAD: 70, SIZE: 132 } as const;
const ID = { TOKEN: 0x1e, PUBLIC: 0x04, PRIVATE: 0x08, FORMAT: 0x40 } as const;
/** A private key's public section names this exponent whatever the real one is. */
const ANY_EXPONENT = Uint8Array.of(1, 0, 1);
/** p, dp and u have eight bytes more than half the modulus. */
const LONG_EXTRA = 8;
const PARTS = ['p', 'q', 'dp', 'dq', 'u'] as const;
const LONG: ReadonlySet<string> = new Set(['p', 'dp', 'u']);

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const concat = (pieces: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(pieces));

function justify(bytes: Uint8Array, size: number): Uint8Array {
  const field = new Uint8Array(size);
  field.set(bytes.subarray(Math.max(0, bytes.length - size)), Math.max(0, size - bytes.length));
  return field;
}

function publicSection(exponent: Uint8Array, modulus: Uint8Array, bits: number): Uint8Array {
  const section = new Uint8Array(PUBLIC.SIZE);
  const view = viewOf(section);
  view.setUint8(PUBLIC.ID, ID.PUBLIC);
  view.setUint16(PUBLIC.LENGTH, PUBLIC.SIZE + exponent.length + modulus.length);
  view.setUint16(PUBLIC.EXPONENT, exponent.length);
  view.setUint16(PUBLIC.BITS, bits);
  view.setUint16(PUBLIC.MODULUS, modulus.length);
  return concat([section, exponent, modulus]);
}

function privateSection(key: CcaPrivateKey): Uint8Array {
  const half = Math.ceil(key.modulusBytes / 2);
  const sizes = PARTS.map((part) => (LONG.has(part) ? half + LONG_EXTRA : half));
  const padding = -sizes.reduce((sum, size) => sum + size, 0) & (LONG_EXTRA - 1);
  const parts = PARTS.map((part, index) => justify(key[part], sizes[index] ?? 0));
  const section = new Uint8Array(PRIVATE.SIZE);
  const view = viewOf(section);
  const body = concat([...parts, new Uint8Array(padding), new Uint8Array(key.modulusBytes).fill(0xff)]);
  view.setUint8(PRIVATE.ID, ID.PRIVATE);
  view.setUint16(PRIVATE.LENGTH, PRIVATE.SIZE + body.length);
  view.setUint8(PRIVATE.FORMAT, ID.FORMAT);
  for (const [index, size] of sizes.entries()) view.setUint16(PRIVATE.PARTS + 2 * index, size);
  view.setUint16(PRIVATE.MODULUS, key.modulusBytes);
  view.setUint16(PRIVATE.PAD, padding);
  return concat([section, body]);
}

/** The content of a key block: inner length, flags, token. The block's own length goes around it. */
export function encodeKey(key: CcaKey): Uint8Array {
  const sections =
    key.form === 'ME'
      ? publicSection(key.exponent, key.modulus, key.modulus.length * 8)
      : concat([privateSection(key), publicSection(ANY_EXPONENT, new Uint8Array(0), key.modulusBytes * 8)]);
  const block = new Uint8Array(BLOCK.TOKEN + TOKEN.SIZE);
  const view = viewOf(block);
  view.setUint16(0, block.length + sections.length);
  view.setUint8(BLOCK.TOKEN + TOKEN.ID, ID.TOKEN);
  view.setUint16(BLOCK.TOKEN + TOKEN.LENGTH, TOKEN.SIZE + sections.length);
  return concat([block, sections]);
}

/** Cuts a key out of a key block's content (views, no copies); undefined for anything that is no such key. */
export function decodeKey(block: Uint8Array): CcaKey | undefined {
  if (block.length < BLOCK.TOKEN + TOKEN.SIZE) return undefined;
  const view = viewOf(block);
  const whole =
    view.getUint16(0) === block.length &&
    view.getUint8(BLOCK.TOKEN + TOKEN.ID) === ID.TOKEN &&
    view.getUint16(BLOCK.TOKEN + TOKEN.LENGTH) === block.length - BLOCK.TOKEN;
  if (!whole) return undefined;
  const sections = block.subarray(BLOCK.TOKEN + TOKEN.SIZE);
  return sections[0] === ID.PUBLIC ? decodePublic(sections) : decodePrivate(sections);
}

function decodePublic(section: Uint8Array): CcaPublicKey | undefined {
  if (section.length < PUBLIC.SIZE) return undefined;
  const view = viewOf(section);
  const [exponent, modulus] = [view.getUint16(PUBLIC.EXPONENT), view.getUint16(PUBLIC.MODULUS)];
  const size = PUBLIC.SIZE + exponent + modulus;
  if (view.getUint16(PUBLIC.LENGTH) !== size || section.length !== size) return undefined;
  return {
    form: 'ME',
    exponent: section.subarray(PUBLIC.SIZE, PUBLIC.SIZE + exponent),
    modulus: section.subarray(PUBLIC.SIZE + exponent),
  };
}

function decodePrivate(sections: Uint8Array): CcaPrivateKey | undefined {
  if (sections.length < PRIVATE.SIZE || sections[0] !== ID.PRIVATE) return undefined;
  const view = viewOf(sections);
  if (view.getUint8(PRIVATE.FORMAT) !== ID.FORMAT) return undefined;
  let offset: number = PRIVATE.SIZE;
  const parts = PARTS.map((_, index) => {
    const size = view.getUint16(PRIVATE.PARTS + 2 * index);
    offset += size;
    return sections.subarray(offset - size, offset);
  });
  const modulusBytes = view.getUint16(PRIVATE.MODULUS);
  const size = offset + view.getUint16(PRIVATE.PAD) + modulusBytes;
  const [p, q, dp, dq, u] = parts;
  const complete = view.getUint16(PRIVATE.LENGTH) === size && decodePublic(sections.subarray(size)) !== undefined;
  if (!complete || !p || !q || !dp || !dq || !u) return undefined;
  return { form: 'CRT', p, q, dp, dq, u, modulusBytes };
}
