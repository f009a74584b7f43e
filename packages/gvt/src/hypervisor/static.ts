import { asGfn, type FrameRange, type Gfn, type Pfn, PinionError, rangeHolds } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { BackendFactory, BackendParts } from './backend.js';
import { CHUNK } from './held-pages.js';
import { HoldingBackend, pagesOf } from './holding.js';

/** A partitioned machine: what belongs to its guests is known beforehand. */
export interface StaticMemory {
  /** The guest's RAM: closed ranges of guest frames, which do not overlap. Default none, until `setGuestMemory`. */
  readonly memory?: readonly FrameRange<Gfn>[];
}

/**
 * The way of a static hypervisor (ACRN): all of the guest's memory is held from open to close. What is mapped when the vGPU opens is
 * pinned then; a piece that is plugged later is pinned as soon as a page of it is asked for. There is no record of single pages,
 * unmap does nothing, and a range that goes away is given back. Source: acrngt.c.
 */
export class StaticBackend extends HoldingBackend {
  readonly kind = 'static';
  #memory: readonly FrameRange<Gfn>[];

  constructor(parts: BackendParts, { memory = [] }: StaticMemory = {}) {
    super(parts);
    this.#memory = memory;
  }

  /** @throws what the pin API throws but EINVAL, which means that a piece is not mapped yet; nothing is held then. */
  override attach(): void {
    super.attach();
    try {
      for (const range of this.#memory) for (const piece of piecesOf(range)) this.#holdMapped(piece);
    } catch (cause) {
      this.detach();
      throw cause;
    }
  }

  /** The partition from the next `attach` on; what is held now stays. */
  setGuestMemory(memory: readonly FrameRange<Gfn>[]): void {
    this.#memory = memory;
  }

  isValidGfn(gfn: Gfn): boolean {
    return this.#rangeOf(gfn) !== undefined;
  }

  /** @throws PinionError GVT_NO_PAGE (EINVAL) outside the configured memory, and as `HoldingBackend`. */
  override dmaMapGuestPage(gfn: Gfn, size: number): Pfn {
    this.checkOpen();
    const last = gfn + pagesOf(size) - 1;
    for (let at = gfn; ; ) {
      const range = this.#rangeOf(at);
      if (range === undefined) throw gvtErrors.NO_PAGE({ gfn: at });
      const piece = pieceAt(range, at);
      if (this.held.frame(at) === undefined) this.#holdMapped(piece);
      if (piece.last >= last) break;
      at = asGfn(piece.last + 1);
    }
    return super.dmaMapGuestPage(gfn, size);
  }

  #rangeOf(gfn: Gfn): FrameRange<Gfn> | undefined {
    return this.#memory.find((range) => rangeHolds(range, gfn));
  }

  #holdMapped({ first, last }: FrameRange<number>): void {
    try {
      this.held.hold(first, last - first + 1);
    } catch (cause) {
      if (!(cause instanceof PinionError) || cause.errno !== 'EINVAL') throw cause;
    }
  }
}

/** The part of `range` that lies in the same 2 MiB as `gfn`. */
function pieceAt(range: FrameRange<number>, gfn: number): FrameRange<number> {
  const base = gfn - (gfn % CHUNK);
  return { first: Math.max(range.first, base), last: Math.min(range.last, base + CHUNK - 1) };
}

function* piecesOf(range: FrameRange<number>): Generator<FrameRange<number>> {
  for (let piece = pieceAt(range, range.first); ; piece = pieceAt(range, piece.last + 1)) {
    yield piece;
    if (piece.last >= range.last) return;
  }
}

export const staticBackend =
  (memory: StaticMemory = {}): BackendFactory =>
  (parts) =>
    new StaticBackend(parts, memory);
