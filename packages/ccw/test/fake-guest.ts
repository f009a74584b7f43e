import {
  asIovaFrame,
  asPfn,
  type Clock,
  type DmaApi,
  type Errno,
  type FrameRange,
  frameAddress,
  frameRange,
  type IovaFrame,
  iovaFrame,
  type Log,
  PAGE_SIZE,
  type Pfn,
  type PinApi,
  PinionError,
  type PinnedPages,
  type PinningDeviceContext,
  type Prot,
} from '@pinion/core';

const POISON = 0xdb;
const fail = (errno: Errno, message: string): PinionError => new PinionError(`GUEST_${errno}`, errno, message);

/**
 * A guest's memory with the DMA and pin APIs on it, before any mediator: `pages` pages from frame `first`, all
 * mapped. Counts every pin, and poisons a page that is unmapped so that a late write to it is noticed.
 */
export class FakeGuest {
  readonly first: number;
  readonly bytes: Uint8Array;
  readonly log: string[] = [];
  readonly warnings: string[] = [];
  /** Pin calls as `first frame/count`, hex. */
  readonly pinCalls: string[] = [];
  /** Runs inside each pin call, with its number from 1; may throw. */
  onPin: (call: number) => void = () => {};
  readonly #mapped: Uint8Array;
  readonly #counts = new Map<number, number>();
  #calls = 0;

  constructor(first: number, pages: number) {
    this.first = first;
    this.bytes = new Uint8Array(pages * PAGE_SIZE);
    this.#mapped = new Uint8Array(pages).fill(1);
  }

  /** References on all pages together. */
  get pinned(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Distinct pinned frames, ascending, hex. */
  get pinnedFrames(): string[] {
    return [...this.#counts.keys()].sort((a, b) => a - b).map((frame) => frame.toString(16));
  }

  /** Writes guest memory as the guest does. `address`: bytes. */
  poke(address: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, address - this.first * PAGE_SIZE);
  }

  pokeHex(address: number, hex: string): void {
    this.poke(address, Uint8Array.from(Buffer.from(hex.replaceAll(/[\s|]/g, ''), 'hex')));
  }

  peek(address: number, length: number): Uint8Array {
    const at = address - this.first * PAGE_SIZE;
    return this.bytes.slice(at, at + length);
  }

  peekHex(address: number, length: number): string {
    return Buffer.from(this.peek(address, length)).toString('hex');
  }

  /** Takes the mapping away. @returns frames that are still pinned: a real host dies of the first. */
  unmap(range: FrameRange): number {
    let kept = 0;
    for (let frame: number = range.first; frame <= range.last; frame += 1) {
      if (this.#counts.has(frame)) kept += 1;
      this.#mapped[frame - this.first] = 0;
      this.#page(frame).fill(POISON);
    }
    return kept;
  }

  /** Whether nobody wrote to `range` since it was unmapped. */
  untouched(range: FrameRange): boolean {
    let same = true;
    for (let frame: number = range.first; frame <= range.last; frame += 1)
      same &&= this.#page(frame).every((byte) => byte === POISON);
    return same;
  }

  readonly dma: DmaApi = {
    read: (iova, bytes) => {
      this.#checkBytes(iova, bytes.length);
      bytes.set(this.peek(Number(iova), bytes.length));
    },
    write: (iova, bytes) => {
      this.#checkBytes(iova, bytes.length);
      this.poke(Number(iova), bytes);
    },
  };

  readonly pins: PinApi = this.#makePins();

  context(overrides: Partial<PinningDeviceContext> = {}): PinningDeviceContext {
    const log: Log = {
      info: (message) => void this.log.push(message),
      warn: (message) => void this.warnings.push(message),
    };
    const clock: Clock = { now: () => 0, after: () => () => {} };
    const { dma, pins } = this;
    return { name: 'mdev-1', type: 'io', parent: '0.0.1234', dma, pins, clock, log, ...overrides };
  }

  #makePins(): PinApi {
    const guest = this;
    return {
      pin: (first, count, prot) => guest.#pin(frameRange(first, count), prot),
      pinInto: (first, count, _prot, out) => {
        guest.#take(frameRange(first, count));
        for (let page = 0; page < count; page += 1) out[page] = first + page;
      },
      pinAt: (iova, count, prot, out) => guest.pins.pinInto(iovaFrame(iova), count, prot, out),
      unpin: (first, count) => guest.#give(frameRange(first, count)),
      unpinAt: (iova, count) => guest.#give(frameRange(iovaFrame(iova), count)),
      bytes: (pfn: Pfn, count: number) => guest.#pages(frameRange(asIovaFrame(pfn), count)),
      count: (frame: IovaFrame) => guest.#counts.get(frame) ?? 0,
      get pages() {
        return guest.#counts.size;
      },
    };
  }

  #pin(range: FrameRange, prot: Prot): PinnedPages {
    this.#take(range);
    return new FakePins(range, prot, { pages: () => this.#pages(range), give: () => this.#give(range) });
  }

  #take(range: FrameRange): void {
    this.#calls += 1;
    this.onPin(this.#calls);
    for (let frame: number = range.first; frame <= range.last; frame += 1) this.#checkMapped(frame);
    this.pinCalls.push(`${range.first.toString(16)}/${range.last - range.first + 1}`);
    for (let frame: number = range.first; frame <= range.last; frame += 1)
      this.#counts.set(frame, (this.#counts.get(frame) ?? 0) + 1);
  }

  #give(range: FrameRange): void {
    for (let frame: number = range.first; frame <= range.last; frame += 1) {
      const count = this.#counts.get(frame);
      if (count === undefined) throw fail('EINVAL', `frame 0x${frame.toString(16)} is not pinned`);
      if (count === 1) this.#counts.delete(frame);
      else this.#counts.set(frame, count - 1);
    }
  }

  #checkBytes(iova: bigint, length: number): void {
    const last = Number(iova + BigInt(length) - 1n);
    for (let frame: number = iovaFrame(iova); frame <= Math.floor(last / PAGE_SIZE); frame += 1)
      this.#checkMapped(frame);
  }

  #checkMapped(frame: number): void {
    if (this.#mapped[frame - this.first] !== 1) throw fail('EINVAL', `frame 0x${frame.toString(16)} is not mapped`);
  }

  #page(frame: number): Uint8Array {
    return this.#pages(frameRange(asIovaFrame(frame), 1));
  }

  #pages(range: FrameRange): Uint8Array {
    const at = (range.first - this.first) * PAGE_SIZE;
    return this.bytes.subarray(at, at + (range.last - range.first + 1) * PAGE_SIZE);
  }
}

/**
 * A handle like core's: unusable after `unpin`. Its memory comes in one view per page, so that views are never
 * assumed to be one.
 */
class FakePins implements PinnedPages {
  readonly range: FrameRange;
  readonly prot: Prot;
  readonly #owner: { pages: () => Uint8Array; give: () => void };
  held = true;

  constructor(range: FrameRange, prot: Prot, owner: { pages: () => Uint8Array; give: () => void }) {
    this.range = range;
    this.prot = prot;
    this.#owner = owner;
  }

  get frames(): readonly Pfn[] {
    this.#check();
    return Array.from({ length: this.range.last - this.range.first + 1 }, (_, page) => asPfn(this.range.first + page));
  }

  views(): readonly Uint8Array[] {
    const all = this.#check();
    return this.frames.map((_, page) => all.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE));
  }

  read(offset: number, length: number): Uint8Array {
    return this.#check().slice(offset, offset + length);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#check().set(bytes, offset);
  }

  unpin(): void {
    if (!this.held) return;
    this.held = false;
    this.#owner.give();
  }

  [Symbol.dispose](): void {
    this.unpin();
  }

  #check(): Uint8Array {
    if (!this.held) throw fail('EINVAL', `pins from 0x${frameAddress(this.range.first).toString(16)} were released`);
    return this.#owner.pages();
  }
}

/** The frames that hold `length` bytes from `address`. */
export const framesOf = (address: number, length: number): FrameRange => ({
  first: iovaFrame(BigInt(address)),
  last: iovaFrame(BigInt(address + length - 1)),
});
