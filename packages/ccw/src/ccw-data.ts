import {
  type FrameRange,
  iovaFrame,
  PAGE_SIZE,
  type PinApi,
  type PinnedPages,
  PROT_RW,
  pageOffset,
  rangesOverlap,
} from '@pinion/core';
import type { IdalFormat } from './idal.js';

/** Bytes of one pin: `offset` and `length` in bytes, counted from the first pinned page's start. */
export interface DataSpan {
  readonly pages: PinnedPages;
  readonly offset: number;
  readonly length: number;
}

const PAGE = BigInt(PAGE_SIZE);

/**
 * The pinned pages behind one CCW. Words that follow each other by exactly a page are pinned together; 2 KiB lists
 * are pinned word by word, so one page may be pinned twice. Source: page_array_pin().
 */
export class CcwData {
  /** The data in order. May stop short of the count: see `broken`. */
  readonly spans: readonly DataSpan[];
  /** A word after the first is not on a block border: the channel stops there with a program check. */
  readonly broken: boolean;
  readonly #pins: readonly PinnedPages[];

  private constructor(pins: readonly PinnedPages[], spans: readonly DataSpan[], broken: boolean) {
    this.#pins = pins;
    this.spans = spans;
    this.broken = broken;
  }

  /**
   * Pins the pages of `words` for reading and writing, all or nothing: what failed at run k gave back the k-1 before
   * it. `count`: bytes of data, at least 1. @throws whatever `pins.pin` throws.
   */
  static pin(pins: PinApi, words: readonly bigint[], data: { count: number; format: IdalFormat }): CcwData {
    const runs = runsOf(words, data.format.block);
    const held: PinnedPages[] = [];
    try {
      for (const run of runs) held.push(pins.pin(iovaFrame(run[0] ?? 0n), run.length, PROT_RW));
    } catch (failure) {
      for (const pages of held) pages.unpin();
      throw failure;
    }
    const pagesOfWord = runs.flatMap((run, at) => run.map((_, page) => ({ pages: held[at], base: page * PAGE_SIZE })));
    const spans: DataSpan[] = [];
    let left = data.count;
    for (const [index, word] of words.entries()) {
      const inBlock = Number(word % BigInt(data.format.block));
      if (index > 0 && inBlock !== 0) return new CcwData(held, spans, true);
      const { pages, base } = pagesOfWord[index] ?? { pages: undefined, base: 0 };
      const length = Math.min(left, data.format.block - inBlock);
      if (pages !== undefined) addSpan(spans, { pages, offset: base + pageOffset(word), length });
      left -= length;
    }
    return new CcwData(held, spans, false);
  }

  /** References to pages that are held. */
  get pages(): number {
    return this.#pins.reduce((sum, pages) => sum + (pages.range.last - pages.range.first + 1), 0);
  }

  /** Whether any pinned page lies in `range`. Source: page_array_iova_pinned(). */
  overlaps(range: FrameRange): boolean {
    return this.#pins.some((pages) => rangesOverlap(pages.range, range));
  }

  unpin(): void {
    for (const pages of this.#pins) pages.unpin();
  }
}

/** Splits a list into runs of words that one pin covers. */
function runsOf(words: readonly bigint[], block: number): readonly (readonly bigint[])[] {
  const runs: bigint[][] = [];
  for (const word of words) {
    const run = runs.at(-1);
    const before = run?.at(-1);
    if (run !== undefined && before !== undefined && block === PAGE_SIZE && before + PAGE === word) run.push(word);
    else runs.push([word]);
  }
  return runs;
}

/** Appends a span, or lengthens the last one when the bytes follow it. */
function addSpan(spans: DataSpan[], span: DataSpan): void {
  const last = spans.at(-1);
  if (last === undefined || last.pages !== span.pages || last.offset + last.length !== span.offset) spans.push(span);
  else spans[spans.length - 1] = { ...last, length: last.length + span.length };
}

/** The live bytes of a span, as few views as its pages allow. @throws PinionError CORE_PINS_RELEASED after unpin. */
export function viewsOfSpan(span: DataSpan): readonly Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const end = span.offset + span.length;
  let at = 0;
  for (const view of span.pages.views()) {
    const from = Math.max(span.offset - at, 0);
    const to = Math.min(end - at, view.length);
    if (from < to) pieces.push(view.subarray(from, to));
    at += view.length;
  }
  return pieces;
}
