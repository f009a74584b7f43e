/** Bytes that are made at a time. */
const BLOCK = 65_536;

/**
 * Room for the bytes of a stream, one piece behind the other, each of them used once: what was taken belongs to whoever has it,
 * and a small piece costs no buffer of its own.
 */
export class StreamBuffer {
  readonly #most: number;
  #block = new Uint8Array(0);
  #at = 0;

  /** `most`: bytes that a piece may have, at most 64 KiB. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Free bytes, `most` of them or more, to be filled from their beginning. */
  room(): Uint8Array {
    if (this.#block.length - this.#at < this.#most) {
      this.#block = new Uint8Array(BLOCK);
      this.#at = 0;
    }
    return this.#at === 0 ? this.#block : this.#block.subarray(this.#at);
  }

  /** Takes the first `count` bytes of the room. */
  take(count: number): Uint8Array {
    const start = this.#at;
    this.#at += count;
    return this.#block.subarray(start, this.#at);
  }
}
