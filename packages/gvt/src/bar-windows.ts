import { asGfn, asPfn, type Gfn, PAGE_SHIFT, PAGE_SIZE } from '@pinion/core';
import type { HypervisorBackend } from './hypervisor/backend.js';
import { BAR0_SIZE } from './regs.js';
import type { Slice } from './types.js';

/** Where the modelled GPU's own BAR2 stands in host memory: a frame that no memory has. */
const HOST_APERTURE_FRAME = 0x6_0000_0000 / PAGE_SIZE;

/**
 * What the hypervisor does for the places that a guest gives BAR0 and BAR2: BAR0 is trapped, the vGPU's slice of the aperture
 * is mapped. A backend without these operations leaves both to whoever serves the regions. Source: i915 gvt cfg_space.c,
 * trap_gttmmio() and map_aperture().
 */
export class BarWindows {
  readonly #backend: HypervisorBackend;
  readonly #low: Slice;
  /** Where BAR0 is trapped and BAR2 is mapped now. Guest-physical, bytes. */
  #trapped: bigint | undefined;
  #mapped: bigint | undefined;

  /** `low`: the vGPU's slice of the aperture. */
  constructor(backend: HypervisorBackend, low: Slice) {
    this.#backend = backend;
    this.#low = low;
  }

  /** A BAR is decoded at `base` (undefined: nowhere) from now on. The old place goes first. @throws what the backend throws. */
  place(bar: 0 | 2, base: bigint | undefined): void {
    if (bar === 0) this.#placeBar0(base);
    else this.#placeBar2(base);
  }

  #placeBar0(base: bigint | undefined): void {
    if (base === this.#trapped) return;
    const old = this.#trapped;
    this.#trapped = undefined;
    if (old !== undefined) this.#trap(old, false);
    if (base === undefined) return;
    this.#trap(base, true);
    this.#trapped = base;
  }

  #trap(base: bigint, trap: boolean): void {
    this.#backend.setTrapArea?.({ first: base, last: base + BigInt(BAR0_SIZE) - 1n, trap });
  }

  #placeBar2(base: bigint | undefined): void {
    if (base === this.#mapped) return;
    const old = this.#mapped;
    this.#mapped = undefined;
    if (old !== undefined) this.#map(old, false);
    if (base === undefined) return;
    this.#map(base, true);
    this.#mapped = base;
  }

  #map(base: bigint, map: boolean): void {
    const { base: offset, size } = this.#low;
    const pages = offset / PAGE_SIZE;
    this.#backend.mapGfnToPfn?.({
      gfn: gfnOf(base + BigInt(offset)),
      pfn: asPfn(HOST_APERTURE_FRAME + pages),
      count: size / PAGE_SIZE,
      map,
    });
  }
}

const gfnOf = (address: bigint): Gfn => asGfn(Number(address >> BigInt(PAGE_SHIFT)));
