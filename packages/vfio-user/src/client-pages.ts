import { asPfn, type HostMemory, hex, PAGE_SIZE, type PageClass, type Pfn } from '@pinion/core';
import { BookedWindow, type Mapping, type MemoryWindow, SysError } from '@pinion/sys';
import { discard } from './discard.js';
import { vfioUserErrors } from './errors.js';

/** The first frame number given out, so that a forgotten translation (iova frame used as host frame) hits nothing. */
const FIRST_FRAME = 0x10_0000;

/** Mappings that are gone and still known by name. */
const REMEMBERED = 256;

/** The memory behind one DMA_MAP: consecutive frames. */
export interface Piece {
  readonly first: number;
  readonly pages: number;
  /** Absent: the client sent no descriptor, and its memory is reached by messages alone. */
  readonly memory: MemoryWindow | undefined;
  /** Long-term references to its pages. */
  references: number;
}

/**
 * The memory of all clients, as page frames. A frame stands for a page of one DMA mapping; numbers are never used twice, so
 * one that somebody kept leads to nothing. Give it to the mediator as its `memory`.
 */
export class ClientPages implements HostMemory {
  /** Ascending: numbers only grow. */
  readonly #pieces: Piece[] = [];
  readonly #leaving: MemoryWindow[] = [];
  /** The last ones that went, for messages. */
  readonly #gone: { readonly first: number; readonly end: number; readonly label: string }[] = [];
  #next = FIRST_FRAME;

  /** Pieces that are there: one per mapping of a client. */
  get pieces(): number {
    return this.#pieces.length;
  }

  /** References that devices hold on pages. */
  get references(): number {
    return this.#pieces.reduce((sum, piece) => sum + piece.references, 0);
  }

  add(pages: number, memory: MemoryWindow | undefined): Piece {
    const piece = { first: this.#next, pages, memory, references: 0 };
    this.#next += pages + 1; // one frame of nothing behind it, so that a run over its end is caught
    this.#pieces.push(piece);
    return piece;
  }

  /** Takes a piece away and lets go of its memory: views of it that somebody kept see it no more. */
  remove(piece: Piece): void {
    const index = this.#indexOf(piece.first);
    if (this.#pieces[index] !== piece) return;
    this.#pieces.splice(index, 1);
    this.#remember(piece);
    if (piece.memory !== undefined) this.#leaving.push(piece.memory);
    this.letGo();
  }

  /** Memory that the system would not unmap (ENOMEM) is tried again, here and with every piece that goes. */
  letGo(): void {
    const leaving = this.#leaving.splice(0);
    discard(leaving);
    this.#leaving.push(...leaving.filter((memory) => memory.open));
  }

  find(frame: number): Piece | undefined {
    return this.#pieces[this.#indexOf(frame)];
  }

  pageClass(pfn: Pfn): PageClass {
    return isMappable(this.find(pfn)) ? 'normal' : 'device';
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    const piece = this.find(pfn);
    const mapping = mappingOf(piece);
    const offset = piece === undefined ? 0 : (pfn - piece.first) * PAGE_SIZE;
    const size = count * PAGE_SIZE;
    if (piece === undefined) this.#checkGone(pfn, count);
    if (mapping === undefined || count < 1 || offset + size > mapping.length || !mapping.contiguous(offset, size)) {
      throw new RangeError(`host frames ${hex(pfn)}..${hex(pfn + count - 1)} are not one piece of mapped memory`);
    }
    return mapping.bytes(offset, size);
  }

  contiguous(pfn: Pfn): boolean {
    const piece = this.find(pfn);
    const mapping = mappingOf(piece);
    if (piece === undefined || mapping === undefined || pfn + 1 >= piece.first + piece.pages) return false;
    return mapping.contiguous((pfn - piece.first) * PAGE_SIZE, 2 * PAGE_SIZE);
  }

  /** @returns the frame, referenced; undefined if no memory is there that can be mapped, or it may not be written. */
  reference(frame: number, write: boolean): Pfn | undefined {
    const piece = this.find(frame);
    if (piece === undefined || !isMapped(piece) || (write && piece.memory?.writable !== true)) return undefined;
    piece.references += 1;
    return asPfn(frame);
  }

  /** @throws RangeError for a frame without references: whoever unpins it keeps wrong books. */
  unpinPage(pfn: Pfn, _dirty: boolean): void {
    const piece = this.find(pfn);
    if (piece === undefined || piece.references === 0) throw new RangeError(`host frame ${hex(pfn)} is not pinned`);
    piece.references -= 1;
  }

  #remember({ first, pages, memory }: Piece): void {
    if (memory === undefined) return;
    this.#gone.push({ first, end: first + pages, label: memory.label });
    if (this.#gone.length > REMEMBERED) this.#gone.shift();
  }

  /** @throws VFIOUSER_UNMAPPED (EFAULT) for frames of a mapping that is gone. */
  #checkGone(pfn: number, count: number): void {
    const gone = this.#gone.find(({ first, end }) => first <= pfn && pfn < end);
    if (gone === undefined) return;
    throw vfioUserErrors.UNMAPPED({ frames: `${hex(pfn)}..${hex(pfn + count - 1)}`, label: gone.label });
  }

  /** Index of the piece that holds `frame`, -1 if none does. */
  #indexOf(frame: number): number {
    let low = 0;
    let high = this.#pieces.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const piece = this.#pieces[middle];
      if (piece === undefined) return -1;
      if (frame < piece.first) high = middle - 1;
      else if (frame >= piece.first + piece.pages) low = middle + 1;
      else return middle;
    }
    return -1;
  }
}

const isMappable = (piece: Piece | undefined): boolean =>
  piece?.memory instanceof BookedWindow && piece.memory.mappable;

/** @throws SysError SYS_CALL_FAILED (ENOMEM, EACCES). */
const mappingOf = (piece: Piece | undefined): Mapping | undefined =>
  piece?.memory instanceof BookedWindow ? piece.memory.mapping() : undefined;

/** Whether a piece is mapped, now at the latest. What the system will not map cannot be pinned. */
function isMapped(piece: Piece): boolean {
  try {
    return mappingOf(piece) !== undefined;
  } catch (failure) {
    if (failure instanceof SysError) return false;
    throw failure;
  }
}
