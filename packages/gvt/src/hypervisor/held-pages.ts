import { asGfn, asIovaFrame, asPfn, type FrameRange, type Gfn, type Pfn, type PinApi, PROT_RW } from '@pinion/core';
import { gvtErrors } from '../errors.js';

/** Pages of a chunk: 2 MiB, also the most that one pin takes. */
export const CHUNK = 512;

interface Chunk {
  readonly frames: Float64Array;
  readonly held: Uint8Array;
  /** How often a held page was asked for. It only grows. */
  readonly asked: Uint32Array;
  count: number;
}

/** A guest page that the device may have written, and how often it was asked for. */
export interface AskedPage {
  readonly gfn: Gfn;
  readonly asked: number;
}

/**
 * Guest pages that are held until their range goes away, one record per page: there are no references to drop. In chunks of 2 MiB,
 * about 13 bytes per page where memory is dense.
 */
export class HeldPages {
  readonly #pins: PinApi;
  readonly #chunks = new Map<number, Chunk>();
  readonly #out = new Float64Array(CHUNK);
  #pages = 0;

  constructor(pins: PinApi) {
    this.#pins = pins;
  }

  /** Pages held. */
  get pages(): number {
    return this.#pages;
  }

  /** The host frame of a page that is held. */
  frame(gfn: number): Pfn | undefined {
    const chunk = this.#chunks.get(Math.floor(gfn / CHUNK));
    const at = gfn % CHUNK;
    return chunk === undefined || chunk.held[at] !== 1 ? undefined : asPfn(chunk.frames[at] ?? 0);
  }

  /**
   * Asks for `count` pages from `gfn`, which must follow each other in the host, and holds those that are not held yet. All or nothing.
   * @returns the first host frame. @throws GVT_NOT_CONTIGUOUS (EINVAL) and what the pin API throws.
   */
  ask(gfn: Gfn, count: number): Pfn {
    const known = count === 1 ? this.frame(gfn) : undefined;
    if (known !== undefined) {
      this.#count(gfn);
      return known;
    }
    const fresh = this.#takeMissing(gfn, count);
    const dma = this.frame(gfn) ?? asPfn(0);
    for (let page = 1; page < count; page++) {
      if (this.frame(gfn + page) === dma + page) continue;
      for (const run of fresh) this.release(run);
      throw gvtErrors.NOT_CONTIGUOUS({ first: gfn, last: gfn + count - 1 });
    }
    for (let page = 0; page < count; page++) this.#count(gfn + page);
    return dma;
  }

  /** Holds those of `count` pages from `gfn` that are not held yet, without counting. All or nothing. @throws what the pin API throws. */
  hold(gfn: number, count: number): void {
    this.#takeMissing(gfn, count);
  }

  /** Lets go of every page in the range. @returns pages given back. */
  release(range: FrameRange<number>): number {
    const before = this.#pages;
    const first = Math.floor(range.first / CHUNK);
    const last = Math.floor(range.last / CHUNK);
    if (last - first >= this.#chunks.size) {
      for (const key of [...this.#chunks.keys()]) if (key >= first && key <= last) this.#releaseIn(key, range);
    } else for (let key = first; key <= last; key++) this.#releaseIn(key, range);
    return before - this.#pages;
  }

  /** The pages that were asked for while they were held: the log of what the device may have written. */
  *asked(): Generator<AskedPage> {
    for (const [key, { held, asked }] of this.#chunks) {
      for (let at = 0; at < CHUNK; at++) {
        const count = asked[at] ?? 0;
        if (held[at] === 1 && count > 0) yield { gfn: asGfn(key * CHUNK + at), asked: count };
      }
    }
  }

  #count(gfn: number): void {
    const asked = this.#chunks.get(Math.floor(gfn / CHUNK))?.asked;
    if (asked !== undefined) asked[gfn % CHUNK] = (asked[gfn % CHUNK] ?? 0) + 1;
  }

  /** @returns the runs that were pinned now. */
  #takeMissing(gfn: number, count: number): readonly FrameRange<number>[] {
    const fresh: FrameRange<number>[] = [];
    try {
      for (let done = 0; done < count; ) {
        const length = this.#runLength(gfn + done, count - done);
        if (this.frame(gfn + done) === undefined) fresh.push(this.#take(gfn + done, length));
        done += length;
      }
    } catch (cause) {
      for (const run of fresh) this.release(run);
      throw cause;
    }
    return fresh;
  }

  /** How many of at most `limit` pages from `gfn`, within its chunk, are held or not held as the first one is. */
  #runLength(gfn: number, limit: number): number {
    const held = this.frame(gfn) !== undefined;
    const most = Math.min(limit, CHUNK - (gfn % CHUNK));
    let length = 1;
    while (length < most && (this.frame(gfn + length) !== undefined) === held) length += 1;
    return length;
  }

  #take(first: number, count: number): FrameRange<number> {
    this.#pins.pinInto(asIovaFrame(first), count, PROT_RW, this.#out);
    const chunk = this.#chunkOf(Math.floor(first / CHUNK));
    const at = first % CHUNK;
    chunk.frames.set(this.#out.subarray(0, count), at);
    chunk.held.fill(1, at, at + count);
    chunk.asked.fill(0, at, at + count);
    chunk.count += count;
    this.#pages += count;
    return { first, last: first + count - 1 };
  }

  #chunkOf(key: number): Chunk {
    const known = this.#chunks.get(key);
    if (known !== undefined) return known;
    const chunk = {
      frames: new Float64Array(CHUNK),
      held: new Uint8Array(CHUNK),
      asked: new Uint32Array(CHUNK),
      count: 0,
    };
    this.#chunks.set(key, chunk);
    return chunk;
  }

  #releaseIn(key: number, range: FrameRange<number>): void {
    const chunk = this.#chunks.get(key);
    if (chunk === undefined) return;
    const base = key * CHUNK;
    const end = Math.min(range.last - base, CHUNK - 1);
    for (let at = Math.max(range.first - base, 0); at <= end; at++) {
      if (chunk.held[at] !== 1) continue;
      const first = at;
      while (at < end && chunk.held[at + 1] === 1) at += 1;
      this.#give(chunk, base, { first, last: at });
    }
    if (chunk.count === 0) this.#chunks.delete(key);
  }

  #give(chunk: Chunk, base: number, { first, last }: FrameRange<number>): void {
    const count = last - first + 1;
    chunk.held.fill(0, first, last + 1);
    chunk.count -= count;
    this.#pages -= count;
    this.#pins.unpin(asIovaFrame(base + first), count);
  }
}
