import assert from 'node:assert/strict';
import {
  asIovaFrame,
  asPfn,
  type Clock,
  type DmaApi,
  type FrameRange,
  frameRange,
  type IovaFrame,
  type Log,
  type Pfn,
  type PinApi,
  PinionError,
  type PinnedPages,
  type Prot,
} from '@pinion/core';
import {
  BCS,
  createGvtDriver,
  GTT_OFFSET,
  type GvtDevice,
  type GvtDriver,
  type GvtOptions,
  REGION,
  type Slice,
} from '@pinion/gvt';

const PAGE = 4096;
/** What a page is filled with when the guest gives it up: an engine that still reads or writes it shows. */
export const POISON = 0xdb;
/** Host frames begin here, so that a guest frame taken for a host frame does not work by luck. */
const HOST_BASE = 0x40000;

interface Timer {
  readonly due: number;
  readonly action: () => void;
}

/** A clock that moves only when told to: step by step, or by a span. Milliseconds. */
export class ManualClock implements Clock {
  #now = 0;
  #timers: Timer[] = [];

  now(): number {
    return this.#now;
  }

  after(delay: number, action: () => void): () => void {
    assert.ok(delay >= 0, `a delay of ${delay}`);
    const timer = { due: this.#now + delay, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  get waiting(): number {
    return this.#timers.length;
  }

  /** Runs what is due first, the oldest of several. @returns false if there was none. */
  step(): boolean {
    const timer = this.#first(Number.POSITIVE_INFINITY);
    this.#now = Math.max(this.#now + 1, timer?.due ?? 0);
    if (timer !== undefined) this.#run(timer);
    return timer !== undefined;
  }

  /** Runs until nothing is left. */
  drain(): void {
    for (let steps = 0; this.step(); steps += 1) assert.ok(steps < 100_000, 'the clock never runs dry');
  }

  /** Moves time on and runs what falls due, each at its time. */
  advance(span: number): void {
    const end = this.#now + span;
    for (let timer = this.#first(end); timer !== undefined; timer = this.#first(end)) {
      this.#now = Math.max(this.#now, timer.due);
      this.#run(timer);
    }
    this.#now = end;
  }

  #run(timer: Timer): void {
    this.#timers = this.#timers.filter((other) => other !== timer);
    timer.action();
  }

  #first(end: number): Timer | undefined {
    const ready = this.#timers.filter(({ due }) => due <= end);
    return ready.reduce<Timer | undefined>(
      (best, timer) => (best === undefined || timer.due < best.due ? timer : best),
      undefined,
    );
  }
}

/** A log that keeps what it was told. */
export class KeptLog implements Log {
  readonly warnings: string[] = [];

  info(): void {}

  warn(message: string): void {
    this.warnings.push(message);
  }
}

export interface FakeMemoryOptions {
  /** Guest pages, from guest frame 0. Default 1024. */
  readonly pages?: number;
  /** Host pages there are. Default as many as guest pages. */
  readonly hostPages?: number;
  /** Host page of a guest frame, as an index below `hostPages`; negative: not mapped. Default the same order. */
  readonly place?: (gfn: number) => number;
  /** Where a guest page lies once it was unpinned; default where it was. */
  readonly migrate?: (gfn: number) => number;
  /** Pages that may be pinned at once; default no limit. */
  readonly limit?: number;
}

/** Guest memory with a pin counter per page: mapped pages can be pinned, pinned ones give bytes, given-up ones are poisoned. */
export class FakePins implements PinApi {
  readonly #memory: Uint8Array;
  readonly #hosts: Int32Array;
  readonly #pinned: Uint16Array;
  readonly #limit: number;
  readonly #migrate: ((gfn: number) => number) | undefined;
  #pages = 0;
  /** Calls that pinned something, and that gave something back. */
  pinCalls = 0;
  unpinCalls = 0;

  constructor(options: FakeMemoryOptions = {}) {
    const { pages = 1024, place = (gfn) => gfn, limit = Number.POSITIVE_INFINITY } = options;
    this.#migrate = options.migrate;
    this.#memory = new Uint8Array((options.hostPages ?? pages) * PAGE);
    this.#hosts = Int32Array.from({ length: pages }, (_, gfn) => place(gfn));
    this.#pinned = new Uint16Array(pages);
    this.#limit = limit;
  }

  get pages(): number {
    return this.#pages;
  }

  /** The guest's own view of a page. */
  page(gfn: number): Uint8Array {
    const host = this.#hosts[gfn] ?? -1;
    assert.ok(host >= 0, `guest frame ${gfn} is not mapped`);
    return this.#memory.subarray(host * PAGE, (host + 1) * PAGE);
  }

  /** Whether the guest has memory there. */
  has(gfn: number): boolean {
    return (this.#hosts[gfn] ?? -1) >= 0;
  }

  hostFrame(gfn: number): Pfn {
    return asPfn(HOST_BASE + (this.#hosts[gfn] ?? 0));
  }

  count(frame: IovaFrame): number {
    return this.#pinned[frame] ?? 0;
  }

  pin(): PinnedPages {
    throw new PinionError('TEST_UNUSED', 'ENOTTY', 'this driver keeps its own books');
  }

  pinAt(): void {
    this.pin();
  }

  unpinAt(): void {
    this.pin();
  }

  pinInto(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void {
    assert.equal(prot, 3);
    for (let page = 0; page < count; page++) {
      if ((this.#hosts[first + page] ?? -1) < 0)
        throw new PinionError('TEST_NOT_MAPPED', 'EINVAL', `frame ${first + page}`);
    }
    const fresh = Array.from({ length: count }, (_, page) => this.#pinned[first + page] ?? 0).filter(
      (refs) => refs === 0,
    );
    if (this.#pages + fresh.length > this.#limit) throw new PinionError('TEST_LIMIT', 'ENOMEM', 'locked pages');
    for (let page = 0; page < count; page++) {
      this.#pinned[first + page] = (this.#pinned[first + page] ?? 0) + 1;
      out[page] = this.hostFrame(first + page);
    }
    this.#pages += fresh.length;
    this.pinCalls += 1;
  }

  unpin(first: IovaFrame, count: number): void {
    this.unpinCalls += 1;
    for (let frame: number = first; frame < first + count; frame++) {
      const refs = this.#pinned[frame] ?? 0;
      assert.ok(refs > 0, `frame ${frame} is not pinned`);
      this.#pinned[frame] = refs - 1;
      if (refs > 1) continue;
      this.#pages -= 1;
      if (this.#migrate !== undefined) this.#hosts[frame] = this.#migrate(frame);
    }
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    const host = pfn - HOST_BASE;
    assert.ok(this.#isHeld(host), `host frame ${pfn} is not pinned`);
    return this.#memory.subarray(host * PAGE, (host + count) * PAGE);
  }

  /** The mapping is gone: nothing may be pinned in it any more, and its pages belong to somebody else. */
  giveUp(range: FrameRange): void {
    for (let gfn: number = range.first; gfn <= range.last; gfn++) {
      const host = this.#hosts[gfn] ?? -1;
      if (host < 0) continue;
      assert.equal(this.#pinned[gfn], 0, `guest frame ${gfn} is still pinned after dmaUnmap`);
      this.#memory.fill(POISON, host * PAGE, (host + 1) * PAGE);
      this.#hosts[gfn] = -1;
    }
  }

  /** Host pages of the range as they were placed, for checking the poison after `giveUp`. */
  hostPages(range: FrameRange): readonly Uint8Array[] {
    return Array.from({ length: range.last - range.first + 1 }, (_, at) => this.page(range.first + at));
  }

  #isHeld(host: number): boolean {
    return this.#hosts.some((at, gfn) => at === host && (this.#pinned[gfn] ?? 0) > 0);
  }
}

/** Guest memory by guest-physical address, as the backend copies it. */
export function fakeDma(pins: FakePins): DmaApi {
  const copy = (gpa: bigint, bytes: Uint8Array, write: boolean): void => {
    for (let done = 0; done < bytes.length; ) {
      const at = Number(gpa) + done;
      const count = Math.min(PAGE - (at % PAGE), bytes.length - done);
      if (!pins.has(Math.floor(at / PAGE))) throw new PinionError('TEST_HOLE', 'EFAULT', `nothing at ${at}`);
      const page = pins.page(Math.floor(at / PAGE)).subarray(at % PAGE, (at % PAGE) + count);
      if (write) page.set(bytes.subarray(done, done + count));
      else bytes.set(page, done);
      done += count;
    }
  };
  return { read: (gpa, into) => copy(gpa, into, false), write: (gpa, from) => copy(gpa, from, true) };
}

export interface FakeGuestOptions extends FakeMemoryOptions, GvtOptions {
  readonly type?: string;
  /** A guest beside others of one GPU: the driver, the clock, and another name. Default: a GPU of its own. */
  readonly driver?: GvtDriver;
  readonly clock?: ManualClock;
  readonly name?: string;
}

/** A guest with one vGPU: reaches it through its regions, and its own memory directly. */
export class FakeGuest {
  readonly pins: FakePins;
  readonly clock: ManualClock;
  readonly log = new KeptLog();
  readonly driver: GvtDriver;
  readonly device: GvtDevice;
  /** Interrupts that arrived: [index, vector]. */
  readonly irqs: (readonly [number, number])[] = [];
  #ring = { gfn: 0, bytes: 0 };

  constructor(options: FakeGuestOptions = {}) {
    const { name = 'vgpu', clock = new ManualClock(), driver = createGvtDriver(options) } = options;
    this.clock = clock;
    this.pins = new FakePins(options);
    this.driver = driver;
    driver.create({
      name,
      type: options.type ?? 'V5_8',
      parent: 'gpu',
      dma: fakeDma(this.pins),
      clock: this.clock,
      log: this.log,
      pins: this.pins,
    });
    const device = driver.device(name);
    assert.ok(device);
    this.device = device;
    device.setIrqSink((index, vector) => this.irqs.push([index, vector]));
    device.open();
  }

  get low(): Slice {
    return this.device.resources.low;
  }

  get high(): Slice {
    return this.device.resources.high;
  }

  read32(offset: number, region: number = REGION.BAR0): number {
    const bytes = new Uint8Array(4);
    this.device.readRegion(region, offset, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  write32(offset: number, value: number, region: number = REGION.BAR0): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.device.writeRegion(region, offset, bytes);
  }

  /** Writes the table entry of the graphics page at `address`. */
  writeEntry(address: number, entry: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, entry, true);
    this.device.writeRegion(REGION.BAR0, GTT_OFFSET + (address / PAGE) * 8, bytes);
  }

  readEntry(address: number): bigint {
    const bytes = new Uint8Array(8);
    this.device.readRegion(REGION.BAR0, GTT_OFFSET + (address / PAGE) * 8, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  /** Maps `count` guest pages from `gfn` at the graphics address `address`. */
  mapPages(address: number, gfn: number, count: number): void {
    for (let page = 0; page < count; page++) this.writeEntry(address + page * PAGE, (BigInt(gfn + page) << 12n) | 3n);
  }

  /** Puts dwords into guest memory. `gfn` pages must lie one after the other in guest frames. */
  poke(gfn: number, offset: number, dwords: readonly number[]): void {
    for (const [index, dword] of dwords.entries()) {
      const at = offset + index * 4;
      const page = this.pins.page(gfn + Math.floor(at / PAGE));
      new DataView(page.buffer, page.byteOffset).setUint32(at % PAGE, dword, true);
    }
  }

  peek(gfn: number, offset: number): number {
    const page = this.pins.page(gfn + Math.floor(offset / PAGE));
    return new DataView(page.buffer, page.byteOffset).getUint32(offset % PAGE, true);
  }

  /** Sets up a ring of `pages` pages at guest frame `gfn`, graphics address `address`. */
  startRing(address: number, gfn: number, pages = 1): void {
    this.#ring = { gfn, bytes: pages * PAGE };
    this.mapPages(address, gfn, pages);
    this.write32(BCS.START, address);
    this.write32(BCS.HEAD, 0);
    this.write32(BCS.TAIL, 0);
    this.write32(BCS.CTL, ((pages - 1) << 12) | 1);
  }

  /** Puts commands behind the ring's tail, wrapping, and moves the tail: they run when the clock does. */
  submit(...commands: readonly (readonly number[])[]): void {
    const { gfn, bytes } = this.#ring;
    const dwords = commands.flat();
    if (dwords.length % 2 === 1) dwords.push(0);
    let tail = this.read32(BCS.TAIL);
    for (const dword of dwords) {
      this.poke(gfn, tail, [dword]);
      tail = (tail + 4) % bytes;
    }
    this.write32(BCS.TAIL, tail);
  }

  /** Lets the scheduler decide, and the engine do one slice of its work. */
  firstSlice(): void {
    this.clock.step();
  }

  /** Submits and lets the engine finish. */
  run(...commands: readonly (readonly number[])[]): void {
    this.submit(...commands);
    this.clock.drain();
  }

  /** Unmaps guest memory as a hypervisor does: the duty first, then the pages are gone. */
  unmap(first: number, count: number): void {
    const range = frameRange(asIovaFrame(first), count);
    this.device.dmaUnmap(range);
    this.pins.giveUp(range);
  }

  /** Closes and checks that nothing is left. */
  finish(): void {
    this.device.close();
    assert.equal(this.pins.pages, 0);
    assert.equal(this.clock.waiting, 0);
    assert.deepEqual(this.device.stats, {
      tableEntries: 0,
      cacheEntries: 0,
      cachePages: 0,
      faults: this.device.stats.faults,
    });
  }
}
