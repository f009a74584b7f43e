/** Most pages a mapping can have bits for. Source: DIRTY_BITMAP_PAGES_MAX (INT_MAX). */
export const MAX_DIRTY_PAGES = 2 ** 31 - 1;
/** Largest bitmap a user may pass, in bytes. Source: DIRTY_BITMAP_SIZE_MAX. */
export const MAX_BITMAP_SIZE = 1n << 28n;

/** 64-bit words that hold `bits` bits. */
const longs = (bits: number): number => Math.ceil(bits / 64);

/** Bytes a user's bitmap needs for `pages` pages: whole 64-bit words. */
export const bitmapBytes = (pages: bigint): bigint => ((pages + 63n) / 64n) * 8n;

/** Dirty pages of one mapping, one bit each, in units of the container's smallest page. Allocated at the first set bit. */
export class DirtyBits {
  readonly #bits: number;
  #words: Uint32Array | undefined;

  constructor(bits: number) {
    this.#bits = bits;
  }

  /** Marks pages first..last (closed) dirty. Pages outside the mapping are ignored. */
  mark(first: number, last: number): void {
    const words = this.#allocated();
    const end = Math.min(last, this.#bits - 1);
    for (let bit = Math.max(first, 0); bit <= end; ) {
      if (bit % 32 === 0 && end - bit >= 31) {
        words[bit / 32] = 0xffff_ffff;
        bit += 32;
      } else {
        const word = Math.floor(bit / 32);
        words[word] = (words[word] ?? 0) | (1 << (bit % 32));
        bit += 1;
      }
    }
  }

  markAll(): void {
    this.mark(0, this.#bits - 1);
  }

  /** Forgets the bits of the mapping's own pages. */
  clear(): void {
    const words = this.#words;
    if (words === undefined) return;
    const whole = Math.floor(this.#bits / 32);
    words.fill(0, 0, whole);
    if (this.#bits % 32 !== 0) words[whole] = (words[whole] ?? 0) & ~((1 << (this.#bits % 32)) - 1);
  }

  /** ORs the bits into a user's bitmap, the mapping's first page at bit `offset` there. */
  copyTo(data: Uint8Array, offset: number): void {
    const words = this.#words;
    if (words === undefined) return;
    for (let word = 0; word < Math.ceil(this.#bits / 32); word += 1) {
      for (let rest = words[word] ?? 0; rest !== 0; rest &= rest - 1) {
        const bit = word * 32 + (31 - Math.clz32(rest & -rest));
        if (bit >= this.#bits) break;
        const at = offset + bit;
        data[at >>> 3] = (data[at >>> 3] ?? 0) | (1 << (at & 7));
      }
    }
  }

  /**
   * The same as the kernel does it (quirk dirty-shift-in-place): the mapping's own bitmap is shifted, the first word the user
   * already has is ORed in, and whole 64-bit words are written over the user's. Bits shifted past the end are not cleared.
   */
  copyShifted(data: Uint8Array, offset: number): void {
    const shift = offset % 64;
    const count = longs(this.#bits + shift);
    const words = this.#allocated();
    const at = Math.floor(offset / 64) * 8;
    const user = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (shift > 0) {
      shiftLeft(words.subarray(0, count * 2), shift);
      words[0] = (words[0] ?? 0) | user.getUint32(at, true);
      words[1] = (words[1] ?? 0) | user.getUint32(at + 4, true);
    }
    for (let word = 0; word < count * 2; word += 1) user.setUint32(at + word * 4, words[word] ?? 0, true);
  }

  #allocated(): Uint32Array {
    // One 64-bit word more than the pages need: room for the shifted bits.
    this.#words ??= new Uint32Array((longs(this.#bits) + 1) * 2);
    return this.#words;
  }
}

/** Moves all bits up by `shift` (1..63); what leaves the last word is lost. */
function shiftLeft(words: Uint32Array, shift: number): void {
  const whole = shift >> 5;
  const part = shift & 31;
  for (let to = words.length - 1; to >= 0; to -= 1) {
    const low = words[to - whole] ?? 0;
    const carry = part === 0 ? 0 : (words[to - whole - 1] ?? 0) >>> (32 - part);
    words[to] = part === 0 ? low : (low << part) | carry;
  }
}
