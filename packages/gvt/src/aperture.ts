import { PAGE_SIZE } from '@pinion/core';
import { gvtErrors } from './errors.js';
import type { FencedMemory } from './fenced-memory.js';
import type { RegionHandler } from './region-access.js';
import { REGION } from './regs.js';
import type { Slice } from './types.js';

/** A request to map a part of a region. `offset` from the region's start and `size` in bytes, whole pages. */
export interface MapRequest {
  readonly index: number;
  readonly offset: number;
  readonly size: number;
  /** A private mapping would not show what the engine draws. */
  readonly shared: boolean;
}

/** A mapped part of the aperture. Every access goes through the table, so it shows what the table leads to at that moment. */
export interface ApertureWindow {
  readonly size: number;
  /** Fills `into` from `offset` bytes into the window. @throws PinionError GVT_FOREIGN_APERTURE (EINVAL) beyond its end. */
  read(offset: number, into: Uint8Array): void;
  /** @throws as `read`. */
  write(offset: number, from: Uint8Array): void;
}

/**
 * BAR2 of a vGPU: guest graphics memory, as far as it is the vGPU's own, detiled where a fence says so. Offsets are graphics
 * addresses. Source: i915 kvmgt.
 */
export class Aperture implements RegionHandler {
  readonly #device: string;
  readonly #low: Slice;
  readonly #memory: FencedMemory;

  /** `low`: the vGPU's slice of it. */
  constructor(device: string, low: Slice, memory: FencedMemory) {
    this.#device = device;
    this.#low = low;
    this.#memory = memory;
  }

  /** @throws PinionError GVT_FOREIGN_APERTURE (EINVAL). */
  read(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length);
    this.#memory.read(offset, into);
  }

  /** @throws PinionError GVT_FOREIGN_APERTURE (EINVAL). */
  write(offset: number, from: Uint8Array): void {
    this.#check(offset, from.length);
    this.#memory.write(offset, from);
  }

  /** mmap(): shared, of BAR2, whole pages, inside the slice. @throws PinionError GVT_BAD_MMAP (EINVAL). */
  map({ index, offset, size, shared }: MapRequest): ApertureWindow {
    const refuse = (problem: string): unknown => gvtErrors.BAD_MMAP({ device: this.#device, problem });
    if (index !== REGION.BAR2) throw refuse(`region ${index} is not BAR2`);
    if (!shared) throw refuse('the mapping must be shared');
    if (!(size > 0) || size % PAGE_SIZE !== 0 || offset % PAGE_SIZE !== 0) throw refuse('it is not whole pages');
    if (!this.#holds(offset, size)) throw refuse(`${size} bytes at ${offset} are not inside its slice; see PVINFO`);
    const inside = (at: number, length: number): number => {
      if (at >= 0 && at + length <= size) return offset + at;
      throw gvtErrors.FOREIGN_APERTURE({ device: this.#device, offset: offset + at, length });
    };
    return Object.freeze({
      size,
      read: (at: number, into: Uint8Array) => this.read(inside(at, into.length), into),
      write: (at: number, from: Uint8Array) => this.write(inside(at, from.length), from),
    });
  }

  #holds(offset: number, length: number): boolean {
    return offset >= this.#low.base && offset + length <= this.#low.base + this.#low.size;
  }

  #check(offset: number, length: number): void {
    if (!this.#holds(offset, length)) throw gvtErrors.FOREIGN_APERTURE({ device: this.#device, offset, length });
  }
}
