import type { Gfn, Pfn } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { PlaneInfo } from './plane.js';
import type { Frame } from './screen.js';

/** A page of a shared buffer. Undefined where it was revoked. */
export interface BufferPage {
  readonly dma: Pfn;
  readonly gfn: Gfn;
}

/** `live`: all pages; `partly-revoked`: some went with guest memory; `revoked`: all of them, or the vGPU closed. */
export type ExportState = 'live' | 'partly-revoked' | 'revoked';

/** What handles share. */
export interface SharedBuffer {
  readonly id: number;
  readonly info: PlaneInfo;
  readonly state: ExportState;
  /** Fills `into`. @returns false where a page was revoked: zeros stand there. */
  read(offset: number, into: Uint8Array): boolean;
  frame(): Frame;
  /** A handle closed. */
  drop(): void;
}

/**
 * A plane that somebody outside shows: a dma-buf's place. It holds the pages that stood behind the plane when it was exported, whatever
 * the guest does to its table meanwhile, until it is closed, the guest's memory goes, or the vGPU closes. Several handles of the
 * same plane share the pages.
 */
export class ExportedPlane implements Disposable {
  readonly #buffer: SharedBuffer;
  #open = true;

  constructor(buffer: SharedBuffer) {
    this.#buffer = buffer;
  }

  /** The same for handles that share their pages. */
  get id(): number {
    return this.#buffer.id;
  }

  /** The plane when it was exported. */
  get info(): PlaneInfo {
    return this.#buffer.info;
  }

  get state(): ExportState {
    return this.#open ? this.#buffer.state : 'revoked';
  }

  /**
   * Copies bytes out as they lie in memory now; `offset` from the plane's start.
   * @throws PinionError GVT_EXPORT_RANGE (EINVAL) beyond its end, GVT_EXPORT_REVOKED (EFAULT) where a page is gone: what could be
   * read is in `into`, the rest of it zero.
   */
  read(offset: number, into: Uint8Array): void {
    const { id, info } = this.#buffer;
    if (!(offset >= 0) || offset + into.length > info.size)
      throw gvtErrors.EXPORT_RANGE({ id, offset, length: into.length, size: info.size });
    if (!this.#open) into.fill(0);
    if (!this.#open || !this.#buffer.read(offset, into)) throw gvtErrors.EXPORT_REVOKED({ id });
  }

  /** What the plane shows now; black where pages are gone. @throws PinionError GVT_BAD_PLANE (EINVAL) for a tiling without pixels. */
  frame(): Frame {
    if (this.#open) return this.#buffer.frame();
    const { width, height } = this.info;
    return { width, height, pixels: blackPixels(width, height) };
  }

  /** Gives the pages back, with the last handle. A second call does nothing. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#buffer.drop();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opaque black. */
export const blackPixels = (width: number, height: number): Uint8Array =>
  new Uint8Array(new Uint32Array(width * height).fill(0xff000000).buffer);
