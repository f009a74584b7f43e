import { type FrameRange, frameCount, PAGE_SIZE, type PinApi, pageOffset, rangesOverlap } from '@pinion/core';
import type { IdalFormat } from './idal.js';
import { type PinnedRun, pinBytes, pinPages } from './pinned-run.js';

/** Bytes of one pin: `offset` and `length` in bytes, counted from the first pinned page's start. */
export interface DataSpan {
  readonly pages: PinnedRun;
  readonly offset: number;
  readonly length: number;
}

/** `count`: bytes of data, at least 1; `unaligned`: pins are taken by byte address. */
export interface DataShape {
  readonly count: number;
  readonly format: IdalFormat;
  readonly unaligned?: boolean;
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
  readonly #pins: readonly PinnedRun[];
  readonly #words: readonly bigint[];

  private constructor(pins: readonly PinnedRun[], words: readonly bigint[], data: DataShape) {
    this.#pins = pins;
    this.#words = words;
    const { spans, broken } = layOut(pins, words, data);
    this.spans = spans;
    this.broken = broken;
  }

  /**
   * Pins the pages of `words` for reading and writing, all or nothing: what failed at run k gave back the k-1 before
   * it. @throws whatever `pins.pin` throws.
   */
  static pin(pins: PinApi, words: readonly bigint[], data: DataShape): CcwData {
    const pinRun = data.unaligned === true ? pinBytes : pinPages;
    const held: PinnedRun[] = [];
    try {
      for (const run of runsOf(words, data.format.block)) held.push(pinRun(pins, run[0] ?? 0n, run.length));
    } catch (failure) {
      for (const pages of held) pages.unpin();
      throw failure;
    }
    return new CcwData(held, words, data);
  }

  /** References to pages that are held. */
  get pages(): number {
    return this.#pins.reduce((sum, pages) => sum + frameCount(pages.range), 0);
  }

  /** Whether any pinned page lies in `range`. Source: page_array_iova_pinned(). */
  overlaps(range: FrameRange): boolean {
    return this.#pins.some((pages) => rangesOverlap(pages.range, range));
  }

  /** Whether a piece of the data begins at exactly this byte. */
  beginsAt(address: bigint): boolean {
    return this.#words.includes(address);
  }

  unpin(): void {
    for (const pages of this.#pins) pages.unpin();
  }
}

/** Which pinned bytes the words mean. */
function layOut(
  pins: readonly PinnedRun[],
  words: readonly bigint[],
  data: DataShape,
): Pick<CcwData, 'spans' | 'broken'> {
  const block = BigInt(data.format.block);
  const pageOfWord = pins.flatMap((pages) =>
    Array.from({ length: frameCount(pages.range) }, (_, page) => ({ pages, base: page * PAGE_SIZE })),
  );
  const spans: DataSpan[] = [];
  let left = data.count;
  for (const [index, word] of words.entries()) {
    const inBlock = Number(word % block);
    if (index > 0 && inBlock !== 0) return { spans, broken: true };
    const at = pageOfWord[index];
    const length = Math.min(left, data.format.block - inBlock);
    if (at !== undefined) addSpan(spans, { pages: at.pages, offset: at.base + pageOffset(word), length });
    left -= length;
  }
  return { spans, broken: false };
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
