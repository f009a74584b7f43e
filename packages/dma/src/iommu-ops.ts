import {
  asIovaFrame,
  asPfn,
  type Clock,
  frameAddress,
  type HostMemory,
  type IommuDomain,
  type IovaFrame,
  iovaFrame,
  type Log,
  PAGE_SIZE,
  type Pfn,
  PinionError,
  PROT_RW,
  type Prot,
  pageOffset,
  silentLog,
} from '@pinion/core';
import type { CoherentBuffer } from './coherent.js';
import type { DmaDevice } from './device.js';
import { ATTR, type Attributes, protOf } from './direction.js';
import { dmaErrors } from './errors.js';
import { FlushQueue } from './flush-queue.js';
import { type IovaSource, type IovaSpace, takeIova } from './iova-space.js';
import { type PageSource, pagesAround } from './memory.js';
import type { DmaOps, MapFailure, MappingUse } from './ops.js';
import { type DmaQuirk, quirkSet } from './quirks.js';
import type { DmaSegment, MemoryPiece, SgList } from './sg.js';
import { layOut, type SgLayout, segmentsOf } from './sg-layout.js';

const ALL_ONES = (1n << 64n) - 1n;
/** Bytes up to which an IOVA range comes from the caches. Source: iova_rcache_range(). */
const CACHED_BYTES = 0x20000n;

export interface IommuDmaOptions {
  /** The domain that the device sits behind. */
  readonly domain: IommuDomain;
  /** Hands out IOVA; the domain's reserved ranges are already out of use there. */
  readonly iovas: IovaSource;
  readonly memory: HostMemory;
  /** Where coherent memory comes from. Default: there is none. */
  readonly pages?: PageSource;
  /** Reuse unmapped ranges only after a flush that this clock times. Default: at once (strict). */
  readonly lazy?: Clock;
  readonly quirks?: Iterable<DmaQuirk>;
  readonly log?: Log;
}

/** Frames to be mapped one behind the other. */
interface Run {
  readonly pfn: Pfn;
  readonly frames: number;
}

/** DMA behind an IOMMU: every mapping gets IOVA of its own. Source: drivers/iommu/dma-iommu.c. */
export class IommuDma implements DmaOps {
  readonly memory: HostMemory;
  readonly requiredMask = 0xffff_ffffn;
  readonly mergeBoundary = BigInt(PAGE_SIZE - 1);
  readonly #domain: IommuDomain;
  readonly #space: IovaSpace;
  readonly #pages: PageSource | undefined;
  readonly #queue: FlushQueue | undefined;
  readonly #quirks: ReadonlySet<DmaQuirk>;
  /** Frames of every range by its first frame. */
  readonly #ranges = new Map<number, number>();
  #frames = 0;

  /** @throws DMA_UNKNOWN_QUIRK (EINVAL). */
  constructor(options: IommuDmaOptions) {
    this.memory = options.memory;
    this.#domain = options.domain;
    this.#space = { source: options.iovas, last: options.domain.aperture.last, log: options.log ?? silentLog };
    this.#pages = options.pages;
    this.#quirks = quirkSet(options.quirks ?? []);
    const release = (frame: number, size: number): void => options.iovas.freeFast(frame, size);
    this.#queue = options.lazy === undefined ? undefined : new FlushQueue(options.lazy, release);
  }

  get live(): { readonly mappings: number; readonly bytes: number } {
    return { mappings: this.#ranges.size, bytes: this.#frames * PAGE_SIZE };
  }

  /** IOVA frames that are in use, reserved ones included, those that wait for a flush not. */
  get frames(): number {
    return this.#frames;
  }

  map(device: DmaDevice, piece: MemoryPiece, use: MappingUse): bigint | MapFailure {
    return this.#mapPiece(device, piece, protOf(use.direction, this.#quirks.has('write-implies-read')));
  }

  unmap(device: DmaDevice, { dma, length }: DmaSegment): void {
    this.#drop(device, dma, pagesAround(pageOffset(dma), length));
  }

  mapList(
    device: DmaDevice,
    list: SgList,
    use: MappingUse & { readonly nents: number },
  ): readonly DmaSegment[] | MapFailure {
    const entries = use.nents === list.origNents ? list.entries : list.entries.slice(0, use.nents);
    const boundary = device.boundarySize;
    const layout = layOut(entries, boundary);
    const empty = entries.findIndex(({ length }) => length === 0);
    const first = this.#take(device, layout.total / PAGE_SIZE, device.mask);
    if (empty >= 0) return this.#refuseEmpty(device, { index: empty, first, frames: layout.total / PAGE_SIZE });
    if (typeof first !== 'number') return first;
    const failed = this.#mapEntries(device, first, {
      entries,
      layout,
      prot: protOf(use.direction, this.#quirks.has('write-implies-read')),
    });
    if (failed !== undefined) return failed;
    this.#book(first, layout.total / PAGE_SIZE);
    const limits = { maxSegment: device.maxSegment, boundary, wraps: this.#quirks.has('segment-limit-wraps') };
    return segmentsOf(entries, layout, { ...limits, base: frameAddress(first) });
  }

  unmapList(device: DmaDevice, list: SgList, { nents }: { readonly nents: number }): void {
    const head = list.segments[0];
    const tail = list.segments[Math.min(nents, list.segments.length) - 1];
    if (head === undefined || tail === undefined) throw dmaErrors.NOT_MAPPED({ device: device.name, address: 0n });
    const length = Number(tail.dma - head.dma) + tail.length;
    this.#drop(device, head.dma, pagesAround(pageOffset(head.dma), length));
  }

  mapResource(device: DmaDevice, piece: MemoryPiece, use: MappingUse): bigint | MapFailure {
    return this.map(device, piece, use);
  }
  unmapResource(device: DmaDevice, segment: DmaSegment): void {
    this.unmap(device, segment);
  }

  allocate(device: DmaDevice, size: number, attributes: Attributes): CoherentBuffer | MapFailure {
    const pages = Math.ceil(size / PAGE_SIZE);
    const runs = this.#takePages(pages, (attributes & ATTR.FORCE_CONTIGUOUS) !== 0);
    if (runs === undefined) return { failed: dmaErrors.NO_PAGES({ device: device.name, pages }) };
    return this.#placeCoherent(device, { size, runs, prot: PROT_RW, mask: device.coherentMask });
  }

  free(device: DmaDevice, buffer: CoherentBuffer): void {
    this.#drop(device, buffer.dma, buffer.pfns.length);
    this.#givePages(buffer.pfns.map((pfn) => ({ pfn, frames: 1 })));
  }

  allocatePages(device: DmaDevice, size: number, use: MappingUse): CoherentBuffer | MapFailure {
    const pages = Math.ceil(size / PAGE_SIZE);
    const runs = this.#takePages(pages, true);
    if (runs === undefined) return { failed: dmaErrors.NO_PAGES({ device: device.name, pages }) };
    const prot = protOf(use.direction, this.#quirks.has('write-implies-read'));
    return this.#placeCoherent(device, { size, runs, prot, mask: device.mask });
  }

  freePages(device: DmaDevice, buffer: CoherentBuffer): void {
    this.free(device, buffer);
  }

  /** Memory is coherent: nothing to do but to know the address. */
  syncForCpu(): void {}
  syncForDevice(): void {}

  /** Behind an IOMMU every mask is taken; one that is too small shows when mapping. */
  supports(): boolean {
    return true;
  }
  maxMapping(): bigint {
    return ALL_ONES;
  }
  optMapping(): bigint {
    return CACHED_BYTES;
  }

  /** The host frame behind a frame of IOVA. */
  lookup(frame: number): Pfn | undefined {
    return this.#domain.lookup(asIovaFrame(frame));
  }

  /** Sets a contiguous range aside that `place` fills page by page. @returns undefined: there is no IOVA. */
  reserve(device: DmaDevice, frames: number): IovaFrame | undefined {
    const first = takeIova(this.#space, device, { frames, mask: device.mask });
    if (first !== undefined) this.#book(first, frames);
    return first;
  }
  /** Maps pages into a reserved range. @throws what the domain throws; nothing is mapped then. */
  place(first: IovaFrame, pfn: Pfn, count: number): void {
    this.#domain.map(first, pfn, count, PROT_RW);
  }
  /** Clears a part of a reserved range; the range stays reserved. @returns frames that were mapped. */
  clear(first: IovaFrame, count: number): number {
    return this.#domain.unmap(first, count);
  }
  /** Gives a reserved range back, whatever is still mapped there. @throws DMA_NOT_MAPPED, DMA_WRONG_SIZE (EINVAL). */
  release(device: DmaDevice, first: IovaFrame, frames: number): void {
    this.#drop(device, frameAddress(first), frames);
  }

  /** Flushes what waits. @throws DMA_STILL_MAPPED (EBUSY) while mappings are left. */
  close(): void {
    if (this.#ranges.size > 0) throw dmaErrors.STILL_MAPPED({ what: 'the domain', mappings: this.#ranges.size });
    this.#queue?.close();
  }

  #mapPiece(device: DmaDevice, piece: MemoryPiece, prot: Prot): bigint | MapFailure {
    const frames = pagesAround(piece.offset, piece.length);
    const first = this.#take(device, frames, device.mask);
    if (typeof first !== 'number') return first;
    const pfn = asPfn(piece.pfn + Math.floor(piece.offset / PAGE_SIZE));
    const failed = this.#mapRuns(device, first, { runs: [{ pfn, frames }], frames, prot });
    if (failed !== undefined) return failed;
    this.#book(first, frames);
    return frameAddress(first) + BigInt(piece.offset % PAGE_SIZE);
  }

  #take(device: DmaDevice, frames: number, mask: bigint): IovaFrame | MapFailure {
    const first = takeIova(this.#space, device, { frames, mask });
    if (first !== undefined) return first;
    return { failed: dmaErrors.NO_IOVA({ device: device.name, frames, last: device.reach(mask) }) };
  }

  #book(first: number, frames: number): void {
    this.#ranges.set(first, frames);
    this.#frames += frames;
  }

  /** Unmaps a whole range; its IOVA is reused at once or after a flush. */
  #drop(device: DmaDevice, dma: bigint, frames: number): void {
    const first = iovaFrame(dma);
    const mapped = this.#ranges.get(first);
    if (mapped === undefined) throw dmaErrors.NOT_MAPPED({ device: device.name, address: dma });
    if (mapped !== frames) throw dmaErrors.WRONG_SIZE({ device: device.name, address: dma, frames, mapped });
    this.#domain.unmap(first, frames);
    this.#ranges.delete(first);
    this.#frames -= frames;
    if (this.#queue === undefined) this.#space.source.freeFast(first, frames);
    else this.#queue.add(first, frames);
  }

  /** An empty entry makes the range longer, as in the kernel, and then cannot be mapped: what was taken goes back. */
  #refuseEmpty(
    device: DmaDevice,
    what: { readonly index: number; readonly first: IovaFrame | MapFailure; readonly frames: number },
  ): MapFailure {
    if (typeof what.first === 'number') this.#space.source.freeFast(what.first, what.frames);
    return { failed: dmaErrors.EMPTY_ENTRY({ device: device.name, index: what.index }) };
  }

  #mapEntries(
    device: DmaDevice,
    first: IovaFrame,
    what: { readonly entries: readonly MemoryPiece[]; readonly layout: SgLayout; readonly prot: Prot },
  ): MapFailure | undefined {
    const frames = what.layout.total / PAGE_SIZE;
    return this.#mapRuns(device, first, { runs: listRuns(what.entries, what.layout), frames, prot: what.prot });
  }

  /** All runs or none; on a failure the IOVA goes back too. */
  #mapRuns(
    device: DmaDevice,
    first: IovaFrame,
    what: { readonly runs: readonly (Run & { readonly gap?: number })[]; readonly frames: number; readonly prot: Prot },
  ): MapFailure | undefined {
    let at: number = first;
    try {
      for (const { pfn, frames, gap = 0 } of what.runs) {
        this.#domain.map(asIovaFrame(at), pfn, frames, what.prot);
        at += frames + gap;
      }
    } catch (error) {
      if (at > first) this.#domain.unmap(first, at - first);
      this.#space.source.freeFast(first, what.frames);
      if (!(error instanceof PinionError)) throw error;
      const details = { device: device.name, reason: error.message };
      const full = error.errno === 'ENOMEM';
      return { failed: full ? dmaErrors.IOMMU_FULL(details, error) : dmaErrors.IOMMU_REFUSED(details, error) };
    }
    return undefined;
  }

  #placeCoherent(
    device: DmaDevice,
    what: { readonly size: number; readonly runs: readonly Run[]; readonly prot: Prot; readonly mask: bigint },
  ): CoherentBuffer | MapFailure {
    const frames = what.runs.reduce((sum, run) => sum + run.frames, 0);
    const first = this.#take(device, frames, what.mask);
    const failed = typeof first === 'number' ? this.#mapRuns(device, first, { ...what, frames }) : first;
    if (failed !== undefined || typeof first !== 'number') {
      this.#givePages(what.runs);
      return failed ?? { failed: dmaErrors.NO_PAGES({ device: device.name, pages: frames }) };
    }
    this.#book(first, frames);
    for (const run of what.runs) this.memory.bytes(run.pfn, run.frames).fill(0);
    const pfns = what.runs.flatMap((run) => Array.from({ length: run.frames }, (_, index) => asPfn(run.pfn + index)));
    return { dma: frameAddress(first), size: what.size, pfns };
  }

  #takePages(pages: number, contiguous: boolean): readonly Run[] | undefined {
    if (this.#pages === undefined || pages < 1) return undefined;
    if (contiguous) {
      const pfn = this.#pages.allocate({ pages });
      return pfn === undefined ? undefined : [{ pfn, frames: pages }];
    }
    const runs: Run[] = [];
    for (let taken = 0; taken < pages; taken += 1) {
      const pfn = this.#pages.allocate({ pages: 1 });
      if (pfn === undefined) {
        this.#givePages(runs);
        return undefined;
      }
      runs.push({ pfn, frames: 1 });
    }
    return runs;
  }

  #givePages(runs: readonly Run[]): void {
    for (const { pfn, frames } of runs) this.#pages?.free(pfn, frames);
  }
}

/** The entries as runs of frames; neighbours in memory become one run if nothing lies between them in IOVA either. */
function listRuns(entries: readonly MemoryPiece[], layout: SgLayout): readonly (Run & { readonly gap: number })[] {
  const runs: { pfn: Pfn; frames: number; gap: number }[] = [];
  for (const [index, { pfn: base, offset, length }] of entries.entries()) {
    const pfn = asPfn(base + Math.floor(offset / PAGE_SIZE));
    const frames = pagesAround(offset, length);
    const gap = (layout.spans[index] ?? 0) / PAGE_SIZE - frames;
    const last = runs.at(-1);
    if (last !== undefined && last.gap === 0 && last.pfn + last.frames === pfn) {
      last.frames += frames;
      last.gap = gap;
    } else runs.push({ pfn, frames, gap });
  }
  return runs;
}
