import type { Prot } from '@pinion/core';
import type { MemoryObject } from './memory-object.js';

/** A stretch of an address space with one kind of memory and one protection. Frames are closed: `first`..`last`. */
export interface Vma {
  first: number;
  last: number;
  prot: Prot;
  /** Counted in the locked pages by mlock. */
  locked: boolean;
  readonly object: MemoryObject;
  /** Page of `object` that `first` shows. */
  offset: number;
}

/** Non-overlapping stretches, ascending. */
export class VmaList {
  readonly #list: Vma[] = [];
  #recent: Vma | undefined;

  get all(): readonly Vma[] {
    return this.#list;
  }

  find(frame: number): Vma | undefined {
    const recent = this.#recent;
    if (recent !== undefined && recent.first <= frame && frame <= recent.last) return recent;
    const vma = this.#list[this.#position(frame)];
    if (vma === undefined || vma.first > frame) return undefined;
    this.#recent = vma;
    return vma;
  }

  overlaps(first: number, last: number): boolean {
    const vma = this.#list[this.#position(first)];
    return vma !== undefined && vma.first <= last;
  }

  /** The caller has checked that nothing overlaps. */
  insert(vma: Vma): void {
    this.#list.splice(this.#position(vma.first), 0, vma);
    vma.object.use();
  }

  /** Takes out a stretch; its memory ends with its last user. */
  remove(vma: Vma): void {
    this.#list.splice(this.#position(vma.first), 1);
    this.#recent = undefined;
    vma.object.unuse();
  }

  /** The stretches within the range, ascending; those that reach over its edges are split there first. */
  within(first: number, last: number): Vma[] {
    this.#splitAt(first);
    this.#splitAt(last + 1);
    const start = this.#position(first);
    const found: Vma[] = [];
    for (let i = start; i < this.#list.length; i++) {
      const vma = this.#list[i];
      if (vma === undefined || vma.first > last) break;
      found.push(vma);
    }
    return found;
  }

  /** `frame` becomes the first of a stretch if it was in the middle of one. */
  #splitAt(frame: number): void {
    const vma = this.find(frame);
    if (vma === undefined || vma.first === frame) return;
    const upper = { ...vma, first: frame, offset: vma.offset + (frame - vma.first) };
    vma.last = frame - 1;
    this.insert(upper);
  }

  /** Index of the first stretch that ends at or after `frame`. */
  #position(frame: number): number {
    let low = 0;
    let high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#list[middle]?.last ?? 0) < frame) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
