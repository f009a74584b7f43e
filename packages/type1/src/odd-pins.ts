/** A pin that began inside a page: its own reference count and charge. */
interface OddPin {
  readonly pfn: number;
  references: number;
}

/**
 * Pins keyed by a byte address that is no multiple of the page size, as the kernel keeps them (quirk unaligned-pins). Rare,
 * so a plain map will do. Keys are byte offsets from the mapping's start, negative just below it.
 */
export class OddPins {
  readonly #pins = new Map<number, OddPin>();

  get pages(): number {
    return this.#pins.size;
  }

  /** One more reference. @returns the host frame, or -1 if there is no such pin. */
  acquire(offset: number): number {
    const pin = this.#pins.get(offset);
    if (pin === undefined) return -1;
    pin.references += 1;
    return pin.pfn;
  }

  insert(offset: number, pfn: number): void {
    this.#pins.set(offset, { pfn, references: 1 });
  }

  /** One reference less. @returns the host frame when that was the last one, else -1. */
  release(offset: number): number {
    const pin = this.#pins.get(offset);
    if (pin === undefined) return -1;
    pin.references -= 1;
    if (pin.references > 0) return -1;
    this.#pins.delete(offset);
    return pin.pfn;
  }

  /** Visits every pin: byte offset from the mapping's start and host frame. */
  each(visit: (offset: number, pfn: number) => void): void {
    for (const [offset, pin] of this.#pins) visit(offset, pin.pfn);
  }
}
