import {
  asIovaFrame,
  asPfn,
  defineDriver,
  definePlugin,
  type FrameRange,
  type IovaFrame,
  type Pfn,
  type PinApi,
  type PinningDeviceContext,
  type PinningDeviceOps,
  type Plugin,
  PROT_RW,
  type Prot,
} from '@pinion/core';

/** A call of a probe's `dmaUnmap`: which probe (by number), which frames. */
export interface ProbeCall {
  readonly probe: number;
  readonly first: number;
  readonly last: number;
}

/**
 * A mediated device that pins what a case tells it and whose duty a case replaces. By default it complies: it gives back every pin
 * inside the range.
 */
export class ProbeDevice implements PinningDeviceOps {
  readonly number: number;
  readonly pins: PinApi;
  readonly #calls: ProbeCall[];
  /** What `dmaUnmap` does. */
  duty: (range: FrameRange) => void | Promise<void> = (range) => this.releaseWithin(range);

  constructor(context: PinningDeviceContext, number: number, calls: ProbeCall[]) {
    this.pins = context.pins;
    this.number = number;
    this.#calls = calls;
  }

  close(): void {
    this.releaseWithin({ first: asIovaFrame(0), last: asIovaFrame(Number.MAX_SAFE_INTEGER) });
  }

  dmaUnmap(range: FrameRange): void | Promise<void> {
    this.#calls.push({ probe: this.number, first: range.first, last: range.last });
    return this.duty(range);
  }

  /** Frames this probe pinned and has not given back, ascending. */
  readonly held = new Set<IovaFrame>();

  /** Pins `count` pages from `first`. @returns their host frames. */
  hold(first: number, count = 1, prot: Prot = PROT_RW): readonly Pfn[] {
    const frames = new Float64Array(count);
    this.pins.pinInto(asIovaFrame(first), count, prot, frames);
    for (let page = 0; page < count; page += 1) this.held.add(asIovaFrame(first + page));
    return Array.from(frames, asPfn);
  }

  /** Gives back every pin inside the range. */
  releaseWithin(range: FrameRange): void {
    for (const frame of this.held) if (range.first <= frame && frame <= range.last) this.#release(frame);
  }

  /** Gives back one page, the lowest inside the range. */
  releaseOne(range: FrameRange): void {
    const frames = [...this.held].filter((frame) => range.first <= frame && frame <= range.last);
    const [lowest] = frames.sort((a, b) => a - b);
    if (lowest !== undefined) this.#release(lowest);
  }

  #release(frame: IovaFrame): void {
    while (this.pins.count(frame) > 0) this.pins.unpin(frame, 1);
    this.held.delete(frame);
  }
}

/** Probes of one world: their driver, and every call they got, in order. */
export interface Probes {
  readonly plugin: Plugin;
  readonly calls: ProbeCall[];
  readonly devices: readonly ProbeDevice[];
}

/** The vendor driver `probe`, type `one`. */
export function createProbes(): Probes {
  const calls: ProbeCall[] = [];
  const devices: ProbeDevice[] = [];
  const driver = defineDriver({
    name: 'probe',
    deviceApi: 'vfio-probe',
    types: [{ id: 'one' }],
    pins: true,
    create(context: PinningDeviceContext) {
      const device = new ProbeDevice(context, devices.length, calls);
      devices.push(device);
      return device;
    },
  });
  const plugin = definePlugin({ name: 'probe', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
  return { plugin, calls, devices };
}
