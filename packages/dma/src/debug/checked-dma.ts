import { asPfn, type HostMemory, iovaFrame, PAGE_SIZE, type PinionError, pageOffset } from '@pinion/core';
import type { CoherentBuffer } from '../coherent.js';
import type { DmaDevice } from '../device.js';
import { type Attributes, DIRECTION, type Direction } from '../direction.js';
import type { CpuBuffer, Dma, ResourcePiece, SgUse } from '../dma.js';
import type { CpuSpace, PhysicalPlace } from '../memory.js';
import type { DmaSegment, MemoryPiece, SgList } from '../sg.js';
import type { DmaDebug } from './dma-debug.js';
import { detailsOf, type EntryReference, type EntryType } from './entries.js';
import { dmaDebugErrors } from './reports.js';

/** Memory of a list that has fewer entries than segments; no such list is made here. */
const NOWHERE: PhysicalPlace = { pfn: asPfn(0), offset: 0 };

/** The DMA API with the debugger looking at every call. Arguments and results are those of what it wraps. */
export class CheckedDma implements Dma {
  readonly #dma: Dma;
  readonly #debug: DmaDebug;

  constructor(dma: Dma, debug: DmaDebug) {
    this.#dma = dma;
    this.#debug = debug;
  }

  get device(): DmaDevice {
    return this.#dma.device;
  }
  get memory(): HostMemory {
    return this.#dma.memory;
  }
  get cpu(): CpuSpace | undefined {
    return this.#dma.cpu;
  }
  get lastFailure(): PinionError | undefined {
    return this.#dma.lastFailure;
  }

  setMask(mask: bigint): void {
    this.#dma.setMask(mask);
  }
  setCoherentMask(mask: bigint): void {
    this.#dma.setCoherentMask(mask);
  }

  mapPage(piece: MemoryPiece, direction: Direction, attributes = 0): bigint {
    const dma = this.#dma.mapPage(piece, direction, attributes);
    if (this.#failed(dma)) return dma;
    this.#checkArea(piece, dma);
    this.#add('page', { dma, length: piece.length }, { piece, direction, checked: false, attributes });
    return dma;
  }

  unmapPage(segment: DmaSegment, direction: Direction, attributes = 0): void {
    this.#remove('page', segment, direction);
    this.#dma.unmapPage(segment, direction, attributes);
  }

  mapSingle(buffer: CpuBuffer, direction: Direction, attributes = 0): bigint {
    const place = this.cpu?.resolve(buffer.address);
    const details = detailsOf({ device: this.device, dma: buffer.address, size: buffer.length });
    if (this.cpu !== undefined && place === undefined)
      this.#debug.report(this.device, dmaDebugErrors.MAP_INVALID(details));
    if (place?.area === 'vmalloc') this.#debug.report(this.device, dmaDebugErrors.MAP_VMALLOC(details));
    const dma = this.#dma.mapSingle(buffer, direction, attributes);
    if (this.#failed(dma) || place === undefined) return dma;
    const piece = { pfn: place.pfn, offset: place.offset, length: buffer.length };
    this.#checkArea(piece, dma);
    this.#add('page', { dma, length: buffer.length }, { piece, direction, checked: false, attributes });
    return dma;
  }

  unmapSingle(segment: DmaSegment, direction: Direction, attributes = 0): void {
    this.#remove('page', segment, direction);
    this.#dma.unmapSingle(segment, direction, attributes);
  }

  mapSg(list: SgList, direction: Direction, use: SgUse = {}): number {
    const mapped = this.#dma.mapSg(list, direction, use);
    if (mapped > 0) this.#addList(list, direction, use);
    return mapped;
  }

  mapSgTable(list: SgList, direction: Direction, use: SgUse = {}): void {
    this.#dma.mapSgTable(list, direction, use);
    this.#addList(list, direction, use);
  }

  unmapSg(list: SgList, direction: Direction, use: SgUse = {}): void {
    const nents = use.nents ?? list.origNents;
    const [head] = list.segments;
    const known =
      head === undefined ? undefined : this.#debug.mappedNents(this.#reference('list', head, { direction, nents }));
    for (const segment of list.segments.slice(0, Math.min(nents, known ?? nents))) {
      this.#debug.remove(this.#reference('list', segment, { direction, nents }), false);
    }
    this.#dma.unmapSg(list, direction, use);
  }

  mapResource(piece: ResourcePiece, direction: Direction): bigint {
    const dma = this.#dma.mapResource(piece, direction);
    if (this.#failed(dma)) return dma;
    const place = { pfn: asPfn(iovaFrame(piece.address)), offset: pageOffset(piece.address), length: piece.length };
    this.#add('resource', { dma, length: piece.length }, { piece: place, direction, checked: false, attributes: 0 });
    return dma;
  }

  unmapResource(segment: DmaSegment, direction: Direction): void {
    this.#remove('resource', segment, direction);
    this.#dma.unmapResource(segment, direction);
  }

  allocCoherent(size: number, attributes: Attributes = 0): CoherentBuffer | undefined {
    const buffer = this.#dma.allocCoherent(size, attributes);
    if (buffer !== undefined) this.#addBuffer('coherent', buffer, DIRECTION.BIDIRECTIONAL);
    return buffer;
  }

  freeCoherent(buffer: CoherentBuffer, attributes: Attributes = 0): void {
    this.#removeBuffer('coherent', buffer, DIRECTION.BIDIRECTIONAL);
    this.#dma.freeCoherent(buffer, attributes);
  }

  allocPages(size: number, direction: Direction): CoherentBuffer | undefined {
    const buffer = this.#dma.allocPages(size, direction);
    if (buffer !== undefined) this.#addBuffer('page', buffer, direction);
    return buffer;
  }

  freePages(buffer: CoherentBuffer, direction: Direction): void {
    this.#removeBuffer('page', buffer, direction);
    this.#dma.freePages(buffer, direction);
  }

  mappingError(dma: bigint): boolean {
    this.#debug.tested(this.device, dma);
    return this.#dma.mappingError(dma);
  }

  syncForCpu(segment: DmaSegment, direction: Direction): void {
    this.#debug.sync(this.#reference('page', segment, { direction, nents: 0 }), true);
    this.#dma.syncForCpu(segment, direction);
  }
  syncForDevice(segment: DmaSegment, direction: Direction): void {
    this.#debug.sync(this.#reference('page', segment, { direction, nents: 0 }), false);
    this.#dma.syncForDevice(segment, direction);
  }
  syncSgForCpu(list: SgList, direction: Direction, nents = list.origNents): void {
    this.#syncList(list, { direction, nents }, true);
    this.#dma.syncSgForCpu(list, direction, nents);
  }
  syncSgForDevice(list: SgList, direction: Direction, nents = list.origNents): void {
    this.#syncList(list, { direction, nents }, false);
    this.#dma.syncSgForDevice(list, direction, nents);
  }

  #failed(dma: bigint): boolean {
    return this.#dma.mappingError(dma);
  }

  #checkArea({ pfn, offset, length }: MemoryPiece, dma: bigint): void {
    const area = this.cpu?.areaOf(asPfn(pfn + Math.floor(offset / PAGE_SIZE)));
    const details = detailsOf({ device: this.device, dma, size: length });
    if (area === 'stack') this.#debug.report(this.device, dmaDebugErrors.MAP_STACK(details));
    if (area === 'text') this.#debug.report(this.device, dmaDebugErrors.MAP_TEXT(details));
  }

  #reference(
    type: EntryType,
    { dma, length }: DmaSegment,
    { direction, nents }: { readonly direction: Direction; readonly nents: number },
  ): EntryReference {
    return { type, device: this.device, dma, size: length, direction, callNents: nents };
  }

  #add(
    type: EntryType,
    segment: DmaSegment,
    what: {
      readonly piece: PhysicalPlace;
      readonly direction: Direction;
      readonly checked: boolean;
      readonly attributes: Attributes;
      readonly callNents?: number;
      readonly mappedNents?: number;
    },
  ): void {
    const { piece, direction, checked, attributes, callNents = 0, mappedNents = 0 } = what;
    const pfn = piece.pfn + Math.floor(piece.offset / PAGE_SIZE);
    const offset = piece.offset % PAGE_SIZE;
    const { dma, length: size } = segment;
    const { device } = this;
    this.#debug.add(
      { type, device, dma, size, direction, pfn, offset, callNents, mappedNents, checked, stack: undefined },
      attributes,
    );
  }

  #remove(type: EntryType, segment: DmaSegment, direction: Direction): void {
    this.#debug.remove(this.#reference(type, segment, { direction, nents: 0 }), this.#failed(segment.dma));
  }

  /** One entry per segment; its memory is that of the first list entry in it. */
  #addList(list: SgList, direction: Direction, use: SgUse): void {
    const { nents: callNents = list.origNents, attributes = 0 } = use;
    const mappedNents = list.segments.length;
    let next = 0;
    for (const segment of list.segments) {
      this.#checkSegment(segment);
      const piece = list.entries[next] ?? NOWHERE;
      for (let length = 0; length < segment.length && next < callNents; next += 1)
        length += list.entries[next]?.length ?? 0;
      this.#add('list', segment, { piece, direction, checked: true, attributes, callNents, mappedNents });
    }
  }

  #checkSegment({ dma, length }: DmaSegment): void {
    const { maxSegment: max, segmentBoundary: boundary } = this.device;
    if (length > max) {
      const details = detailsOf({ device: this.device, dma, size: length });
      this.#debug.report(this.device, dmaDebugErrors.SEGMENT_LONG({ ...details, max }));
    }
    if ((dma & boundary) + BigInt(length) > boundary + 1n) {
      const details = detailsOf({ device: this.device, dma, size: length });
      this.#debug.report(this.device, dmaDebugErrors.SEGMENT_BOUNDARY({ ...details, boundary }));
    }
  }

  #addBuffer(type: EntryType, buffer: CoherentBuffer, direction: Direction): void {
    const piece = { pfn: buffer.pfns[0] ?? NOWHERE.pfn, offset: 0 };
    this.#add(type, { dma: buffer.dma, length: buffer.size }, { piece, direction, checked: true, attributes: 0 });
  }

  #removeBuffer(type: EntryType, buffer: CoherentBuffer, direction: Direction): void {
    const reference = this.#reference(type, { dma: buffer.dma, length: buffer.size }, { direction, nents: 0 });
    this.#debug.remove({ ...reference, pfn: buffer.pfns[0] ?? 0 }, this.#failed(buffer.dma));
  }

  #syncList(list: SgList, use: { readonly direction: Direction; readonly nents: number }, toCpu: boolean): void {
    for (const segment of list.segments.slice(0, use.nents)) {
      this.#debug.sync(this.#reference('list', segment, use), toCpu);
    }
  }
}
