import { asPfn, PAGE_SIZE, type PageClass, type Pfn } from '@pinion/core';
import { BLOCK_FRAMES, type SimulatedHost } from './host.js';
import type { Piece } from './piece.js';

/**
 * Writes the first content of one page. `offset`: bytes from the start of the memory; `page`: 4096 zeros to overwrite.
 * It runs when the page is first touched, so it must depend on nothing but `offset`.
 */
export type Fill = (offset: number, page: Uint8Array) => void;

/**
 * What memory is made of:
 * - `anon`: private pages of one address space. Untouched ones read as zeros (or as `fill` says), a fork copies them.
 * - `shared`: pages of a memfd, the same for everybody who maps it.
 * - `device`: a BAR: frames without a struct page. `reserved`: firmware pages, with one.
 * - `dax`: like `shared`, but the file system refuses long-term pins.
 */
export type MemoryKind = 'anon' | 'shared' | 'device' | 'reserved' | 'dax';

const CLASS: Record<MemoryKind, PageClass> = {
  anon: 'normal',
  shared: 'normal',
  dax: 'normal',
  device: 'device',
  reserved: 'reserved',
};

export interface MemoryObjectRequest {
  readonly kind: MemoryKind;
  readonly pages: number;
  readonly fill?: Fill | undefined;
  /** All pages lie behind each other in the host, as in huge pages; otherwise in pieces of 2 MiB. */
  readonly contiguous?: boolean | undefined;
}

const UNTOUCHED = 0;
const DISCARDED = -1;

/** Memory that can be mapped: the pages behind one or several mappings. Indices count pages from its start. */
export class MemoryObject {
  readonly kind: MemoryKind;
  readonly pages: number;
  readonly #host: SimulatedHost;
  readonly #fill: Fill | undefined;
  readonly #pieceFrames: number;
  readonly #pieces = new Map<number, Piece>();
  /** Per page: its frame, UNTOUCHED or DISCARDED. */
  readonly #frames: Float64Array;
  #users = 0;

  constructor(host: SimulatedHost, request: MemoryObjectRequest) {
    this.#host = host;
    this.kind = request.kind;
    this.pages = request.pages;
    this.#fill = request.fill;
    this.#pieceFrames = request.contiguous || CLASS[request.kind] !== 'normal' ? request.pages : BLOCK_FRAMES;
    this.#frames = new Float64Array(request.pages);
  }

  /** Whether touching a page for reading may show the shared page of zeros instead of a page of its own. */
  zeroBacked(index: number): boolean {
    if (this.kind !== 'anon') return false;
    return this.#frames[index] === DISCARDED || (this.#frames[index] === UNTOUCHED && this.#fill === undefined);
  }

  /** The page's frame; makes the page if it was never touched. @throws PinionError SIM_OUT_OF_MEMORY (ENOMEM). */
  touch(index: number): Pfn {
    const frame = this.#frames[index] ?? UNTOUCHED;
    return frame > 0 ? asPfn(frame) : this.#make(index, frame === UNTOUCHED ? this.#fill : undefined);
  }

  /** Forgets a private page: whoever touches it next finds zeros. Does nothing to other kinds. */
  discard(index: number): void {
    if (this.kind !== 'anon') return;
    const frame = this.#frames[index] ?? UNTOUCHED;
    if (frame > 0) this.#host.letGo(asPfn(frame));
    this.#frames[index] = DISCARDED;
  }

  /** A private copy for a child: same content, pages of its own. @throws PinionError SIM_OUT_OF_MEMORY (ENOMEM). */
  copy(): MemoryObject {
    const contiguous = this.#pieceFrames === this.pages;
    const child = new MemoryObject(this.#host, { kind: this.kind, pages: this.pages, fill: this.#fill, contiguous });
    try {
      for (let index = 0; index < this.pages; index++) this.#copyPage(child, index);
    } catch (failure) {
      child.#end();
      throw failure;
    }
    return child;
  }

  /** One more mapping (or handle) uses the memory. */
  use(): void {
    this.#users++;
  }

  /** One fewer; the last one ends it: pages that nothing pins are freed. */
  unuse(): void {
    this.#users--;
    if (this.#users === 0) this.#end();
  }

  #copyPage(child: MemoryObject, index: number): void {
    const frame = this.#frames[index] ?? UNTOUCHED;
    if (frame <= 0) child.#frames[index] = frame;
    else this.#host.bytes(child.#make(index, undefined), 1).set(this.#host.bytes(asPfn(frame), 1));
  }

  #make(index: number, fill: Fill | undefined): Pfn {
    const pfn = this.#take(index);
    fill?.(index * PAGE_SIZE, this.#host.bytes(pfn, 1));
    this.#frames[index] = pfn;
    return pfn;
  }

  /** The page's own place in its piece, unless an older page of this index was there: that one may still be pinned. */
  #take(index: number): Pfn {
    const number = Math.floor(index / this.#pieceFrames);
    const piece = this.#piece(number);
    const place = index - number * this.#pieceFrames;
    if (CLASS[this.kind] !== 'normal') return asPfn(piece.first + place);
    return piece.used(place) ? this.#host.takeLoose() : this.#host.take(piece, place);
  }

  #piece(number: number): Piece {
    let piece = this.#pieces.get(number);
    if (piece === undefined) {
      const frames = Math.min(this.#pieceFrames, this.pages - number * this.#pieceFrames);
      piece = this.#host.reserve(frames, CLASS[this.kind]);
      this.#pieces.set(number, piece);
    }
    return piece;
  }

  /** Device and reserved frames are facts of the host and stay. */
  #end(): void {
    if (CLASS[this.kind] !== 'normal') return;
    for (const frame of this.#frames) if (frame > 0) this.#host.letGo(asPfn(frame));
    this.#frames.fill(DISCARDED);
    for (const piece of this.#pieces.values()) this.#host.abandon(piece);
    this.#pieces.clear();
  }
}
