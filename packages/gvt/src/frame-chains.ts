/** Multiplicative hashing: 2^32 divided by the golden ratio, and an odd constant that folds in the upper half. */
const GOLDEN = 0x9e3779b1;
const FOLD = 0x85ebca6b;
const HIGH = 2 ** 32;
const NONE = -1;

/**
 * An index from frame numbers to slots (0..capacity-1): a chained hash in typed arrays, so an entry is no object. The same
 * frame may be under many slots (a guest that points its whole table at one page is ordinary), and adding or removing one
 * of them costs the same as if it were alone. 20 bytes per slot.
 */
export class FrameChains {
  #keys: Float64Array;
  // Links are slot + 1, so that zeroed arrays are empty chains and untouched parts cost no memory.
  #next: Int32Array;
  #previous: Int32Array;
  #heads: Int32Array;
  #shift: number;

  /** `capacity`: number of slots, rounded up to a power of two (at least 16). */
  constructor(capacity: number) {
    const size = 2 ** Math.max(4, Math.ceil(Math.log2(capacity)));
    this.#keys = new Float64Array(size);
    this.#next = new Int32Array(size);
    this.#previous = new Int32Array(size);
    this.#heads = new Int32Array(size);
    this.#shift = 32 - Math.log2(size);
  }

  get capacity(): number {
    return this.#heads.length;
  }

  /** Bytes of the arrays behind this index. */
  get bytes(): number {
    return this.#keys.byteLength + this.#next.byteLength + this.#previous.byteLength + this.#heads.byteLength;
  }

  /** The frame under which `slot` was last added. */
  frame(slot: number): number {
    return this.#keys[slot] ?? NONE;
  }

  /** Puts `slot`, which must not be in the index, under `frame`. */
  add(slot: number, frame: number): void {
    this.#keys[slot] = frame;
    this.#link(slot, this.#bucket(frame));
  }

  /** Takes `slot`, which must be in the index, out. */
  remove(slot: number): void {
    const next = this.#next[slot] ?? 0;
    const previous = this.#previous[slot] ?? 0;
    if (previous === 0) this.#heads[this.#bucket(this.frame(slot))] = next;
    else this.#next[previous - 1] = next;
    if (next !== 0) this.#previous[next - 1] = previous;
  }

  /** A slot under `frame` (the one added last), or -1. */
  first(frame: number): number {
    return this.#skipTo(this.#heads[this.#bucket(frame)] ?? 0, frame);
  }

  /** The next slot under the same frame as `slot`, or -1. */
  after(slot: number): number {
    return this.#skipTo(this.#next[slot] ?? 0, this.frame(slot));
  }

  /** Doubles the number of slots. `live` says which of the old ones are in the index. */
  grow(live: (slot: number) => boolean): void {
    const old = this.capacity;
    const keys = new Float64Array(old * 2);
    keys.set(this.#keys);
    this.#keys = keys;
    this.#next = new Int32Array(old * 2);
    this.#previous = new Int32Array(old * 2);
    this.#heads = new Int32Array(old * 2);
    this.#shift -= 1;
    for (let slot = 0; slot < old; slot++) if (live(slot)) this.#link(slot, this.#bucket(this.frame(slot)));
  }

  #link(slot: number, bucket: number): void {
    const head = this.#heads[bucket] ?? 0;
    this.#next[slot] = head;
    this.#previous[slot] = 0;
    if (head !== 0) this.#previous[head - 1] = slot + 1;
    this.#heads[bucket] = slot + 1;
  }

  #skipTo(link: number, frame: number): number {
    let at = link;
    while (at !== 0 && this.#keys[at - 1] !== frame) at = this.#next[at - 1] ?? 0;
    return at - 1;
  }

  #bucket(frame: number): number {
    return Math.imul(frame ^ Math.imul(frame / HIGH, FOLD), GOLDEN) >>> this.#shift;
  }
}
