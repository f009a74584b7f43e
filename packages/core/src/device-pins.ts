import type { IommuBackend } from './backend.js';
import { coreErrors } from './errors.js';
import { PIN_PAGES_MAX, type Prot } from './flags.js';
import { PageCounts } from './page-counts.js';
import { type PinHolder, PinnedPageHandle } from './pinned-pages.js';
import type { PinApi, PinnedPages } from './pins.js';
import type { Runtime } from './runtime.js';
import {
  ADDRESS_SPACE_SIZE,
  asIovaFrame,
  type FrameRange,
  frameCount,
  frameRange,
  type IovaFrame,
  iovaFrame,
  LAST_FRAME,
  type Pfn,
  pageOffset,
} from './units.js';

/** What the pin API needs to know of its device, asked anew at every call. */
export interface PinSeat {
  readonly name: string;
  readonly driver: string;
  readonly hasDmaUnmap: boolean;
  readonly isOpen: boolean;
  readonly containerName: string;
  readonly backendName: string;
  readonly backend: IommuBackend | undefined;
  readonly group: Parameters<NonNullable<IommuBackend['pinPages']>>[0];
  /** Another device of the same container that holds `frame`. */
  otherHolder(frame: IovaFrame): string | undefined;
}

/**
 * The pin API of one device, and the record of what it holds. Linux counts pins per container and knows no owner; this
 * record is how a leak names its driver and how an unpin of another device's page is noticed.
 */
export class DevicePins implements PinApi, PinHolder {
  readonly #seat: PinSeat;
  readonly #runtime: Runtime;
  readonly #held = new PageCounts();

  constructor(seat: PinSeat, runtime: Runtime) {
    this.#seat = seat;
    this.#runtime = runtime;
  }

  get name(): string {
    return this.#seat.name;
  }

  get pages(): number {
    return this.#held.size;
  }

  count(frame: IovaFrame): number {
    return this.#held.count(frame);
  }

  holds(range: FrameRange): boolean {
    for (let frame = range.first; frame <= range.last; frame = asIovaFrame(frame + 1))
      if (this.#held.count(frame) === 0) return false;
    return true;
  }

  /** Held frames inside `range`, ascending. */
  within(range: FrameRange): readonly IovaFrame[] {
    return this.#held.within(range.first, range.last).map(asIovaFrame);
  }

  pin(first: IovaFrame, count: number, prot: Prot): PinnedPages {
    const frames = new Float64Array(count >= 1 && count <= PIN_PAGES_MAX ? count : 0);
    this.pinInto(first, count, prot, frames);
    return new PinnedPageHandle(this, this.#runtime.memory, { range: frameRange(first, count), prot, frames });
  }

  pinInto(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void {
    this.#checkFrames(first, count);
    this.#pin(first, 0, { count, prot, out });
  }

  pinAt(iova: bigint, count: number, prot: Prot, out: Float64Array): void {
    this.#checkAddress(iova);
    this.#pin(iovaFrame(iova), pageOffset(iova), { count, prot, out });
  }

  unpin(first: IovaFrame, count: number): void {
    this.#unpin(first, 0, count);
  }

  unpinAt(iova: bigint, count: number): void {
    this.#checkAddress(iova);
    this.#unpin(iovaFrame(iova), pageOffset(iova), count);
  }

  release(range: FrameRange): void {
    // A handle may hold more than one call takes: the limit belongs to the call, not to the pages.
    this.#unpin(range.first, 0, frameCount(range));
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    return this.#runtime.memory.bytes(pfn, count);
  }

  /** The mapping over `range` is gone: whatever the record still says is history. */
  forget(range: FrameRange): void {
    if (this.#held.size === 0) return;
    for (const frame of this.#held.within(range.first, range.last)) this.#held.forget(frame);
  }

  /** Takes back what a driver left when it closed. @returns the frames it had left, ascending. */
  reclaim(release: boolean): readonly IovaFrame[] {
    const left = this.#held.within(0, LAST_FRAME).map(asIovaFrame);
    for (const frame of left) {
      for (let n = this.#held.count(frame); release && n > 0; n -= 1) this.#seat.backend?.unpinPages?.(frame, 0, 1);
      this.#held.forget(frame);
    }
    return left;
  }

  #checkFrames(first: number, count: number): void {
    if (Number.isSafeInteger(first) && first >= 0 && first + Math.max(count, 1) - 1 <= LAST_FRAME) return;
    throw coreErrors.BAD_ADDRESS({ device: this.name, what: `frame ${first} with ${count} pages` });
  }

  #checkAddress(iova: bigint): void {
    if (iova < 0n || iova >= ADDRESS_SPACE_SIZE) throw coreErrors.BAD_ADDRESS({ device: this.name, what: `${iova}` });
  }

  /** The checks of vfio_pin_pages(), in its order. @returns the backend. */
  #checkPin(count: number): IommuBackend & Required<Pick<IommuBackend, 'pinPages'>> {
    const seat = this.#seat;
    const device = seat.name;
    if (count === 0 || !Number.isInteger(count)) throw coreErrors.BAD_COUNT({ device, count });
    if (!seat.isOpen) throw coreErrors.NOT_OPEN({ device, operation: 'pin' });
    if (!seat.hasDmaUnmap) throw coreErrors.NO_DMA_UNMAP({ device, driver: seat.driver });
    if (count < 0 || count > PIN_PAGES_MAX) throw coreErrors.TOO_MANY({ device, count });
    const backend = seat.backend;
    if (backend === undefined || !canPin(backend))
      throw coreErrors.NO_PIN_SUPPORT({ device, backend: seat.backendName });
    return backend;
  }

  #pin(first: IovaFrame, offset: number, wish: { count: number; prot: Prot; out: Float64Array }): void {
    const { count, prot, out } = wish;
    this.#checkPin(count).pinPages(this.#seat.group, first, offset, count, prot, out);
    for (let page = 0; page < count; page += 1) this.#held.add(first + page);
    if (this.#runtime.bus.listenerCount('pages:pinned') === 0) return; // why: this is the hot path
    this.#runtime.publish('pages:pinned', { ...this.#who(), range: frameRange(first, count), prot });
  }

  #unpin(first: IovaFrame, offset: number, count: number): void {
    const backend = this.#seat.backend;
    if (backend?.unpinPages === undefined) return;
    const performed = backend.pinPolicy?.foreignUnpin === 'performed';
    const end = count > 0 && Number.isInteger(count) ? first + count : first;
    let runStart = first;
    for (let frame = first; frame < end; frame = asIovaFrame(frame + 1)) {
      if (this.#held.remove(frame)) continue;
      this.#reportForeign(frame, performed);
      if (performed) continue;
      this.#unpinRun(backend, runStart, frame);
      runStart = asIovaFrame(frame + 1);
    }
    // A count that makes no sense goes to the backend as it is when pins have no owner: it is the one who warns.
    if (performed) backend.unpinPages(first, offset, count);
    else if (runStart === first && end > first) backend.unpinPages(first, offset, count);
    else this.#unpinRun(backend, runStart, end);
    if (this.#runtime.bus.listenerCount('pages:unpinned') === 0 || end === first) return;
    this.#runtime.publish('pages:unpinned', { ...this.#who(), range: frameRange(first, end - first) });
  }

  #unpinRun(backend: IommuBackend, first: IovaFrame, end: number): void {
    if (end > first) backend.unpinPages?.(first, 0, end - first);
  }

  #reportForeign(frame: IovaFrame, performed: boolean): void {
    const owner = this.#seat.otherHolder(frame);
    const { container, device } = this.#who();
    this.#runtime.publish('pages:foreign-unpinned', {
      container,
      device,
      driver: this.#seat.driver,
      frame,
      performed,
      ...(owner === undefined ? {} : { owner }),
    });
  }

  #who(): { container: string; device: string } {
    return { container: this.#seat.containerName, device: this.#seat.name };
  }
}

const canPin = (backend: IommuBackend): backend is IommuBackend & Required<Pick<IommuBackend, 'pinPages'>> =>
  backend.pinPages !== undefined;
