import {
  type Clock,
  type FrameRange,
  frameAddress,
  frameRange,
  iovaFrame,
  type Log,
  PAGE_SIZE,
  type PinApi,
  type PinnedPages,
  PROT_READ,
  PROT_WRITE,
  pageOffset,
  rangesOverlap,
} from '@pinion/core';
import { BUFFER } from './registers.js';

/** One transfer: `ram` is a guest address, `buffer` an address in the device (bytes). */
export interface Transfer {
  readonly ram: bigint;
  readonly buffer: bigint;
  readonly count: bigint;
  readonly toRam: boolean;
}

interface Running {
  readonly transfer: Transfer;
  readonly pages: PinnedPages;
  readonly cancel: () => void;
  readonly done: () => void;
}

const BUFFER_AT = BigInt(BUFFER.at);
const BUFFER_END = BUFFER_AT + BigInt(BUFFER.size);

/**
 * Moves bytes between guest memory and the device's buffer. The pages are pinned from the start of a transfer to its end; a
 * mapping that goes away ends the transfer at once, before `dmaUnmap` returns.
 */
export class DmaEngine {
  readonly buffer = new Uint8Array(BUFFER.size);
  readonly #pins: PinApi;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #delay: number;
  #running: Running | undefined;

  /** `delay`: milliseconds that a transfer takes. */
  constructor(about: { readonly pins: PinApi; readonly clock: Clock; readonly log: Log; readonly delay: number }) {
    this.#pins = about.pins;
    this.#clock = about.clock;
    this.#log = about.log;
    this.#delay = about.delay;
  }

  get busy(): boolean {
    return this.#running !== undefined;
  }

  /** Begins a transfer; `done` is called when the bytes moved. @returns false, logged, when it cannot be: nothing happens then. */
  start(transfer: Transfer, done: () => void): boolean {
    const problem = this.busy ? 'a transfer is running' : problemOf(transfer);
    if (problem !== undefined) {
      this.#log.warn(`edu: transfer refused: ${problem}`);
      return false;
    }
    const pages = this.#pin(transfer);
    if (pages === undefined) return false;
    const cancel = this.#clock.after(this.#delay, () => this.finish());
    this.#running = { transfer, pages, cancel, done };
    return true;
  }

  /** Moves the bytes now, if a transfer runs. */
  finish(): void {
    const running = this.#end();
    if (running === undefined) return;
    const { transfer, pages } = running;
    const at = pageOffset(transfer.ram);
    const inside = Number(transfer.buffer - BUFFER_AT);
    const count = Number(transfer.count);
    if (transfer.toRam) pages.write(at, this.buffer.subarray(inside, inside + count));
    else this.buffer.set(pages.read(at, count), inside);
    pages.unpin();
    running.done();
  }

  /** Forgets the transfer: no byte moves any more. */
  abort(): void {
    this.#end()?.pages.unpin();
  }

  dmaUnmap(range: FrameRange): void {
    if (this.#running !== undefined && rangesOverlap(this.#running.pages.range, range)) this.finish();
  }

  #end(): Running | undefined {
    const running = this.#running;
    this.#running = undefined;
    running?.cancel();
    return running;
  }

  #pin({ ram, count, toRam }: Transfer): PinnedPages | undefined {
    const first = iovaFrame(ram);
    const pages = frameRange(first, iovaFrame(ram + count - 1n) - first + 1);
    try {
      return this.#pins.pin(first, pages.last - first + 1, toRam ? PROT_WRITE : PROT_READ);
    } catch (cause) {
      this.#log.warn(`edu: no guest memory at ${frameAddress(first)}`, cause);
      return undefined;
    }
  }
}

/** What is wrong with a transfer; undefined if nothing is. */
function problemOf({ ram, buffer, count }: Transfer): string | undefined {
  if (count <= 0n || count > BigInt(PAGE_SIZE)) return `${count} bytes; use 1 to ${PAGE_SIZE}`;
  if (buffer < BUFFER_AT || buffer + count > BUFFER_END) return `device address ${buffer} leaves the buffer`;
  return ram + count > 1n << 64n ? 'guest address wraps' : undefined;
}
