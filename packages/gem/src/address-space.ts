import type { DmaApi } from '@pinion/core';
import { PAGE_SIZE } from '@pinion/core';
import { gemErrors } from './errors.js';

/** A graphics address space (GGTT or a PPGTT): pages that are bound, each with the device address behind it. */
export class GemAddressSpace {
  readonly name: string;
  readonly pages: number;
  readonly #entries = new Map<number, bigint>();
  /** First page and length of every node, by first page. */
  readonly #nodes = new Map<number, number>();

  /** @throws GEM_BAD_SIZE (EINVAL). */
  constructor(name: string, pages: number) {
    if (!Number.isSafeInteger(pages) || pages < 1) throw gemErrors.BAD_SIZE({ what: name, pages });
    this.name = name;
    this.pages = pages;
  }

  /** Pages that are reserved. */
  get used(): number {
    let sum = 0;
    for (const pages of this.#nodes.values()) sum += pages;
    return sum;
  }

  /** Reserves the lowest free `pages` in a row. @returns the first; undefined: there are none. */
  reserve(pages: number): number | undefined {
    let at = 0;
    for (const [first, length] of [...this.#nodes].sort(([a], [b]) => a - b)) {
      if (first - at >= pages) break;
      at = first + length;
    }
    if (at + pages > this.pages) return undefined;
    this.#nodes.set(at, pages);
    return at;
  }

  /** Gives a reservation back and clears its pages. */
  release(first: number): void {
    const pages = this.#nodes.get(first) ?? 0;
    for (let page = first; page < first + pages; page += 1) this.#entries.delete(page);
    this.#nodes.delete(first);
  }

  /** Writes the entries of a reservation: page i leads to the i-th address. */
  insert(first: number, addresses: Iterable<bigint>): void {
    let page = first;
    for (const address of addresses) {
      this.#entries.set(page, address);
      page += 1;
    }
  }

  /** The device address behind a page. @throws GEM_UNMAPPED (EFAULT). */
  lookup(page: number): bigint {
    const address = this.#entries.get(page);
    if (address === undefined) throw gemErrors.UNMAPPED({ space: this.name, page });
    return address;
  }

  /** The GPU's access at byte `offset`: through this table, then whatever stands before memory. @throws GEM_UNMAPPED (EFAULT); what `bus` throws. */
  access(
    bus: Pick<DmaApi, 'read' | 'write'>,
    offset: number,
    access: { readonly bytes: Uint8Array; readonly write: boolean },
  ): void {
    for (let done = 0; done < access.bytes.length; ) {
      const inPage = (offset + done) % PAGE_SIZE;
      const length = Math.min(PAGE_SIZE - inPage, access.bytes.length - done);
      const address = this.lookup(Math.floor((offset + done) / PAGE_SIZE)) + BigInt(inPage);
      const part = access.bytes.subarray(done, done + length);
      if (access.write) bus.write(address, part);
      else bus.read(address, part);
      done += length;
    }
  }
}
