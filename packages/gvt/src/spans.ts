/** Fast ways over runs of graphics memory: whole pieces of pages at once, each page looked up when its turn comes. */
import { PAGE_SIZE } from '@pinion/core';
import type { PagedAccess } from './paged-access.js';

const OFFSET = PAGE_SIZE - 1;
const LOW_BYTES = 0x01010101;
/** Below this a loop beats making a view of words. */
const FEW = 32;

/** The four bytes `word` (lowest first) as they repeat from `address` on, turned so that they are in step with address 0. */
export function inStep(word: number, address: number): number {
  const turn = (address & 3) * 8;
  return turn === 0 ? word >>> 0 : ((word << turn) | (word >>> (32 - turn))) >>> 0;
}

/** Fills `length` bytes from `address` with four bytes that repeat; `word` is in step with address 0. */
export function fillSpan(
  memory: PagedAccess,
  span: { readonly address: number; readonly length: number },
  word: number,
): void {
  const { address, length } = span;
  for (let done = 0; done < length; ) {
    const offset = (address + done) & OFFSET;
    const count = Math.min(PAGE_SIZE - offset, length - done);
    const page = memory.page(address + done, true);
    if (page !== undefined) fillBytes(page, offset, { count, word });
    done += count;
  }
}

function fillBytes(page: Uint8Array, offset: number, { count, word }: { count: number; word: number }): void {
  const end = offset + count;
  if (word === Math.imul(word & 0xff, LOW_BYTES) >>> 0) {
    page.fill(word & 0xff, offset, end);
    return;
  }
  const aligned = (page.byteOffset & 3) === 0 && count >= FEW;
  const first = aligned ? (offset + 3) & ~3 : end;
  const last = aligned ? end & ~3 : end;
  for (let at = offset; at < first; at++) page[at] = word >>> ((at & 3) * 8);
  if (first < last) new Uint32Array(page.buffer, page.byteOffset + first, (last - first) / 4).fill(word);
  for (let at = last; at < end; at++) page[at] = word >>> ((at & 3) * 8);
}

/** A run of bytes that is copied to another place. */
export interface SpanCopy {
  readonly from: number;
  readonly to: number;
  readonly length: number;
}

/** Copies a run, from its end if `upwards`: the order that an overlap needs. Where nothing stands behind the source, zeros are copied. */
export function copySpan(memory: PagedAccess, { from, to, length }: SpanCopy, upwards: boolean): void {
  for (let done = 0; done < length; ) {
    const left = length - done;
    const count = upwards ? backwards(from + left, to + left, left) : forwards(from + done, to + done, left);
    const at = upwards ? left - count : done;
    const source = memory.page(from + at, false);
    const target = memory.page(to + at, true);
    const [read, write] = [(from + at) & OFFSET, (to + at) & OFFSET];
    if (source === undefined) target?.fill(0, write, write + count);
    else target?.set(source.subarray(read, read + count), write);
    done += count;
  }
}

/** Bytes up to the first end of a page on either side. */
const forwards = (from: number, to: number, left: number): number =>
  Math.min(PAGE_SIZE - (from & OFFSET), PAGE_SIZE - (to & OFFSET), left);

/** Bytes down to the first beginning of a page on either side, where both runs end. */
const backwards = (from: number, to: number, left: number): number =>
  Math.min(((from - 1) & OFFSET) + 1, ((to - 1) & OFFSET) + 1, left);
