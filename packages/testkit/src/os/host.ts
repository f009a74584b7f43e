import { asPfn, type HostMemory, PAGE_SIZE, type PageClass, type Pfn } from '@pinion/core';
import { simErrors } from '../errors.js';
import { Piece } from './piece.js';

/** Frames in a block: the unit in which frame numbers are handed out, 2 MiB. */
export const BLOCK_FRAMES = 512;
/** What freed pages are filled with, so that a view kept for too long shows it. */
export const POISON = 0xdb;
const POISON_WORD = (POISON * 0x01010101) | 0;
/** The first frame ever handed out: frame numbers near 0 are then always somebody's mistake. */
const FIRST_FRAME = 0x100000;

export interface HostOptions {
  /** Pages of class `normal` that may be in use at a time; more is ENOMEM. Default: no limit. */
  readonly capacity?: number;
  /** Whether freed pages are overwritten with `POISON`. Default true; benchmarks turn it off. */
  readonly poison?: boolean;
  /** Whether freed pages are kept for `trespasses`. Costs a page of memory for each. Default false. */
  readonly keepFreed?: boolean;
}

interface FreedPage {
  readonly pfn: Pfn;
  readonly bytes: Uint8Array;
}

/** By whole words: a scenario asks for many pages many times. */
function isPoison(page: Uint8Array): boolean {
  const words = new Int32Array(page.buffer, page.byteOffset, page.length / 4);
  for (let at = 0; at < words.length; at++) if (words[at] !== POISON_WORD) return false;
  return true;
}

/**
 * The pages of a simulated host. A page lives as long as a mapping holds it or a pin refers to it, so memory that was
 * unmapped or discarded under a pin keeps its frame and its content until the last unpin. Frame numbers are never reused.
 * Only class `normal` is counted and can be pinned; `reserved` and `device` frames exist as long as the host.
 */
export class SimulatedHost implements HostMemory {
  /** The one page of zeros that untouched memory is read from; class `reserved`. */
  readonly zeroPage: Pfn;
  readonly capacity: number;
  readonly #poison: boolean;
  readonly #freed: FreedPage[] | undefined;
  readonly #blocks = new Map<number, Piece>();
  #nextFrame = FIRST_FRAME;
  #loose: Piece | undefined;
  #looseNext = 0;
  #livePages = 0;
  #pinnedPages = 0;
  #recent: Piece | undefined;

  constructor(options: HostOptions = {}) {
    this.capacity = options.capacity ?? Number.POSITIVE_INFINITY;
    this.#poison = options.poison ?? true;
    if (options.keepFreed === true && this.#poison) this.#freed = [];
    this.zeroPage = asPfn(this.reserve(1, 'reserved').first);
  }

  /** Pages of class `normal` in use: mapped, pinned or both. */
  get livePages(): number {
    return this.#livePages;
  }

  /** References taken by pins and not given back, over all pages. */
  get pinnedPages(): number {
    return this.#pinnedPages;
  }

  /** Bytes of the buffers behind all frames that may still become or be pages; grows and shrinks by whole pieces. */
  get bufferBytes(): number {
    return [...new Set(this.#blocks.values())].reduce((sum, piece) => sum + piece.count * PAGE_SIZE, 0);
  }

  /** Freed pages that somebody has written to since: through a view kept for too long. Only with `keepFreed` and `poison`. */
  trespasses(): readonly Pfn[] {
    return (this.#freed ?? []).filter(({ bytes }) => !isPoison(bytes)).map(({ pfn }) => pfn);
  }

  /** References that pins hold on one page. @throws PinionError SIM_NO_SUCH_PAGE (EFAULT). */
  pinsOf(pfn: Pfn): number {
    const piece = this.#pieceOf(pfn, 'pinsOf');
    return piece.pins(pfn - piece.first);
  }

  /** Whether an unpin marked the page as written. @throws PinionError SIM_NO_SUCH_PAGE (EFAULT). */
  dirty(pfn: Pfn): boolean {
    const piece = this.#pieceOf(pfn, 'dirty');
    return piece.dirty(pfn - piece.first);
  }

  /** @throws PinionError SIM_NO_SUCH_PAGE (EFAULT) for a frame that is no page, or none any more. */
  pageClass(pfn: Pfn): PageClass {
    return this.#pieceOf(pfn, 'pageClass').pageClass;
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    const piece = this.#find(pfn);
    const index = piece === undefined ? 0 : pfn - piece.first;
    for (let i = 0; i < count; i++) {
      if (piece === undefined || !this.#exists(piece, index + i)) {
        throw new RangeError(`${count} pages from frame 0x${pfn.toString(16)} are not one piece of memory`);
      }
    }
    if (piece === undefined || !(count > 0)) throw new RangeError(`no pages asked for: ${count}`);
    return piece.bytes(index, count);
  }

  contiguous(pfn: Pfn): boolean {
    const piece = this.#find(pfn);
    return piece !== undefined && this.#exists(piece, pfn - piece.first) && this.#exists(piece, pfn + 1 - piece.first);
  }

  /**
   * Does nothing for classes `reserved` and `device`, which hold no references.
   * @throws PinionError SIM_NO_SUCH_PAGE (EFAULT), SIM_NOT_PINNED (EINVAL): bugs of the caller, nothing has changed.
   */
  unpinPage(pfn: Pfn, dirty: boolean): void {
    const piece = this.#pieceOf(pfn, 'unpinPage');
    if (piece.pageClass !== 'normal') return;
    const index = pfn - piece.first;
    if (piece.pins(index) === 0) throw simErrors.NOT_PINNED({ pfn });
    this.#pinnedPages--;
    if (piece.unpin(index, dirty)) this.#ended(piece, index);
  }

  /** Takes one pin reference. The page is of class `normal` and live. @throws PinionError SIM_NO_SUCH_PAGE (EFAULT). */
  pinPage(pfn: Pfn): void {
    const piece = this.#pieceOf(pfn, 'pinPage');
    piece.pin(pfn - piece.first);
    this.#pinnedPages++;
  }

  /** Hands out frame numbers for `count` contiguous pages; a page of class `normal` exists only once it is taken. */
  reserve(count: number, pageClass: PageClass): Piece {
    const piece = new Piece(this.#nextFrame, count, pageClass);
    const blocks = Math.ceil(count / BLOCK_FRAMES);
    for (let block = 0; block < blocks; block++) this.#blocks.set(piece.first / BLOCK_FRAMES + block, piece);
    this.#nextFrame += blocks * BLOCK_FRAMES;
    return piece;
  }

  /** Makes a zeroed page of an unused frame of `piece`, held by a mapping. @throws PinionError SIM_OUT_OF_MEMORY (ENOMEM). */
  take(piece: Piece, index: number): Pfn {
    if (this.#livePages >= this.capacity) throw simErrors.OUT_OF_MEMORY({ capacity: this.capacity });
    piece.take(index);
    this.#livePages++;
    return asPfn(piece.first + index);
  }

  /** Makes a zeroed page somewhere, held by a mapping. @throws PinionError SIM_OUT_OF_MEMORY (ENOMEM). */
  takeLoose(): Pfn {
    if (this.#loose === undefined || this.#looseNext === BLOCK_FRAMES) {
      if (this.#loose !== undefined) this.abandon(this.#loose);
      this.#loose = this.reserve(BLOCK_FRAMES, 'normal');
      this.#looseNext = 0;
    }
    const pfn = this.take(this.#loose, this.#looseNext);
    this.#looseNext++;
    return pfn;
  }

  /** The mapping that held a page of class `normal` lets it go. */
  letGo(pfn: Pfn): void {
    const piece = this.#pieceOf(pfn, 'letGo');
    const index = pfn - piece.first;
    if (piece.letGo(index)) this.#ended(piece, index);
  }

  /** No further page will be taken from `piece`: it goes as soon as its last page does. */
  abandon(piece: Piece): void {
    piece.abandoned = true;
    if (piece.live === 0) this.#forget(piece);
  }

  #exists(piece: Piece, index: number): boolean {
    return index < piece.count && (piece.pageClass !== 'normal' || piece.isLive(index));
  }

  #find(pfn: number): Piece | undefined {
    const recent = this.#recent;
    if (recent !== undefined && pfn >= recent.first && pfn < recent.first + recent.count) return recent;
    const piece = this.#blocks.get(Math.floor(pfn / BLOCK_FRAMES));
    if (piece !== undefined) this.#recent = piece;
    return piece;
  }

  #pieceOf(pfn: Pfn, call: string): Piece {
    const piece = this.#find(pfn);
    if (piece === undefined || !this.#exists(piece, pfn - piece.first)) throw simErrors.NO_SUCH_PAGE({ pfn, call });
    return piece;
  }

  #ended(piece: Piece, index: number): void {
    this.#livePages--;
    const bytes = piece.bytes(index, 1);
    if (this.#poison) bytes.fill(POISON);
    this.#freed?.push({ pfn: asPfn(piece.first + index), bytes });
    if (piece.abandoned && piece.live === 0) this.#forget(piece);
  }

  #forget(piece: Piece): void {
    if (this.#recent === piece) this.#recent = undefined;
    const blocks = Math.ceil(piece.count / BLOCK_FRAMES);
    for (let block = 0; block < blocks; block++) this.#blocks.delete(piece.first / BLOCK_FRAMES + block);
  }
}
