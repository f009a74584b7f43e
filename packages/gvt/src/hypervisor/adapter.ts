import { asGfn, asPfn, type Gfn, type IovaFrame, type Pfn, type Prot } from '@pinion/core';
import type { PageSource } from '../dma-cache.js';
import { gvtErrors } from '../errors.js';
import type { BackendFactory, BackendParts } from './backend.js';
import { RefcountingBackend } from './refcounting.js';

/** A hypervisor that can hold a guest page and let it go. */
export interface PagePins {
  /** Holds one guest page. The adapter asks once per page and mapping, however many references there are. @throws PinionError when it cannot. */
  pin(gfn: Gfn): Pfn;
  /** Lets go of one; `pfn` is what `pin` answered. Must not throw. */
  unpin(gfn: Gfn, pfn: Pfn): void;
}

/** A hypervisor whose guests' memory stays in place: it has nothing to hold, only to translate. */
export interface PageTranslation {
  /** The host frame of a guest page; undefined where the guest has no memory. */
  translate(gfn: Gfn): Pfn | undefined;
}

/** The least that a hypervisor must be able to do; the rest is the container's unless it is here. */
export type GuestPrimitives = (PagePins | PageTranslation) & {
  /** For messages. */
  readonly kind: string;
  /** The live bytes of a host page. Default: the container's. 4096 bytes. */
  bytes?(pfn: Pfn): Uint8Array;
  /** Copies guest memory. Default: through the container. */
  readGuest?(gpa: bigint, into: Uint8Array): void;
  writeGuest?(gpa: bigint, from: Uint8Array): void;
  /** Sends an interrupt. Default: to the listener of the device's MSI. */
  injectMsi?(address: number, data: number): void;
};

/**
 * Makes a backend out of a pair of primitives: what was asked on intel-gvt-dev in May 2020. The adapter adds what the vGPU core takes for
 * granted and a hypervisor rarely has: one hold per page however often it is mapped, large pages checked for contiguity and all or
 * nothing, ranges given back whatever their references, and everything left over listed and released at close.
 */
export function adaptHypervisor(make: (parts: BackendParts) => GuestPrimitives): BackendFactory {
  return (parts) => new AdaptedBackend(parts, make(parts));
}

class AdaptedBackend extends RefcountingBackend {
  readonly kind: string;
  readonly #guest: GuestPrimitives;

  constructor(parts: BackendParts, guest: GuestPrimitives) {
    super(parts, sourceOf(guest));
    this.kind = guest.kind;
    this.#guest = guest;
  }

  override bytes(dma: Pfn): Uint8Array {
    return this.#guest.bytes?.(dma) ?? super.bytes(dma);
  }

  override gfnToPfn(gfn: Gfn): Pfn | undefined {
    return 'translate' in this.#guest ? this.#guest.translate(gfn) : super.gfnToPfn(gfn);
  }

  override readGuest(gpa: bigint, into: Uint8Array): void {
    if (this.#guest.readGuest === undefined) super.readGuest(gpa, into);
    else {
      this.checkHandle('read memory of');
      this.#guest.readGuest(gpa, into);
    }
  }

  override writeGuest(gpa: bigint, from: Uint8Array): void {
    if (this.#guest.writeGuest === undefined) super.writeGuest(gpa, from);
    else {
      this.checkHandle('write memory of');
      this.#guest.writeGuest(gpa, from);
    }
  }

  override injectMsi(address: number, data: number): void {
    if (this.#guest.injectMsi === undefined) super.injectMsi(address, data);
    else {
      this.checkHandle('send an interrupt to');
      this.#guest.injectMsi(address, data);
    }
  }
}

const sourceOf = (guest: GuestPrimitives): PageSource =>
  'translate' in guest ? new TranslatedPages(guest) : new HeldOneByOne(guest);

/** Pages of a hypervisor that only translates. */
class TranslatedPages implements PageSource {
  readonly #guest: PageTranslation;

  constructor(guest: PageTranslation) {
    this.#guest = guest;
  }

  pinInto(first: IovaFrame, count: number, _prot: Prot, out: Float64Array): void {
    for (let page = 0; page < count; page++) {
      const gfn = asGfn(first + page);
      const pfn = this.#guest.translate(gfn);
      if (pfn === undefined) throw gvtErrors.NO_PAGE({ gfn });
      out[page] = pfn;
    }
  }

  unpin(): void {}
}

/** Pages of a hypervisor that holds them one by one; a run is all or nothing. */
class HeldOneByOne implements PageSource {
  readonly #guest: PagePins;

  constructor(guest: PagePins) {
    this.#guest = guest;
  }

  pinInto(first: IovaFrame, count: number, _prot: Prot, out: Float64Array): void {
    let done = 0;
    try {
      for (; done < count; done++) out[done] = this.#guest.pin(asGfn(first + done));
    } catch (cause) {
      while (done-- > 0) this.#guest.unpin(asGfn(first + done), asPfn(out[done] ?? 0));
      throw cause;
    }
  }

  unpin(first: IovaFrame, count: number, dma: Pfn): void {
    for (let page = 0; page < count; page++) this.#guest.unpin(asGfn(first + page), asPfn(dma + page));
  }
}
