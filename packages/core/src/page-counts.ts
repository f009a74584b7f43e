const EMPTY = -1;
const MIN_SLOTS = 16;

/**
 * References per frame, for one owner: an open-addressing table of frame -> count in typed arrays (12 bytes a slot, at most
 * 3/4 full). Neighbouring frames get neighbouring slots, so that runs stay in the cache.
 */
export class PageCounts {
  #frames = new Float64Array(MIN_SLOTS).fill(EMPTY);
  #counts = new Uint32Array(MIN_SLOTS);
  #mask = MIN_SLOTS - 1;
  #size = 0;

  /** Distinct frames with a count of at least 1. */
  get size(): number {
    return this.#size;
  }

  count(frame: number): number {
    return this.#counts[this.#slot(frame)] ?? 0;
  }

  /** Adds one reference. */
  add(frame: number): void {
    if ((this.#size + 1) * 4 > this.#frames.length * 3) this.#resize(this.#frames.length * 2);
    const slot = this.#slot(frame);
    if (this.#frames[slot] === EMPTY) {
      this.#frames[slot] = frame;
      this.#size += 1;
    }
    this.#counts[slot] = (this.#counts[slot] ?? 0) + 1;
  }

  /** Takes one reference away. @returns false if there was none. */
  remove(frame: number): boolean {
    const slot = this.#slot(frame);
    const count = this.#counts[slot] ?? 0;
    if (count === 0) return false;
    if (count > 1) this.#counts[slot] = count - 1;
    else this.#erase(slot);
    return true;
  }

  /** Forgets a frame whatever its count. */
  forget(frame: number): void {
    const slot = this.#slot(frame);
    if (this.#frames[slot] !== EMPTY) this.#erase(slot);
  }

  /** The frames in first..last, ascending. Costs the smaller of the range and the table. */
  within(first: number, last: number): number[] {
    const found: number[] = [];
    if (last - first < this.#size) {
      for (let frame = first; frame <= last; frame += 1) if (this.count(frame) > 0) found.push(frame);
      return found;
    }
    for (const frame of this.#frames) if (frame >= first && frame <= last && frame !== EMPTY) found.push(frame);
    return found.sort((a, b) => a - b);
  }

  #home(frame: number): number {
    const block = Math.floor(frame / 16);
    // why two factors: frames have up to 52 bits, Math.imul mixes 32
    const mixed = Math.imul(block | 0, 0x9e3779b1) ^ Math.imul((block / 0x1_0000_0000) | 0, 0x85ebca6b);
    return (((mixed ^ (mixed >>> 15)) << 4) | (frame % 16)) & this.#mask;
  }

  /** The slot that holds `frame`, or the empty one where it would go. */
  #slot(frame: number): number {
    let slot = this.#home(frame);
    while (this.#frames[slot] !== frame && this.#frames[slot] !== EMPTY) slot = (slot + 1) & this.#mask;
    return slot;
  }

  /** Empties a slot and moves later ones of the same probe chain up (no tombstones). */
  #erase(slot: number): void {
    this.#size -= 1;
    let hole = slot;
    for (let next = (hole + 1) & this.#mask; this.#frames[next] !== EMPTY; next = (next + 1) & this.#mask) {
      const home = this.#home(this.#frames[next] ?? EMPTY);
      if (((next - home) & this.#mask) < ((next - hole) & this.#mask)) continue;
      this.#frames[hole] = this.#frames[next] ?? EMPTY;
      this.#counts[hole] = this.#counts[next] ?? 0;
      hole = next;
    }
    this.#frames[hole] = EMPTY;
    this.#counts[hole] = 0;
    if (this.#frames.length > MIN_SLOTS && this.#size * 8 < this.#frames.length) this.#resize(this.#frames.length / 2);
  }

  #resize(slots: number): void {
    const frames = this.#frames;
    const counts = this.#counts;
    this.#frames = new Float64Array(slots).fill(EMPTY);
    this.#counts = new Uint32Array(slots);
    this.#mask = slots - 1;
    for (let old = 0; old < frames.length; old += 1) {
      const frame = frames[old] ?? EMPTY;
      if (frame === EMPTY) continue;
      const slot = this.#slot(frame);
      this.#frames[slot] = frame;
      this.#counts[slot] = counts[old] ?? 0;
    }
  }
}
