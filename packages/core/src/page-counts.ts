/** Frames in a leaf: one byte each. */
const LEAF = 64;
const EMPTY = -1;
/** A count that no longer fits into its byte; the rest stands in a map. */
const FULL = 255;
const FIRST_SLOTS = 16;

/**
 * References per frame, for one owner. Frames come in leaves of 64 one-byte counts; an open-addressing table (at most half
 * full) leads from a leaf's number to its counts. That is about 1.5 bytes a frame where frames are dense and about 100 where they
 * are far apart; frames side by side find their leaf without a search.
 */
export class PageCounts {
  #keys = new Float64Array(FIRST_SLOTS).fill(EMPTY);
  #leaves = new Int32Array(FIRST_SLOTS);
  #mask = FIRST_SLOTS - 1;
  #counts = new Uint8Array(FIRST_SLOTS * LEAF);
  /** Frames of each leaf that have a count. */
  #used = new Uint8Array(FIRST_SLOTS);
  #free: number[] = [];
  #leafEnd = 0;
  #leafCount = 0;
  #size = 0;
  #lastKey = EMPTY;
  #lastLeaf = 0;
  readonly #over = new Map<number, number>();

  /** Distinct frames with a count of at least 1. */
  get size(): number {
    return this.#size;
  }

  count(frame: number): number {
    const leaf = this.#find(Math.floor(frame / LEAF));
    if (leaf < 0) return 0;
    const count = this.#counts[leaf * LEAF + (frame % LEAF)] ?? 0;
    return count === FULL ? FULL + (this.#over.get(frame) ?? 0) : count;
  }

  /** Adds one reference. */
  add(frame: number): void {
    const key = Math.floor(frame / LEAF);
    const found = this.#find(key);
    const leaf = found < 0 ? this.#insert(key) : found;
    const at = leaf * LEAF + (frame % LEAF);
    const count = this.#counts[at] ?? 0;
    if (count === FULL) {
      this.#over.set(frame, (this.#over.get(frame) ?? 0) + 1);
      return;
    }
    this.#counts[at] = count + 1;
    if (count > 0) return;
    this.#used[leaf] = (this.#used[leaf] ?? 0) + 1;
    this.#size += 1;
  }

  /** Takes one reference away. @returns false if there was none. */
  remove(frame: number): boolean {
    const key = Math.floor(frame / LEAF);
    const leaf = this.#find(key);
    const at = leaf * LEAF + (frame % LEAF);
    const count = leaf < 0 ? 0 : (this.#counts[at] ?? 0);
    if (count === 0) return false;
    if (count === FULL && this.#removeOver(frame)) return true;
    this.#counts[at] = count - 1;
    if (count === 1) this.#emptied(key, leaf);
    return true;
  }

  /** Forgets a frame whatever its count. */
  forget(frame: number): void {
    const key = Math.floor(frame / LEAF);
    const leaf = this.#find(key);
    const at = leaf * LEAF + (frame % LEAF);
    if (leaf < 0 || this.#counts[at] === 0) return;
    this.#counts[at] = 0;
    this.#over.delete(frame);
    this.#emptied(key, leaf);
  }

  /** The frames in first..last, ascending. Costs the smaller of the range and the table. */
  within(first: number, last: number): number[] {
    const found: number[] = [];
    const [low, high] = [Math.floor(first / LEAF), Math.floor(last / LEAF)];
    for (const key of high - low < this.#leafCount ? numbers(low, high) : this.#keysWithin(low, high)) {
      const leaf = this.#find(key);
      for (let i = 0; leaf >= 0 && i < LEAF; i += 1) {
        const frame = key * LEAF + i;
        if (this.#counts[leaf * LEAF + i] !== 0 && frame >= first && frame <= last) found.push(frame);
      }
    }
    return found;
  }

  #keysWithin(low: number, high: number): Iterable<number> {
    return this.#keys.filter((key) => key >= low && key <= high && key !== EMPTY).sort();
  }

  #removeOver(frame: number): boolean {
    const over = this.#over.get(frame) ?? 0;
    if (over > 1) this.#over.set(frame, over - 1);
    else this.#over.delete(frame);
    return over > 0;
  }

  /** Index of the leaf with this number, or -1. */
  #find(key: number): number {
    if (key === this.#lastKey) return this.#lastLeaf;
    const slot = this.#slot(key);
    if (this.#keys[slot] !== key) return -1;
    this.#lastKey = key;
    this.#lastLeaf = this.#leaves[slot] ?? 0;
    return this.#lastLeaf;
  }

  /** The slot that holds `key`, or the empty one where it would go. */
  #slot(key: number): number {
    let slot = this.#home(key);
    while (this.#keys[slot] !== key && this.#keys[slot] !== EMPTY) slot = (slot + 1) & this.#mask;
    return slot;
  }

  #home(key: number): number {
    // why two factors: leaf numbers have up to 46 bits, Math.imul mixes 32
    const mixed = Math.imul(key | 0, 0x9e3779b1) ^ Math.imul((key / 0x1_0000_0000) | 0, 0x85ebca6b);
    return (mixed ^ (mixed >>> 15)) & this.#mask;
  }

  #insert(key: number): number {
    if ((this.#leafCount + 1) * 2 > this.#keys.length) this.#resize(this.#keys.length * 2);
    const leaf = this.#free.pop() ?? this.#newLeaf();
    const slot = this.#slot(key);
    this.#keys[slot] = key;
    this.#leaves[slot] = leaf;
    this.#leafCount += 1;
    this.#lastKey = key;
    this.#lastLeaf = leaf;
    return leaf;
  }

  #newLeaf(): number {
    const leaf = this.#leafEnd;
    this.#leafEnd += 1;
    if (leaf < this.#used.length) return leaf;
    this.#counts = grown(this.#counts);
    this.#used = grown(this.#used);
    return leaf;
  }

  /** A frame of the leaf lost its count; a leaf without counts goes. */
  #emptied(key: number, leaf: number): void {
    this.#size -= 1;
    const used = (this.#used[leaf] ?? 0) - 1;
    this.#used[leaf] = used;
    if (used > 0) return;
    this.#erase(this.#slot(key));
    this.#free.push(leaf);
    this.#leafCount -= 1;
    this.#lastKey = EMPTY;
    if (this.#leafCount === 0) this.#reset();
  }

  /** Empties a slot and moves later ones of the same probe chain up (no tombstones). */
  #erase(slot: number): void {
    let hole = slot;
    for (let next = (hole + 1) & this.#mask; this.#keys[next] !== EMPTY; next = (next + 1) & this.#mask) {
      const home = this.#home(this.#keys[next] ?? EMPTY);
      if (((next - home) & this.#mask) < ((next - hole) & this.#mask)) continue;
      this.#keys[hole] = this.#keys[next] ?? EMPTY;
      this.#leaves[hole] = this.#leaves[next] ?? 0;
      hole = next;
    }
    this.#keys[hole] = EMPTY;
  }

  #resize(slots: number): void {
    const [keys, leaves] = [this.#keys, this.#leaves];
    this.#keys = new Float64Array(slots).fill(EMPTY);
    this.#leaves = new Int32Array(slots);
    this.#mask = slots - 1;
    for (let old = 0; old < keys.length; old += 1) {
      const key = keys[old] ?? EMPTY;
      if (key === EMPTY) continue;
      const slot = this.#slot(key);
      this.#keys[slot] = key;
      this.#leaves[slot] = leaves[old] ?? 0;
    }
  }

  /** Nothing is held: a table that had grown large lets its memory go. */
  #reset(): void {
    this.#free = [];
    this.#leafEnd = 0;
    if (this.#used.length <= FIRST_SLOTS) return;
    this.#counts = new Uint8Array(FIRST_SLOTS * LEAF);
    this.#used = new Uint8Array(FIRST_SLOTS);
    this.#resize(FIRST_SLOTS);
  }
}

/** A copy twice as long. */
function grown(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(bytes.length * 2);
  larger.set(bytes);
  return larger;
}

function* numbers(first: number, last: number): Iterable<number> {
  for (let number = first; number <= last; number += 1) yield number;
}
