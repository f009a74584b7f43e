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
  readonly #handles = new Set<PinnedPageHandle>();
  /** A page was unpinned without its handle: from then on every page that goes is looked up among the handles. */
  #mixed = false;

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

  /** Held frames inside `range`, ascending. */
  within(range: FrameRange): readonly IovaFrame[] {
    return this.#held.within(range.first, range.last).map(asIovaFrame);
  }

  pin(first: IovaFrame, count: number, prot: Prot): PinnedPages {
    const frames = new Float64Array(count >= 1 && count <= PIN_PAGES_MAX ? count : 0);
    this.#pinFrames(first, count, prot, frames);
    const pins = { range: frameRange(first, count), prot, frames };
    const handle = new PinnedPageHandle(this, this.#runtime.memory, pins);
    this.#handles.add(handle);
    this.#tellPinned(first, count, prot);
    return handle;
  }

  pinInto(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void {
    this.#pinFrames(first, count, prot, out);
    this.#tellPinned(first, count, prot);
  }

  pinAt(iova: bigint, count: number, prot: Prot, out: Float64Array): void {
    this.#checkAddress(iova);
    const first = iovaFrame(iova);
    this.#checkPin(count, out).pinPages(this.#seat.group, first, pageOffset(iova), count, prot, out);
    this.#book(first, count);
    this.#tellPinned(first, count, prot);
  }

  unpin(first: IovaFrame, count: number): void {
    this.#mixed ||= this.#handles.size > 0;
    this.#unpin(first, 0, count);
  }

  unpinAt(iova: bigint, count: number): void {
    this.#checkAddress(iova);
    this.#mixed ||= this.#handles.size > 0;
    this.#unpin(iovaFrame(iova), pageOffset(iova), count);
  }

  release(handle: PinnedPageHandle): void {
    this.#handles.delete(handle);
    for (const range of handle.kept()) this.#unpin(range.first, 0, frameCount(range));
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    return this.#runtime.memory.bytes(pfn, count);
  }

  /** The mapping over `range` is gone: whatever the record still says is history. */
  forget(range: FrameRange): void {
    if (this.#held.size === 0) return;
    const frames = this.#held.within(range.first, range.last);
    for (const frame of frames) this.#held.forget(frame);
    if (frames.length > 0) this.#revoke(range);
  }

  /** Takes back what a driver left when it closed. @returns the frames it had left, ascending. */
  reclaim(release: boolean): readonly IovaFrame[] {
    const left = this.#held.within(0, LAST_FRAME).map(asIovaFrame);
    for (const frame of left) {
      for (let n = this.#held.count(frame); release && n > 0; n -= 1) this.#seat.backend?.unpinPages?.(frame, 0, 1);
      this.#held.forget(frame);
    }
    this.#revoke({ first: asIovaFrame(0), last: asIovaFrame(LAST_FRAME) });
    return left;
  }

  /** Handles lose their pages inside `range`; a handle without pages is forgotten. */
  #revoke(range: FrameRange): void {
    for (const handle of this.#handles) if (handle.lose(range)) this.#handles.delete(handle);
  }

  #checkFrames(first: number, count: number): void {
    if (Number.isSafeInteger(first) && first >= 0 && first + count - 1 <= LAST_FRAME) return;
    throw coreErrors.BAD_ADDRESS({ device: this.name, what: `frame ${first} with ${count} pages` });
  }

  #checkAddress(iova: bigint): void {
    if (iova < 0n || iova >= ADDRESS_SPACE_SIZE) throw coreErrors.BAD_ADDRESS({ device: this.name, what: `${iova}` });
  }

  /** The checks of vfio_pin_pages(), in its order. @returns the backend. */
  #checkPin(count: number, out: Float64Array): IommuBackend & Required<Pick<IommuBackend, 'pinPages'>> {
    const seat = this.#seat;
    const device = seat.name;
    if (count === 0 || !Number.isInteger(count)) throw coreErrors.BAD_COUNT({ device, count });
    if (!seat.isOpen) throw coreErrors.NOT_OPEN({ device, operation: 'pin' });
    if (!seat.hasDmaUnmap) throw coreErrors.NO_DMA_UNMAP({ device, driver: seat.driver });
    if (count < 0 || count > PIN_PAGES_MAX) throw coreErrors.TOO_MANY({ device, count });
    const backend = seat.backend;
    if (backend === undefined || !canPin(backend))
      throw coreErrors.NO_PIN_SUPPORT({ device, backend: seat.backendName });
    if (out.length < count) throw coreErrors.SHORT_OUT({ device, count, room: out.length });
    return backend;
  }

  #pinFrames(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void {
    const backend = this.#checkPin(count, out);
    this.#checkFrames(first, count);
    backend.pinPages(this.#seat.group, first, 0, count, prot, out);
    this.#book(first, count);
  }

  #book(first: IovaFrame, count: number): void {
    for (let page = 0; page < count; page += 1) this.#held.add(first + page);
  }

  #tellPinned(first: IovaFrame, count: number, prot: Prot): void {
    if (this.#runtime.bus.listenerCount('pages:pinned') === 0) return; // why: this is the hot path
    this.#runtime.publish('pages:pinned', { ...this.#who(), range: frameRange(first, count), prot });
  }

  #unpin(first: IovaFrame, offset: number, count: number): void {
    const backend = this.#seat.backend;
    if (backend?.unpinPages === undefined || !this.#mayUnpin(first, count)) return;
    if (backend.pinPolicy?.foreignUnpin === 'performed') {
      for (let page = 0; page < count; page += 1) this.#drop(asIovaFrame(first + page), true);
      backend.unpinPages(first, offset, count);
      this.#tellUnpinned(first, count);
      return;
    }
    for (let done = 0; done < count; ) {
      const run = this.#ownRun(first + done, count - done);
      if (run > 0) backend.unpinPages(asIovaFrame(first + done), offset, run);
      this.#tellUnpinned(asIovaFrame(first + done), run);
      done += run + 1; // why: the page behind a run is either foreign or behind the end
    }
  }

  /** What Linux warns about and ignores: a device that is not open or may not pin, a count that is none. Source: vfio_unpin_pages(). */
  #mayUnpin(first: number, count: number): boolean {
    const { isOpen, hasDmaUnmap } = this.#seat;
    if (isOpen && hasDmaUnmap && Number.isInteger(count) && count > 0 && count <= PIN_PAGES_MAX) return true;
    const { container, device } = this.#who();
    const reason = !isOpen ? 'it is not open' : !hasDmaUnmap ? 'it declares no dmaUnmap' : 'use 1 to 512 pages';
    const message = `device ${device}: unpin of ${count} page(s) at frame ${first} is ignored: ${reason}`;
    this.#runtime.publish('backend:warned', { container, name: 'bad-unpin', message });
    return false;
  }

  /** Takes one reference off each page from `first` up to a foreign one, which is reported. @returns how many. */
  #ownRun(first: number, pages: number): number {
    let run = 0;
    while (run < pages && this.#drop(asIovaFrame(first + run), false)) run += 1;
    return run;
  }

  /** Takes one reference off the books. @returns false, reported, if there was none. */
  #drop(frame: IovaFrame, performed: boolean): boolean {
    if (!this.#held.remove(frame)) {
      this.#reportForeign(frame, performed);
      return false;
    }
    if (this.#mixed && this.#held.count(frame) === 0) this.#revoke({ first: frame, last: frame });
    return true;
  }

  #tellUnpinned(first: IovaFrame, pages: number): void {
    if (pages === 0 || this.#runtime.bus.listenerCount('pages:unpinned') === 0) return;
    this.#runtime.publish('pages:unpinned', { ...this.#who(), range: frameRange(first, pages) });
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
