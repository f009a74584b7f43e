import { coreErrors } from './errors.js';
import { PROT_WRITE, type Prot } from './flags.js';
import type { HostMemory } from './memory.js';
import type { PinnedPages } from './pins.js';
import { asIovaFrame, asPfn, type FrameRange, frameCount, PAGE_SIZE, type Pfn } from './units.js';

/** The device that holds a handle's pages. */
export interface PinHolder {
  readonly name: string;
  /** The handle gives back what it has `kept`. */
  release(handle: PinnedPageHandle): void;
}

/** A handle on pinned pages. It works until it is given back or loses a page, by whatever road; never again after that. */
export class PinnedPageHandle implements PinnedPages {
  readonly range: FrameRange;
  readonly prot: Prot;
  readonly #holder: PinHolder;
  readonly #memory: HostMemory;
  readonly #frames: Float64Array;
  #lost: Set<number> | undefined;
  #released = false;

  constructor(holder: PinHolder, memory: HostMemory, pins: { range: FrameRange; prot: Prot; frames: Float64Array }) {
    this.#holder = holder;
    this.#memory = memory;
    this.range = pins.range;
    this.prot = pins.prot;
    this.#frames = pins.frames;
  }

  get held(): boolean {
    return !this.#released && this.#lost === undefined;
  }

  /** The runs of pages that this handle still has to give back: those it has not lost. */
  *kept(): Iterable<FrameRange> {
    for (let first = this.range.first; first <= this.range.last; ) {
      let end = first;
      while (end <= this.range.last && this.#lost?.has(end) !== true) end = asIovaFrame(end + 1);
      if (end > first) yield { first, last: asIovaFrame(end - 1) };
      first = asIovaFrame(end + 1);
    }
  }

  /** Pages of `range` are not this handle's any more, if they were. @returns true once it has lost all. */
  lose(range: FrameRange): boolean {
    const last = Math.min(range.last, this.range.last);
    for (let frame = Math.max(range.first, this.range.first); frame <= last; frame += 1) {
      this.#lost ??= new Set();
      this.#lost.add(frame);
    }
    return this.#lost?.size === frameCount(this.range);
  }

  get frames(): readonly Pfn[] {
    this.#check();
    return Array.from(this.#frames, asPfn);
  }

  views(): readonly Uint8Array[] {
    this.#check();
    const views: Uint8Array[] = [];
    for (let first = 0; first < this.#frames.length; ) {
      const count = this.#runLength(first);
      views.push(this.#memory.bytes(asPfn(this.#frames[first] ?? 0), count));
      first += count;
    }
    return views;
  }

  read(offset: number, length: number): Uint8Array {
    this.#checkSpan(offset, length);
    const bytes = new Uint8Array(length);
    this.#eachPiece(offset, length, (page, at) => bytes.set(page, at));
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#checkSpan(offset, bytes.length);
    if ((this.prot & PROT_WRITE) === 0)
      throw coreErrors.READ_ONLY_PIN({ device: this.#holder.name, range: this.range });
    this.#eachPiece(offset, bytes.length, (page, at) => page.set(bytes.subarray(at, at + page.length)));
  }

  unpin(): void {
    if (this.#released) return;
    this.#released = true;
    this.#holder.release(this);
  }

  [Symbol.dispose](): void {
    this.unpin();
  }

  #check(): void {
    if (!this.held) throw coreErrors.PINS_RELEASED({ device: this.#holder.name, range: this.range });
  }

  #checkSpan(offset: number, length: number): void {
    this.#check();
    const size = frameCount(this.range) * PAGE_SIZE;
    if (Number.isInteger(offset) && offset >= 0 && length >= 0 && offset + length <= size) return;
    throw coreErrors.OUT_OF_RANGE({ device: this.#holder.name, range: this.range, offset, length });
  }

  /** Pages from `first` that one view can cover. */
  #runLength(first: number): number {
    let next = first + 1;
    while (next < this.#frames.length && this.#follows(next)) next += 1;
    return next - first;
  }

  #follows(index: number): boolean {
    const before = this.#frames[index - 1] ?? 0;
    return this.#frames[index] === before + 1 && this.#memory.contiguous(asPfn(before));
  }

  /** Visits the live bytes of offset..offset+length-1, page by page; `at` counts from `offset`. */
  #eachPiece(offset: number, length: number, visit: (page: Uint8Array, at: number) => void): void {
    for (let at = 0; at < length; ) {
      const inPage = (offset + at) % PAGE_SIZE;
      const size = Math.min(PAGE_SIZE - inPage, length - at);
      const page = this.#memory.bytes(asPfn(this.#frames[Math.floor((offset + at) / PAGE_SIZE)] ?? 0), 1);
      visit(page.subarray(inPage, inPage + size), at);
      at += size;
    }
  }
}
