import {
  type FrameRange,
  iovaFrame,
  PAGE_SIZE,
  PIN_PAGES_MAX,
  type PinApi,
  type PinnedPages,
  type Prot,
  pageOffset,
  rangesOverlap,
} from '@pinion/core';
import type { Piece } from './prp.js';

/** Pieces whose pages follow each other, so that one pin covers them. */
interface Run {
  readonly first: number;
  readonly offset: number;
  pages: number;
  length: number;
}

/** Joins pieces that go on where the one before ended. */
function joined(pieces: readonly Piece[]): readonly Run[] {
  const runs: Run[] = [];
  let end = -1n;
  for (const { address, length } of pieces) {
    const last = runs.at(-1);
    if (last !== undefined && address === end && pageOffset(address) === 0 && last.pages < PIN_PAGES_MAX) {
      last.pages += 1;
      last.length += length;
    } else runs.push({ first: iovaFrame(address), offset: pageOffset(address), pages: 1, length });
    end = address + BigInt(length);
  }
  return runs;
}

/** The guest memory of one command: pinned from here to `release`, seen through views without a copy. */
export class GuestBuffer {
  readonly #pins: PinnedPages[] = [];
  /** Live bytes in the order of the pieces; not to be used after `release`. */
  readonly views: readonly Uint8Array[];

  /** @throws what pinning throws (nothing stays pinned then): unmapped EINVAL, prot EPERM, memory EFAULT, limit ENOMEM. */
  constructor(api: PinApi, pieces: readonly Piece[], prot: Prot) {
    const views: Uint8Array[] = [];
    try {
      for (const { first, offset, pages, length } of joined(pieces)) {
        const pinned = api.pin(iovaFrame(BigInt(first) * BigInt(PAGE_SIZE)), pages, prot);
        this.#pins.push(pinned);
        views.push(...cut(pinned.views(), offset, length));
      }
    } catch (cause) {
      this.release();
      throw cause;
    }
    this.views = views;
  }

  touches(range: FrameRange): boolean {
    return this.#pins.some((pinned) => rangesOverlap(pinned.range, range));
  }

  release(): void {
    for (const pinned of this.#pins.splice(0)) pinned.unpin();
  }
}

/** Bytes offset..offset+length-1 of consecutive views. */
function cut(views: readonly Uint8Array[], offset: number, length: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let skip = offset;
  let left = length;
  for (const view of views) {
    const part = view.subarray(skip, skip + left);
    skip = Math.max(skip - view.length, 0);
    left -= part.length;
    if (part.length > 0) parts.push(part);
  }
  return parts;
}

/** Copies `bytes` over views, as far as they reach. */
export function scatter(bytes: Uint8Array, views: readonly Uint8Array[]): void {
  let at = 0;
  for (const view of views) {
    view.set(bytes.subarray(at, at + view.length));
    at += view.length;
  }
}
