import {
  asGfn,
  asPfn,
  type FrameRange,
  frameAddress,
  type Gfn,
  hex,
  type Log,
  type Pfn,
  PinionError,
  rangeHolds,
} from '@pinion/core';
import { SIZE_4K } from './dma-cache.js';
import { dword } from './dword.js';
import { gvtErrors } from './errors.js';
import { FewWarnings } from './few-warnings.js';
import { FrameChains } from './frame-chains.js';
import type { HypervisorBackend } from './hypervisor/backend.js';
import { ggttOwner } from './hypervisor/owner.js';
import type { VgpuResources } from './types.js';

const ENTRY_SIZE = 8;
const PRESENT = 1;
/** Address bits 45:12 of an entry: 20 in the low half, 14 in the high half. */
const HIGH_ADDRESS = 0x3fff;
const LOW_FRAMES = 2 ** 20;
/** Host entries that lead to the scratch page instead of a guest page. */
const SCRATCH = -1;
const SCRATCH_PRESENT = -2;
/** Which half of an entry was written without its partner yet. */
const NO_HALF = 0;
const LOW_HALF = 1;
const HIGH_HALF = 2;

/** What the host's table holds for a graphics page. */
export interface HostEntry {
  readonly present: boolean;
  /** Undefined: the scratch page. */
  readonly dma: Pfn | undefined;
}

/**
 * The global graphics translation table as one vGPU sees it. Guest graphics addresses are host graphics addresses, of which
 * the vGPU owns two slices: entries elsewhere read as zero and swallow writes. A guest writes entries of 8 bytes, whole or
 * in two halves; each whole entry is translated at once by mapping its guest page. Source: i915 gvt gtt.c,
 * emulate_ggtt_mmio_read/write.
 */
export class Ggtt {
  readonly #resources: VgpuResources;
  readonly #backend: HypervisorBackend;
  readonly #warnings: FewWarnings;
  readonly #lowFirst: number;
  readonly #lowCount: number;
  readonly #highFirst: number;
  readonly #highCount: number;
  /** Guest-visible entries, two halves each. */
  readonly #guest: Uint32Array;
  readonly #pending: Uint8Array;
  readonly #host: Float64Array;
  readonly #views: (Uint8Array | undefined)[];
  readonly #byGfn: FrameChains;
  #mapped = 0;

  constructor(resources: VgpuResources, backend: HypervisorBackend, log: Log) {
    this.#resources = resources;
    this.#backend = backend;
    this.#warnings = new FewWarnings(log);
    this.#lowFirst = resources.low.base / SIZE_4K;
    this.#lowCount = resources.low.size / SIZE_4K;
    this.#highFirst = resources.high.base / SIZE_4K;
    this.#highCount = resources.high.size / SIZE_4K;
    const count = this.#lowCount + this.#highCount;
    this.#guest = new Uint32Array(count * 2);
    this.#pending = new Uint8Array(count);
    this.#host = new Float64Array(count).fill(SCRATCH_PRESENT);
    this.#views = new Array<Uint8Array | undefined>(count);
    this.#byGfn = new FrameChains(count);
  }

  /** Entries that lead to a guest page. */
  get mapped(): number {
    return this.#mapped;
  }

  /** Whether the bytes `first`..`last` lie in one of the vGPU's slices. */
  owns(first: number, last: number): boolean {
    const { low, high } = this.#resources;
    return (
      first <= last &&
      ((first >= low.base && last < low.base + low.size) || (first >= high.base && last < high.base + high.size))
    );
  }

  /** A guest's read at `offset` bytes into the table. @throws PinionError GVT_GGTT_ACCESS (EINVAL). */
  read(offset: number, into: Uint8Array): void {
    checkAccess(offset, into.length);
    const index = this.#index(Math.floor(offset / ENTRY_SIZE));
    if (index < 0) {
      into.fill(0);
      return;
    }
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    const half = index * 2 + (offset % ENTRY_SIZE) / 4;
    for (let at = 0; at < into.length; at += 4) view.setUint32(at, this.#guest[half + at / 4] ?? 0, true);
  }

  /**
   * A guest's write at `offset` bytes into the table, and its translation. A guest page that cannot be mapped becomes the
   * scratch page, the write succeeds. @throws PinionError GVT_GGTT_ACCESS (EINVAL).
   */
  write(offset: number, from: Uint8Array): void {
    checkAccess(offset, from.length);
    const index = this.#index(Math.floor(offset / ENTRY_SIZE));
    if (index < 0) return;
    if (from.length === ENTRY_SIZE) this.#writeEntry(index, dword(from, 0), dword(from, 4));
    else this.#writeHalf(index, offset % ENTRY_SIZE === 0 ? LOW_HALF : HIGH_HALF, dword(from, 0));
  }

  /** Changes what the guest reads and nothing else: the table of a vGPU in failsafe mode. @throws PinionError GVT_GGTT_ACCESS (EINVAL). */
  store(offset: number, from: Uint8Array): void {
    checkAccess(offset, from.length);
    const index = this.#index(Math.floor(offset / ENTRY_SIZE));
    if (index < 0) return;
    const half = index * 2 + (offset % ENTRY_SIZE) / 4;
    for (let at = 0; at < from.length; at += 4) this.#guest[half + at / 4] = dword(from, at);
  }

  /** The host's entry for the graphics page `frame`; undefined for a page of another owner. */
  hostEntry(frame: number): HostEntry | undefined {
    const index = this.#index(frame);
    if (index < 0) return undefined;
    const host = this.#host[index] ?? SCRATCH;
    return { present: host !== SCRATCH, dma: host < 0 ? undefined : asPfn(host) };
  }

  /** The guest page that the host's entry for the graphics page `frame` leads to, whatever the guest reads there; undefined for scratch. */
  gfnAt(frame: number): Gfn | undefined {
    const index = this.#index(frame);
    return index < 0 || (this.#host[index] ?? SCRATCH) < 0 ? undefined : asGfn(this.#byGfn.frame(index));
  }

  /** The live bytes behind the graphics page `frame`; undefined where no guest page stands. Not to be kept. */
  page(frame: number): Uint8Array | undefined {
    const index = this.#index(frame);
    if (index < 0) return undefined;
    const known = this.#views[index];
    if (known !== undefined) return known;
    const dma = this.#host[index] ?? SCRATCH;
    if (dma < 0) return undefined;
    const view = this.#backend.bytes(asPfn(dma));
    this.#views[index] = view;
    return view;
  }

  /**
   * Guest memory `range` goes away: every host entry that leads into it becomes the scratch page. References are not dropped: the
   * backend releases those mappings whatever their references. Guest entries stay as the guest wrote them. @returns entries changed.
   */
  scrub(range: FrameRange<number>): number {
    const before = this.#mapped;
    if (range.last - range.first >= this.#mapped) this.#scrubByScan(range);
    else for (let gfn = range.first; gfn <= range.last; gfn++) this.#scrubFrame(gfn);
    return before - this.#mapped;
  }

  /** Every entry zero for the guest and scratch for the host; every reference dropped. @returns references dropped. */
  reset(): number {
    const before = this.#mapped;
    for (let index = 0; index < this.#host.length && this.#mapped > 0; index++) {
      const old = this.#host[index] ?? SCRATCH;
      if (old < 0) continue;
      this.#setHost(index, SCRATCH_PRESENT);
      this.#backend.dmaUnmapGuestPage(asPfn(old), asGfn(this.#byGfn.frame(index)));
    }
    this.#guest.fill(0);
    this.#pending.fill(NO_HALF);
    this.#host.fill(SCRATCH_PRESENT);
    this.#warnings.reset();
    return before;
  }

  #index(frame: number): number {
    const low = frame - this.#lowFirst;
    if (low >= 0 && low < this.#lowCount) return low;
    const high = frame - this.#highFirst;
    return high >= 0 && high < this.#highCount ? this.#lowCount + high : -1;
  }

  /** The graphics page of an entry: the other way round. */
  #frameAt(index: number): number {
    return index < this.#lowCount ? this.#lowFirst + index : this.#highFirst + index - this.#lowCount;
  }

  #writeHalf(index: number, half: number, value: number): void {
    const pending = this.#pending[index] ?? NO_HALF;
    const at = index * 2 + half - LOW_HALF;
    const partner = index * 2 + HIGH_HALF - half;
    if (pending !== NO_HALF && pending !== half) {
      this.#guest[at] = value;
      this.#writeEntry(index, this.#guest[index * 2] ?? 0, this.#guest[index * 2 + 1] ?? 0);
      return;
    }
    this.#guest[at] = value;
    if (pending === half) return;
    this.#guest[partner] = 0;
    this.#pending[index] = half;
    this.#replace(index, SCRATCH);
  }

  #writeEntry(index: number, low: number, high: number): void {
    this.#guest[index * 2] = low;
    this.#guest[index * 2 + 1] = high;
    this.#pending[index] = NO_HALF;
    if ((low & PRESENT) === 0) {
      this.#replace(index, SCRATCH);
      return;
    }
    const gfn = asGfn((high & HIGH_ADDRESS) * LOW_FRAMES + (low >>> 12));
    const dma = this.#map(gfn, index);
    this.#replace(index, dma ?? SCRATCH_PRESENT, gfn);
  }

  #map(gfn: Gfn, index: number): Pfn | undefined {
    if (this.#backend.isValidGfn?.(gfn) === false) return undefined;
    try {
      return this.#backend.dmaMapGuestPage(gfn, SIZE_4K, ggttOwner(this.#frameAt(index)));
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      this.#warnings.warn(`GGTT entry for guest page ${hex(frameAddress(gfn))} leads to the scratch page`, cause);
      return undefined;
    }
  }

  /** The new mapping was taken before this drops the old one, so that rewriting an entry never unpins its page. */
  #replace(index: number, host: number, gfn?: Gfn): void {
    const old = this.#host[index] ?? SCRATCH;
    const oldGfn = this.#byGfn.frame(index);
    this.#setHost(index, host, gfn);
    if (old >= 0) this.#backend.dmaUnmapGuestPage(asPfn(old), asGfn(oldGfn));
  }

  #setHost(index: number, host: number, gfn?: Gfn): void {
    if ((this.#host[index] ?? SCRATCH) >= 0) {
      this.#byGfn.remove(index);
      this.#mapped -= 1;
    }
    this.#host[index] = host;
    this.#views[index] = undefined;
    if (host < 0 || gfn === undefined) return;
    this.#byGfn.add(index, gfn);
    this.#mapped += 1;
  }

  #scrubByScan(range: FrameRange<number>): void {
    for (let index = 0; index < this.#host.length; index++) {
      if ((this.#host[index] ?? SCRATCH) < 0) continue;
      if (rangeHolds(range, this.#byGfn.frame(index))) this.#setHost(index, SCRATCH_PRESENT);
    }
  }

  #scrubFrame(gfn: number): void {
    for (let index = this.#byGfn.first(gfn); index >= 0; index = this.#byGfn.first(gfn)) {
      this.#setHost(index, SCRATCH_PRESENT);
    }
  }
}

function checkAccess(offset: number, length: number): void {
  if ((length === 4 || length === ENTRY_SIZE) && offset % length === 0) return;
  throw gvtErrors.GGTT_ACCESS({ offset, length });
}
