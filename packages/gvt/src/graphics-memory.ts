import { PAGE_SHIFT, PAGE_SIZE } from '@pinion/core';
import type { FaultLog, Source } from './faults.js';
import type { Ggtt } from './ggtt.js';
import type { GraphicsAccess } from './graphics-access.js';

const OFFSET = PAGE_SIZE - 1;
/** Below this a loop beats the call of a typed array's copy. */
const FEW = 32;

/**
 * Guest graphics memory as one of its users reaches it: through the host's table to pinned pages. Each access looks the table up
 * anew, so nothing outlives an entry. Where no guest page stands, reads give zeros, writes vanish, and a fault is recorded.
 */
export class GraphicsMemory implements GraphicsAccess {
  readonly #ggtt: Ggtt;
  readonly #faults: FaultLog;
  readonly #source: Source;
  readonly #word = new Uint8Array(4);
  readonly #wordView = new DataView(this.#word.buffer);

  constructor(ggtt: Ggtt, faults: FaultLog, source: Source) {
    this.#ggtt = ggtt;
    this.#faults = faults;
    this.#source = source;
  }

  /** Whether the bytes `first`..`last` belong to this vGPU. */
  owns(first: number, last: number): boolean {
    return this.#ggtt.owns(first, last);
  }

  /** Fills `into` from the graphics address `address` (bytes). */
  read(address: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const offset = (address + done) & OFFSET;
      const count = Math.min(PAGE_SIZE - offset, into.length - done);
      const page = this.#page(address + done, false);
      if (page === undefined) into.fill(0, done, done + count);
      else if (count < FEW) for (let at = 0; at < count; at++) into[done + at] = page[offset + at] ?? 0;
      else into.set(page.subarray(offset, offset + count), done);
      done += count;
    }
  }

  /** Writes `from` to the graphics address `address` (bytes). */
  write(address: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const offset = (address + done) & OFFSET;
      const count = Math.min(PAGE_SIZE - offset, from.length - done);
      const page = this.#page(address + done, true);
      if (page !== undefined && count < FEW)
        for (let at = 0; at < count; at++) page[offset + at] = from[done + at] ?? 0;
      else page?.set(count === from.length ? from : from.subarray(done, done + count), offset);
      done += count;
    }
  }

  /** One little-endian dword. */
  readDword(address: number): number {
    this.read(address, this.#word);
    return this.#wordView.getUint32(0, true);
  }

  writeDword(address: number, value: number): void {
    this.#wordView.setUint32(0, value, true);
    this.write(address, this.#word);
  }

  #page(address: number, write: boolean): Uint8Array | undefined {
    const page = address < 0 ? undefined : this.#ggtt.page(Math.floor(address / 2 ** PAGE_SHIFT));
    if (page === undefined) this.#faults.record({ source: this.#source, address, write, table: 'ggtt', level: 1 });
    return page;
  }
}
