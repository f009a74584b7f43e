import { type FrameRange, PAGE_SIZE, PinionError, rangeHolds } from '@pinion/core';
import { SIZE_2M } from '../dma-cache.js';
import { gvtErrors } from '../errors.js';
import type { Ggtt } from '../ggtt.js';
import type { GraphicsAccess } from '../graphics-access.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import { displayOwner } from '../hypervisor/owner.js';
import type { BufferPage, ExportState, SharedBuffer } from './exported-plane.js';
import type { Plane, PlaneInfo } from './plane.js';
import { type Frame, PlaneReader } from './screen.js';

/** Frames below a range at which a mapping may begin that reaches into it. */
const STRADDLE = SIZE_2M / PAGE_SIZE - 1;

/** What a buffer works with. */
export interface BufferParts {
  readonly backend: HypervisorBackend;
  readonly table: Pick<Ggtt, 'hostEntry' | 'gfnAt'>;
  /** The last handle closed, or the buffer was taken away. */
  readonly onIdle: (buffer: PlaneBuffer) => void;
}

/** The pages behind a plane, held for those who have a handle. Source: i915 gvt dmabuf.c, vgpu_gem_get_pages(). */
export class PlaneBuffer implements SharedBuffer {
  readonly id: number;
  readonly plane: Plane;
  readonly #parts: BufferParts;
  readonly #palette: Uint32Array;
  #pages: (BufferPage | undefined)[] = [];
  #handles = 0;
  #gone = false;
  #letGo: (() => void) | undefined;

  constructor(id: number, about: { readonly plane: Plane; readonly palette: Uint32Array }, parts: BufferParts) {
    this.id = id;
    this.plane = about.plane;
    this.#palette = about.palette;
    this.#parts = parts;
  }

  get info(): PlaneInfo {
    return this.plane.info;
  }

  get handles(): number {
    return this.#handles;
  }

  /** Pages that are held. */
  get pages(): number {
    return this.#pages.filter((page) => page !== undefined).length;
  }

  /** Whether the table leads where it led when the pages were taken. */
  get isCurrent(): boolean {
    const first = this.info.start / PAGE_SIZE;
    const { table } = this.#parts;
    return this.#pages.every((page, index) => page !== undefined && table.hostEntry(first + index)?.dma === page.dma);
  }

  get state(): ExportState {
    const held = this.pages;
    if (this.#gone || held === 0) return 'revoked';
    return held === this.#pages.length ? 'live' : 'partly-revoked';
  }

  /**
   * One more handle; the first one holds the pages, all or none.
   * @throws PinionError GVT_NO_EXPORT (ENOTTY) when the hypervisor cannot hold them, GVT_EXPORT_PAGE (EINVAL) for a page that is not there.
   */
  take(): void {
    if (this.#handles === 0) {
      const pages = this.#pin();
      this.#letGo = this.#holdDevice(pages);
      this.#pages = pages;
    }
    this.#handles += 1;
  }

  drop(): void {
    this.#handles -= 1;
    if (this.#handles > 0) return;
    this.#unpin(this.#pages);
    this.#end();
  }

  /** The vGPU closes: all pages go back, handles stay and show black. */
  revokeAll(): void {
    this.#gone = true;
    this.#unpin(this.#pages);
    this.#pages = this.#pages.map(() => undefined);
  }

  /**
   * Guest memory has gone, and with it the mappings that had a page of it: those pages are forgotten. A mapping of 2 MiB goes as a
   * whole, so for pages below the range it is asked.
   */
  revoke(range: FrameRange): void {
    for (const [index, page] of this.#pages.entries()) {
      if (page === undefined || page.gfn > range.last || page.gfn < range.first - STRADDLE) continue;
      if (rangeHolds(range, page.gfn) || !this.#stillHeld(page)) this.#pages[index] = undefined;
    }
  }

  read(offset: number, into: Uint8Array): boolean {
    let whole = true;
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const inPage = at % PAGE_SIZE;
      const count = Math.min(PAGE_SIZE - inPage, into.length - done);
      const page = this.#pages[Math.floor(at / PAGE_SIZE)];
      if (page === undefined) into.fill(0, done, done + count);
      else into.set(this.#parts.backend.bytes(page.dma).subarray(inPage, inPage + count), done);
      whole &&= page !== undefined;
      done += count;
    }
    return whole;
  }

  frame(): Frame {
    const { width, height } = this.info;
    return { width, height, pixels: new PlaneReader(this.plane, this.#memory(), this.#palette).pixels() };
  }

  #holdDevice(pages: readonly BufferPage[]): (() => void) | undefined {
    try {
      return this.#parts.backend.holdDevice?.();
    } catch (cause) {
      this.#unpin(pages);
      throw cause;
    }
  }

  #pin(): BufferPage[] {
    const { backend } = this.#parts;
    if (backend.dmaPinGuestPage === undefined || !backend.capabilities.dmaPin)
      throw gvtErrors.NO_EXPORT({ kind: backend.kind });
    const pages: BufferPage[] = [];
    const first = this.info.start / PAGE_SIZE;
    try {
      for (let page = 0; page * PAGE_SIZE < this.info.size; page++) pages.push(this.#pinPage(first + page));
    } catch (cause) {
      this.#unpin(pages);
      throw cause;
    }
    return pages;
  }

  #pinPage(frame: number): BufferPage {
    const { backend, table } = this.#parts;
    const dma = table.hostEntry(frame)?.dma;
    const gfn = table.gfnAt(frame);
    if (dma === undefined || gfn === undefined) throw gvtErrors.EXPORT_PAGE({ address: frame * PAGE_SIZE });
    try {
      backend.dmaPinGuestPage?.(dma, displayOwner(this.id), gfn);
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      throw gvtErrors.EXPORT_PAGE({ address: frame * PAGE_SIZE }, cause);
    }
    return { dma, gfn };
  }

  #unpin(pages: readonly (BufferPage | undefined)[]): void {
    for (const page of pages) if (page !== undefined) this.#parts.backend.dmaUnmapGuestPage(page.dma, page.gfn);
  }

  /** A reference that is gone cannot be taken again: the mapping is unknown then. */
  #stillHeld({ dma, gfn }: BufferPage): boolean {
    const { backend } = this.#parts;
    try {
      backend.dmaPinGuestPage?.(dma, undefined, gfn);
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      return false;
    }
    backend.dmaUnmapGuestPage(dma, gfn);
    return true;
  }

  #end(): void {
    this.#pages = [];
    this.#letGo?.();
    this.#letGo = undefined;
    this.#parts.onIdle(this);
  }

  /** The buffer at the graphics address where its plane stood. */
  #memory(): GraphicsAccess {
    const { start, size } = this.info;
    const read = (address: number, into: Uint8Array): void => {
      this.read(address - start, into);
    };
    return {
      owns: (first, last) => first >= start && last < start + size,
      read,
      write: () => {},
      readDword: (address) => {
        const bytes = new Uint8Array(4);
        read(address, bytes);
        return new DataView(bytes.buffer).getUint32(0, true);
      },
      writeDword: () => {},
    };
  }
}
