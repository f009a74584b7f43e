/** A run of pages that has a slot for every page: the leaf of the radix and adaptive tables, and the whole of the flat one. */
import { MAX_REFERENCES, type PinVisitor, pinTableErrors } from './pin-table.js';

const HIGH = 2 ** 32;

/**
 * 8 bytes per slot: references and the frame's low 32 bits stand side by side, so one cache line answers both. The
 * frame's high bits (hosts above 16 TiB) get an array of their own, 4 bytes per slot, when the first such frame comes.
 * The caller guarantees 0 <= slot < pages.
 */
export class PinLeaf {
  /** Slots in use. */
  live = 0;
  /** Page of the mapping that slot 0 stands for. */
  readonly base: number;
  private readonly words: Uint32Array;
  private high: Uint32Array | undefined = undefined;

  constructor(base: number, pages: number) {
    this.base = base;
    this.words = new Uint32Array(pages * 2);
  }

  acquire(slot: number): number {
    const at = slot << 1;
    const references = this.words[at] ?? 0;
    if (references === 0) return -1;
    if (references === MAX_REFERENCES) throw pinTableErrors.PIN_OVERFLOW({ page: this.base + slot });
    this.words[at] = references + 1;
    return this.frame(at);
  }

  /** @throws PinionError TYPE1_PIN_EXISTS. */
  insert(slot: number, pfn: number, references: number): void {
    const at = slot << 1;
    if (this.words[at] !== 0) throw pinTableErrors.PIN_EXISTS({ page: this.base + slot });
    if (pfn >= HIGH || this.high !== undefined) this.setHigh(slot, pfn);
    this.words[at] = references;
    this.words[at + 1] = pfn;
    this.live++;
  }

  /** As PinTable.release; the frame stays readable with `frameAt` until the slot is filled again. */
  release(slot: number): number {
    const at = slot << 1;
    const references = this.words[at] ?? 0;
    if (references === 0) return -1;
    this.words[at] = references - 1;
    if (references === 1) this.live--;
    return references - 1;
  }

  pfn(slot: number): number {
    const at = slot << 1;
    return (this.words[at] ?? 0) === 0 ? -1 : this.frame(at);
  }

  /** The frame last stored in a slot, pinned or not. */
  frameAt(slot: number): number {
    return this.frame(slot << 1);
  }

  references(slot: number): number {
    return this.words[slot << 1] ?? 0;
  }

  /** Visits slots from..to (closed). */
  forEach(from: number, to: number, visit: PinVisitor): void {
    for (let slot = from; slot <= to; slot++) {
      const references = this.words[slot << 1] ?? 0;
      if (references !== 0) visit(this.base + slot, this.frame(slot << 1), references);
    }
  }

  /** The lowest page pinned among slots from..to (closed), or -1. */
  firstIn(from: number, to: number): number {
    for (let slot = from; slot <= to; slot++) {
      if ((this.words[slot << 1] ?? 0) !== 0) return this.base + slot;
    }
    return -1;
  }

  byteSize(): number {
    return this.words.byteLength + (this.high?.byteLength ?? 0);
  }

  private frame(at: number): number {
    const low = this.words[at + 1] ?? 0;
    return this.high === undefined ? low : low + (this.high[at >> 1] ?? 0) * HIGH;
  }

  private setHigh(slot: number, pfn: number): void {
    this.high ??= new Uint32Array(this.words.length / 2);
    this.high[slot] = Math.floor(pfn / HIGH);
  }
}
