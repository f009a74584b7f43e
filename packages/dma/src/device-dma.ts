import { ADDRESS_SPACE_SIZE, asPfn, type HostMemory, iovaFrame, type PinionError, pageOffset } from '@pinion/core';
import type { CoherentBuffer } from './coherent.js';
import type { DmaDevice } from './device.js';
import { type Attributes, DIRECTION, type Direction, DMA_MAPPING_ERROR, isDirection } from './direction.js';
import type { CpuBuffer, Dma, ResourcePiece, SgUse } from './dma.js';
import { dmaErrors } from './errors.js';
import { type CpuSpace, pagesAround } from './memory.js';
import type { DmaOps, MapFailure } from './ops.js';
import type { Ownership } from './ownership.js';
import type { DmaSegment, MemoryPiece, SgList } from './sg.js';
import { type DmaShrinkers, formatShrinkReport } from './shrinkers.js';

export interface DeviceDmaOptions {
  readonly device: DmaDevice;
  /** What stands between the device and memory. */
  readonly ops: DmaOps;
  /** Needed by `mapSingle` only. */
  readonly cpu?: CpuSpace;
  /** Asked when a mapping fails for want of space. Default: it just fails. */
  readonly shrinkers?: DmaShrinkers;
  /** Callers may be kept waiting while active mappings are given back. Default false. */
  readonly mayWait?: boolean;
  /** Keeps the CPU off what the device owns. Default: nobody looks. */
  readonly ownership?: Ownership;
}

/** The DMA API of one device. */
export class DeviceDma implements Dma {
  readonly device: DmaDevice;
  readonly cpu: CpuSpace | undefined;
  readonly #ops: DmaOps;
  readonly #shrinkers: DmaShrinkers | undefined;
  readonly #mayWait: boolean;
  readonly #ownership: Ownership | undefined;
  #lastFailure: PinionError | undefined;

  constructor(options: DeviceDmaOptions) {
    this.device = options.device;
    this.cpu = options.cpu;
    this.#ops = options.ops;
    this.#shrinkers = options.shrinkers;
    this.#mayWait = options.mayWait ?? false;
    this.#ownership = options.ownership;
  }

  get memory(): HostMemory {
    return this.#ops.memory;
  }
  get lastFailure(): PinionError | undefined {
    return this.#lastFailure;
  }
  /** Bytes of the longest mapping; all ones: no bound. Source: dma_max_mapping_size(). */
  get maxMapping(): bigint {
    return this.#ops.maxMapping(this.device);
  }
  /** Bytes up to which mapping is fast. Source: dma_opt_mapping_size(). */
  get optMapping(): bigint {
    return this.#ops.optMapping(this.device);
  }
  /** Boundary minus one at which list entries merge; 0: they never do. Source: dma_get_merge_boundary(). */
  get mergeBoundary(): bigint {
    return this.#ops.mergeBoundary;
  }
  /** Whether the device cannot reach all memory by itself. Source: dma_addressing_limited(). */
  get addressingLimited(): boolean {
    return this.device.reach(this.device.mask) < this.#ops.requiredMask;
  }

  setMask(mask: bigint): void {
    this.device.mask = this.#checkMask(mask);
  }
  setCoherentMask(mask: bigint): void {
    this.device.coherentMask = this.#checkMask(mask);
  }

  mapPage(piece: MemoryPiece, direction: Direction, attributes = 0): bigint {
    this.#check(direction, piece.length, piece.offset);
    const pages = pagesAround(piece.offset, piece.length);
    const dma = this.#attempt(pages, () => this.#ops.map(this.device, piece, { direction, attributes }));
    if (dma === undefined) return DMA_MAPPING_ERROR;
    this.#ownership?.take(this.device.name, { dma, pieces: [piece], direction });
    return dma;
  }

  unmapPage(segment: DmaSegment, direction: Direction, attributes = 0): void {
    this.#check(direction, segment.length, 0, segment.dma);
    this.#ops.unmap(this.device, segment, { direction, attributes });
    this.#ownership?.release(segment.dma);
  }

  mapSingle(buffer: CpuBuffer, direction: Direction, attributes = 0): bigint {
    this.#check(direction, buffer.length, 0, buffer.address);
    if (this.cpu === undefined) throw dmaErrors.NO_CPU_SPACE({ device: this.device.name });
    const place = this.cpu.resolve(buffer.address);
    if (place === undefined || place.area === 'vmalloc') {
      const details = { device: this.device.name, address: buffer.address, area: place?.area ?? 'nothing' };
      this.#lastFailure = dmaErrors.NOT_LINEAR(details);
      return DMA_MAPPING_ERROR;
    }
    return this.mapPage({ pfn: place.pfn, offset: place.offset, length: buffer.length }, direction, attributes);
  }

  unmapSingle(segment: DmaSegment, direction: Direction, attributes = 0): void {
    this.unmapPage(segment, direction, attributes);
  }

  mapSg(list: SgList, direction: Direction, use: SgUse = {}): number {
    const nents = this.#checkList(list, direction, use.nents);
    const attributes = use.attributes ?? 0;
    const whole = { direction, attributes, nents };
    const segments = this.#attempt(list.pages, () => this.#ops.mapList(this.device, list, whole));
    if (segments === undefined) return 0;
    list.segments = segments;
    const dma = segments[0]?.dma;
    if (dma !== undefined) {
      this.#ownership?.take(this.device.name, { dma, pieces: list.entries.slice(0, nents), direction });
    }
    return segments.length;
  }

  mapSgTable(list: SgList, direction: Direction, use: SgUse = {}): void {
    if (this.mapSg(list, direction, use) > 0) return;
    throw this.#lastFailure ?? dmaErrors.BAD_NENTS({ device: this.device.name, nents: 0, entries: list.origNents });
  }

  unmapSg(list: SgList, direction: Direction, use: SgUse = {}): void {
    const nents = this.#checkList(list, direction, use.nents);
    const dma = list.segments[0]?.dma;
    this.#ops.unmapList(this.device, list, { direction, attributes: use.attributes ?? 0, nents });
    if (dma !== undefined) this.#ownership?.release(dma);
  }

  mapResource({ address, length }: ResourcePiece, direction: Direction): bigint {
    this.#check(direction, length, 0, address);
    const piece = { pfn: asPfn(iovaFrame(address)), offset: pageOffset(address), length };
    const pages = pagesAround(piece.offset, length);
    const use = { direction, attributes: 0 };
    return this.#attempt(pages, () => this.#ops.mapResource(this.device, piece, use)) ?? DMA_MAPPING_ERROR;
  }

  unmapResource(segment: DmaSegment, direction: Direction): void {
    this.#check(direction, segment.length, 0, segment.dma);
    this.#ops.unmapResource(this.device, segment);
  }

  allocCoherent(size: number, attributes: Attributes = 0): CoherentBuffer | undefined {
    this.#check(DIRECTION.BIDIRECTIONAL, size, 0);
    return this.#attempt(pagesAround(0, size), () => this.#ops.allocate(this.device, size, attributes));
  }

  freeCoherent(buffer: CoherentBuffer): void {
    this.#ops.free(this.device, buffer);
  }

  allocPages(size: number, direction: Direction): CoherentBuffer | undefined {
    this.#check(direction, size, 0);
    const use = { direction, attributes: 0 };
    return this.#attempt(pagesAround(0, size), () => this.#ops.allocatePages(this.device, size, use));
  }

  freePages(buffer: CoherentBuffer, direction: Direction): void {
    this.#ops.freePages(this.device, buffer, { direction, attributes: 0 });
  }

  mappingError(dma: bigint): boolean {
    return dma === DMA_MAPPING_ERROR;
  }

  syncForCpu(segment: DmaSegment, direction: Direction): void {
    this.#check(direction, segment.length, 0, segment.dma);
    this.#ops.syncForCpu(this.device, segment, direction);
    this.#ownership?.hand(segment.dma, 'cpu');
  }

  syncForDevice(segment: DmaSegment, direction: Direction): void {
    this.#check(direction, segment.length, 0, segment.dma);
    this.#ops.syncForDevice(this.device, segment, direction);
    this.#ownership?.hand(segment.dma, 'device');
  }

  syncSgForCpu(list: SgList, direction: Direction, nents?: number): void {
    const count = this.#checkList(list, direction, nents);
    for (const segment of list.segments.slice(0, count)) this.#ops.syncForCpu(this.device, segment, direction);
    const first = list.segments[0];
    if (first !== undefined) this.#ownership?.hand(first.dma, 'cpu');
  }

  syncSgForDevice(list: SgList, direction: Direction, nents?: number): void {
    const count = this.#checkList(list, direction, nents);
    for (const segment of list.segments.slice(0, count)) this.#ops.syncForDevice(this.device, segment, direction);
    const first = list.segments[0];
    if (first !== undefined) this.#ownership?.hand(first.dma, 'device');
  }

  /** Maps, and asks the shrinkers where there is no space. @returns undefined: `lastFailure` says why. */
  #attempt<T extends bigint | object>(pages: number, map: () => T | MapFailure): T | undefined {
    const once = (): T | undefined => {
      const result = map();
      const failed = typeof result === 'object' && 'failed' in result;
      this.#lastFailure = failed ? result.failed : undefined;
      return failed ? undefined : (result as T); // why: what is no failure is a T
    };
    if (this.#shrinkers === undefined) return once();
    const result = this.#shrinkers.retry({ device: this.device.name, pages, mayWait: this.#mayWait }, once);
    if (result === undefined) this.#explain(this.#shrinkers);
    return result;
  }

  /** Nobody could give enough: the failure says who was asked. */
  #explain({ lastReport }: DmaShrinkers): void {
    if (this.#lastFailure?.errno !== 'ENOMEM' || lastReport === undefined || lastReport.rounds.length === 0) return;
    this.#lastFailure = dmaErrors.SHRINK_FAILED({ report: formatShrinkReport(lastReport) }, this.#lastFailure);
  }

  #checkMask(mask: bigint): bigint {
    if (mask >= 0n && mask < ADDRESS_SPACE_SIZE && this.#ops.supports(mask)) return mask;
    throw dmaErrors.BAD_MASK({ device: this.device.name, mask });
  }

  #check(direction: number, length: number, offset: number, address = 0n): void {
    const device = this.device.name;
    if (!isDirection(direction)) throw dmaErrors.BAD_DIRECTION({ device, direction });
    if (!Number.isSafeInteger(length) || length < 1 || !Number.isSafeInteger(offset) || offset < 0) {
      throw dmaErrors.BAD_LENGTH({ what: `a mapping of ${device}`, length, offset });
    }
    if (address < 0n || address >= ADDRESS_SPACE_SIZE) throw dmaErrors.BAD_ADDRESS({ device, address });
  }

  #checkList(list: SgList, direction: number, asked: number | undefined): number {
    const device = this.device.name;
    if (!isDirection(direction)) throw dmaErrors.BAD_DIRECTION({ device, direction });
    const nents = asked ?? list.origNents;
    if (!Number.isSafeInteger(nents) || nents < 1 || nents > list.origNents) {
      throw dmaErrors.BAD_NENTS({ device, nents, entries: list.origNents });
    }
    return nents;
  }
}
