import { PAGE_SIZE } from '@pinion/core';
import type { GraphicsAccess } from './graphics-access.js';

const OFFSET = PAGE_SIZE - 1;
const LAST_DWORD = PAGE_SIZE - 4;
/** Below this a loop beats the call of a typed array's copy. */
const FEW = 32;

/** What all ways to graphics memory share: accesses are cut at pages, and each page is looked up when its turn comes. */
export abstract class PagedAccess implements GraphicsAccess {
  readonly #word = new Uint8Array(4);
  readonly #wordView = new DataView(this.#word.buffer);

  abstract owns(first: number, last: number): boolean;
  /**
   * The live bytes of the page that holds `address`; undefined, and a fault recorded, where none stands or where it must not be written. For
   * use at once: whatever lets others run ends its life.
   */
  abstract page(address: number, write: boolean): Uint8Array | undefined;

  read(address: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const offset = (address + done) & OFFSET;
      const count = Math.min(PAGE_SIZE - offset, into.length - done);
      const page = this.page(address + done, false);
      if (page === undefined) into.fill(0, done, done + count);
      else if (count < FEW) for (let at = 0; at < count; at++) into[done + at] = page[offset + at] ?? 0;
      else into.set(page.subarray(offset, offset + count), done);
      done += count;
    }
  }

  write(address: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const offset = (address + done) & OFFSET;
      const count = Math.min(PAGE_SIZE - offset, from.length - done);
      const page = this.page(address + done, true);
      if (page !== undefined && count < FEW)
        for (let at = 0; at < count; at++) page[offset + at] = from[done + at] ?? 0;
      else page?.set(count === from.length ? from : from.subarray(done, done + count), offset);
      done += count;
    }
  }

  readDword(address: number): number {
    const offset = address & OFFSET;
    if (offset > LAST_DWORD) {
      this.read(address, this.#word);
      return this.#wordView.getUint32(0, true);
    }
    const page = this.page(address, false);
    if (page === undefined) return 0;
    const low = (page[offset] ?? 0) | ((page[offset + 1] ?? 0) << 8);
    const high = (page[offset + 2] ?? 0) | ((page[offset + 3] ?? 0) << 8);
    return (low | (high << 16)) >>> 0;
  }

  writeDword(address: number, value: number): void {
    this.#wordView.setUint32(0, value, true);
    this.write(address, this.#word);
  }
}
