import {
  asPfn,
  catalogue,
  type FrameRange,
  frameCount,
  frameRange,
  type IovaFrame,
  iovaFrame,
  PAGE_SIZE,
  type Pfn,
  type PinApi,
  type PinnedPages,
  type Prot,
  rangeHolds,
} from '@pinion/core';

const errors = catalogue('FAKE', {
  NOT_MAPPED: ['EINVAL', (at: { frame: number }) => `frame ${at.frame} is not mapped`],
  NOT_OPEN: ['EINVAL', () => 'the device is closed'],
  LIMIT: ['ENOMEM', () => 'RLIMIT_MEMLOCK'],
  RELEASED: ['EINVAL', (at: { frame: number }) => `frame ${at.frame} was given back`],
});

/** What a freed page reads like: a view that somebody kept shows it, and a write through it is seen. */
export const POISON = 0xdb;

/**
 * A pin API over pretended guest memory, with a counter per page. Every page exists; only those in `mapped` can be pinned. The
 * bytes of a page move away when its last pin goes, and what a driver may have kept is poisoned.
 */
export class FakePins implements PinApi {
  mapped: FrameRange[] = [];
  isOpen = true;
  /** Fails the next pins with ENOMEM. */
  exhausted = false;
  /** Runs at the start of every unpin, while the page is still held. */
  onUnpin: (frame: IovaFrame) => void = () => {};
  /** Unpins of pages that were not pinned. */
  readonly foreign: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #memory = new Map<number, Uint8Array>();

  /** The current bytes of a guest page. */
  page(frame: number): Uint8Array {
    const page = this.#memory.get(frame) ?? new Uint8Array(PAGE_SIZE);
    this.#memory.set(frame, page);
    return page;
  }

  /** Pinned frames with their counts, ascending: `[[7, 1]]`. */
  get held(): [frame: number, count: number][] {
    return [...this.#counts].sort(([a], [b]) => a - b);
  }

  get pages(): number {
    return this.#counts.size;
  }

  count(frame: IovaFrame): number {
    return this.#counts.get(frame) ?? 0;
  }

  pin(first: IovaFrame, count: number, prot: Prot): PinnedPages {
    this.pinInto(first, count, prot, new Float64Array(count));
    return new FakeHandle(this, frameRange(first, count), prot);
  }

  pinInto(first: IovaFrame, count: number, _prot: Prot, out: Float64Array): void {
    if (!this.isOpen) throw errors.NOT_OPEN({});
    if (this.exhausted) throw errors.LIMIT({});
    const frames = Array.from({ length: count }, (_, index) => first + index);
    const hole = frames.find((frame) => !this.mapped.some((range) => rangeHolds(range, frame)));
    if (hole !== undefined) throw errors.NOT_MAPPED({ frame: hole });
    for (const frame of frames) this.#counts.set(frame, (this.#counts.get(frame) ?? 0) + 1);
    out.set(frames);
  }

  pinAt(iova: bigint, count: number, prot: Prot, out: Float64Array): void {
    this.pinInto(iovaFrame(iova), count, prot, out);
  }

  unpin(first: IovaFrame, count: number): void {
    for (let frame: number = first; frame < first + count; frame++) this.#unpinOne(frame);
  }

  unpinAt(iova: bigint, count: number): void {
    this.unpin(iovaFrame(iova), count);
  }

  bytes(pfn: Pfn, _count: number): Uint8Array {
    return this.page(pfn);
  }

  /** The page of a handle that still holds it. */
  live(frame: number): Uint8Array {
    if (!this.#counts.has(frame)) throw errors.RELEASED({ frame });
    return this.page(frame);
  }

  #unpinOne(frame: number): void {
    const count = this.#counts.get(frame);
    if (count === undefined) {
      this.foreign.push(frame);
      return;
    }
    this.onUnpin(iovaFrame(BigInt(frame) << 12n));
    if (count > 1) this.#counts.set(frame, count - 1);
    else this.#free(frame);
  }

  #free(frame: number): void {
    this.#counts.delete(frame);
    const kept = this.page(frame);
    this.#memory.set(frame, kept.slice());
    kept.fill(POISON);
  }
}

class FakeHandle implements PinnedPages {
  readonly range: FrameRange;
  readonly prot: Prot;
  readonly #pins: FakePins;
  #released = false;

  constructor(pins: FakePins, range: FrameRange, prot: Prot) {
    this.#pins = pins;
    this.range = range;
    this.prot = prot;
  }

  get held(): boolean {
    return !this.#released && this.#pins.count(this.range.first) > 0;
  }

  get frames(): readonly Pfn[] {
    return Array.from({ length: frameCount(this.range) }, (_, index) => asPfn(this.range.first + index));
  }

  views(): readonly Uint8Array[] {
    return this.frames.map((frame) => this.#live(frame));
  }

  read(offset: number, length: number): Uint8Array {
    return this.#live(this.range.first).slice(offset, offset + length);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#live(this.range.first).set(bytes, offset);
  }

  unpin(): void {
    if (this.#released) return;
    this.#released = true;
    this.#pins.unpin(this.range.first, frameCount(this.range));
  }

  [Symbol.dispose](): void {
    this.unpin();
  }

  #live(frame: number): Uint8Array {
    if (this.#released) throw errors.RELEASED({ frame });
    return this.#pins.live(frame);
  }
}
