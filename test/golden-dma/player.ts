import {
  asIovaFrame,
  asPfn,
  frameAddress,
  iovaFrame,
  PAGE_SIZE,
  type Pfn,
  PinionError,
  pageOffset,
} from '@pinion/core';
import {
  type CoherentBuffer,
  coherentBytes,
  type Direction,
  type DmaQuirk,
  isDirection,
  type MemoryPiece,
  SgList,
} from '@pinion/dma';
import { addressRuns, alignment, byteRuns, hex, treeAnswer } from './answers.js';
import type { Operation, Scenario } from './recording.js';
import { makeWorld, type World } from './world.js';

type Answer = Record<string, unknown>;

/** What a mapping number of the script stands for. */
type Mapping =
  | {
      readonly kind: 'page';
      readonly dma: bigint;
      readonly piece: MemoryPiece;
      readonly direction: Direction;
      readonly attributes: number;
    }
  | { readonly kind: 'list'; readonly list: SgList; readonly direction: Direction; readonly attributes: number }
  | { readonly kind: 'coherent'; readonly buffer: CoherentBuffer }
  | { readonly kind: 'pages'; readonly buffer: CoherentBuffer; readonly direction: Direction }
  | { readonly kind: 'resource'; readonly dma: bigint; readonly length: number; readonly direction: Direction };

/** The edu device's own memory. */
const EDU_BYTES = 4096;
const CODE = { EIO: -5, ENOMEM: -12, EINVAL: -22 } as const;

const int = (value: unknown): number => Number(value);
const maskOf = (bits: number): bigint => (1n << BigInt(bits)) - 1n;
const direction = (value: unknown): Direction => {
  const number = int(value);
  if (!isDirection(number)) throw new TypeError(`the recording has direction ${number}`);
  return number;
};

/** Runs one scenario on a fresh world and answers in the recording's words. */
export class DmaPlayer {
  readonly #world: World;
  readonly #mappings = new Map<number, Mapping>();
  readonly #edu = new Uint8Array(EDU_BYTES);
  #firstBounce: bigint | undefined;

  constructor(scenario: Scenario, slot: number, without: readonly DmaQuirk[]) {
    this.#world = makeWorld(scenario.env, slot, without);
  }

  /** Where the bounce buffer's next search begins. */
  get nextSlot(): number {
    return this.#world.bounce?.next ?? 0;
  }

  run(op: Operation): Answer {
    switch (op.op) {
      case 'mask':
        return this.#masks(maskOf(int(op['bits'])), maskOf(int(op['cbits'])));
      case 'maskx':
        return this.#masks(BigInt(String(op['mask'])), BigInt(String(op['cmask'])));
      case 'seg':
        return this.#segments(op);
      case 'minalign':
        this.#world.dma.device.minAlign = int(op['mask']);
        return {};
      case 'buslimit':
        this.#world.dma.device.busLimit = BigInt(String(op['limit']));
        return {};
      case 'info':
        return this.#info();
      case 'wa32':
        return { wa32: this.#wa32() };
      case 'domtree':
        return this.#world.iommu === undefined ? { none: 1 } : treeAnswer(this.#world.iommu.iovas);
      case 'used':
        return { used: this.#world.bounce?.used ?? 0 };
      case 'sleep':
        this.#world.clock.sleep(int(op['ms']));
        return {};
      default:
        return this.#mapping(op);
    }
  }

  #mapping(op: Operation): Answer {
    switch (op.op) {
      case 'map':
        return this.#map(op, int(op['id']), int(op['off']));
      case 'mapn':
        return this.#mapMany(op);
      case 'sg':
      case 'sgt':
        return this.#mapList(op);
      case 'coh':
        return this.#coherent(op);
      case 'pages':
        return this.#pages(op);
      case 'res':
        return this.#resource(op);
      case 'unmap':
        return this.#unmap(int(op['id']));
      case 'unmapn':
        return this.#unmapMany(op);
      default:
        return this.#data(op);
    }
  }

  #data(op: Operation): Answer {
    const length = int(op['len']);
    switch (op.op) {
      case 'fill':
        this.#pool(op, length).fill(int(op['byte']));
        return {};
      case 'peek':
        return { b: byteRuns(this.#pool(op, length)) };
      case 'dpeek':
        return { b: byteRuns(this.#through(op, new Uint8Array(length), false)) };
      case 'dpoke':
        this.#through(op, new Uint8Array(length).fill(int(op['byte'])), true);
        return {};
      case 'sync':
        return this.#sync(op);
      case 'edu':
        return this.#device(firstAddress(this.#live(op)) + BigInt(int(op['off'])), op);
      case 'edu_at':
        return this.#device(BigInt(String(op['addr'])), op);
      default:
        throw new TypeError(`unknown operation ${op.op}`);
    }
  }

  #masks(mask: bigint, coherent: bigint): Answer {
    const { dma } = this.#world;
    const ret = result(() => dma.setMask(mask));
    const cret = result(() => dma.setCoherentMask(coherent));
    return { ret, cret, mask: hex(dma.device.mask), cmask: hex(dma.device.coherentMask) };
  }

  #segments(op: Operation): Answer {
    const { device } = this.#world.dma;
    device.maxSegment = int(op['max']);
    device.segmentBoundary = BigInt(String(op['boundary']));
    return { max_seg: hex(device.maxSegment), seg_boundary: hex(device.segmentBoundary) };
  }

  #info(): Answer {
    const { dma, iommu, required } = this.#world;
    const { device } = dma;
    const parameters = {
      mask: hex(device.mask),
      coherent_mask: hex(device.coherentMask),
      required: hex(required),
      bus_limit: hex(device.busLimit),
      max_mapping: hex(dma.maxMapping),
      opt_mapping: hex(dma.optMapping),
      merge_boundary: hex(dma.mergeBoundary),
      max_seg: hex(device.maxSegment),
      seg_boundary: hex(device.segmentBoundary),
      min_align: hex(device.minAlign),
      limited: dma.addressingLimited ? 1 : 0,
      wa32: this.#wa32(),
    };
    if (iommu === undefined) return parameters;
    const geometry = {
      geom_start: hex(frameAddress(iommu.domain.aperture.first)),
      geom_end: hex(frameAddress(iommu.domain.aperture.last) + 0xfffn),
      pgsizes: hex(iommu.domain.pageSizes),
      start_pfn: hex(iommu.iovas.start),
    };
    return { ...parameters, ...geometry, ...treeAnswer(iommu.iovas) };
  }

  #wa32(): number {
    if (this.#world.iommu === undefined) return -1;
    return this.#world.dma.device.below4GFirst ? 1 : 0;
  }

  #map(op: Operation, id: number, offset: number): Answer {
    const piece = { ...this.#place(int(op['pool']), offset), length: int(op['len']) };
    const use = { direction: direction(op['dir']), attributes: int(op['attrs']) };
    const dma = this.#world.dma.mapPage(piece, use.direction, use.attributes);
    if (this.#world.dma.mappingError(dma)) return { err: 1, sentinel: dma === 2n ** 64n - 1n ? 1 : 0 };
    this.#mappings.set(id, { kind: 'page', dma, piece, ...use });
    return {
      ...this.#address(dma, piece),
      to: this.#leadsTo([{ dma, length: piece.length }], [piece]),
      lowbits: Number(dma & 0xfffn),
    };
  }

  #mapMany(op: Operation): Answer {
    const addresses: bigint[] = [];
    let [fail, first, bounced] = [0, -1, 0];
    for (let index = 0; index < int(op['n']); index += 1) {
      const answer = this.#map(op, int(op['id']) + index, int(op['off']) + index * int(op['stride']));
      if ('err' in answer) {
        if (fail === 0) first = index;
        fail += 1;
        continue;
      }
      if (answer['to'] === 'bounce') bounced += 1;
      addresses.push(answer['dma'] === 'phys' ? 0n : BigInt(String(answer['dma'])));
    }
    return { runs: addressRuns(addresses), fail, first_fail: first, bounced, wa32: this.#wa32() };
  }

  #mapList(op: Operation): Answer {
    const entries = (op['ents'] as [number, number, number][]) // why: shape fixed by the format description
      .map(([pool, offset, length]) => ({ ...this.#place(pool, offset), length }));
    const list = new SgList(entries);
    const use = { direction: direction(op['dir']), attributes: int(op['attrs']) };
    const ret = result(() => this.#world.dma.mapSgTable(list, use.direction, { attributes: use.attributes }));
    if (ret !== 0)
      return op.op === 'sgt'
        ? { ret, nents: list.origNents }
        : { nents: 0, restored: list.segments.length === 0 ? 1 : 0 };
    this.#mappings.set(int(op['id']), { kind: 'list', list, ...use });
    const segs = list.segments.map(({ dma, length }, index) => this.#segment(dma, length, entries[index]));
    const excess = list.segments.filter(({ length }) => length === 0).length;
    const to = this.#leadsTo(list.segments, entries);
    return { ret, nents: list.segments.length, to, segs, cpu_side_changed: 0, excess, wa32: this.#wa32() };
  }

  /** A segment in the recording's words; without an IOMMU the segment is its entry, whose place tells whether it was bounced. */
  #segment(dma: bigint, length: number, entry: MemoryPiece | undefined): readonly unknown[] {
    if (this.#world.iommu !== undefined) return [hex(dma), length];
    const { dma: address } = this.#address(dma, entry ?? { pfn: asPfn(0), offset: 0, length });
    return [address, length, Number(dma & 0xfffn)];
  }

  /** Without an IOMMU: `phys`, or relative to the first bounced address of the scenario. */
  #address(dma: bigint, piece: MemoryPiece): { readonly dma: string } {
    if (this.#world.iommu !== undefined) return { dma: hex(dma) };
    if (dma === physical(piece)) return { dma: 'phys' };
    this.#firstBounce ??= dma;
    return { dma: hex(BigInt.asUintN(64, dma - this.#firstBounce)) };
  }

  /** Whether the device reaches the right memory: `ok`, `bounce`, `none` or `bad`. */
  #leadsTo(
    segments: readonly { readonly dma: bigint; readonly length: number }[],
    pieces: readonly MemoryPiece[],
  ): string {
    const { iommu, bounce } = this.#world;
    if (iommu === undefined)
      return bounce !== undefined && segments.some(({ dma }) => bounce.has(dma)) ? 'bounce' : 'ok';
    let segment = 0;
    let done = 0;
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; at += PAGE_SIZE) {
        const place = segments[segment];
        if (place === undefined) return 'bad';
        const dma = place.dma + BigInt(done + at);
        const pfn = iommu.domain.lookup(asIovaFrame(iovaFrame(dma)));
        if (pfn === undefined) return 'none';
        if (frameAddress(pfn) + BigInt(pageOffset(dma)) !== physical(piece) + BigInt(at)) return 'bad';
      }
      done += piece.length;
      if (done < (segments[segment]?.length ?? 0)) continue;
      segment += 1;
      done = 0;
    }
    return 'ok';
  }

  #coherent(op: Operation): Answer {
    const size = int(op['size']);
    const buffer = this.#world.dma.allocCoherent(size, int(op['attrs']));
    if (buffer === undefined) return { null: 1 };
    this.#mappings.set(int(op['id']), { kind: 'coherent', buffer });
    const last = buffer.dma + BigInt(size) - 1n;
    const bytes = new Uint8Array(size);
    coherentBytes(this.#world.memory, buffer, { at: 0, bytes, write: false });
    const remapped = this.#world.iommu !== undefined && (int(op['attrs']) & 0x40) === 0;
    return {
      ...this.#allocated(buffer),
      vmalloc: remapped ? 1 : 0,
      below_cmask: last <= this.#world.dma.device.coherentMask ? 1 : 0,
      zeroed: bytes.every((byte) => byte === 0) ? 1 : 0,
    };
  }

  #pages(op: Operation): Answer {
    const buffer = this.#world.dma.allocPages(int(op['size']), direction(op['dir']));
    if (buffer === undefined) return { null: 1 };
    this.#mappings.set(int(op['id']), { kind: 'pages', buffer, direction: direction(op['dir']) });
    return { ...this.#allocated(buffer), identity: buffer.dma === frameAddress(buffer.pfns[0] ?? 0) ? 1 : 0 };
  }

  #allocated(buffer: CoherentBuffer): Answer {
    const unit = 2 ** Math.ceil(Math.log2(buffer.pfns.length)) * PAGE_SIZE;
    const pieces = buffer.pfns.map((pfn) => ({ pfn, offset: 0, length: PAGE_SIZE }));
    const to = this.#leadsTo([{ dma: buffer.dma, length: buffer.pfns.length * PAGE_SIZE }], pieces);
    return {
      dma: hex(buffer.dma),
      dma_align: alignment(buffer.dma),
      size_aligned: buffer.dma % BigInt(unit) === 0n ? 1 : 0,
      xlate_ok: to === 'ok' ? 1 : 0,
    };
  }

  #resource(op: Operation): Answer {
    const address = frameAddress(this.#world.bar) + BigInt(int(op['off']));
    const length = int(op['len']);
    const dma = this.#world.dma.mapResource({ address, length }, direction(op['dir']));
    if (this.#world.dma.mappingError(dma)) return { err: 1, sentinel: 1 };
    this.#mappings.set(int(op['id']), { kind: 'resource', dma, length, direction: direction(op['dir']) });
    const piece = { pfn: this.#world.bar, offset: int(op['off']), length };
    const ok = this.#world.iommu === undefined || this.#leadsTo([{ dma, length }], [piece]) === 'ok';
    return { dma: hex(dma), identity: dma === address ? 1 : 0, xlate_ok: ok ? 1 : 0 };
  }

  #unmap(id: number): Answer {
    const mapping = this.#mappings.get(id);
    if (mapping === undefined) return { skip: 1 };
    this.#mappings.delete(id);
    const { dma } = this.#world;
    if (mapping.kind === 'page') {
      dma.unmapPage({ dma: mapping.dma, length: mapping.piece.length }, mapping.direction, mapping.attributes);
    } else if (mapping.kind === 'list')
      dma.unmapSg(mapping.list, mapping.direction, { attributes: mapping.attributes });
    else if (mapping.kind === 'coherent') dma.freeCoherent(mapping.buffer);
    else if (mapping.kind === 'pages') dma.freePages(mapping.buffer, mapping.direction);
    else dma.unmapResource(mapping, mapping.direction);
    return { to: this.#gone(firstAddress(mapping)) };
  }

  #gone(dma: bigint): string {
    return this.#world.iommu?.domain.lookup(asIovaFrame(iovaFrame(dma))) === undefined ? 'none' : 'ok';
  }

  #unmapMany(op: Operation): Answer {
    const ids = Array.from({ length: int(op['n']) }, (_, index) => int(op['id']) + index * int(op['step']));
    if (int(op['rev']) === 1) ids.reverse();
    return { n: ids.filter((id) => this.#unmap(id)['skip'] === undefined).length };
  }

  #place(pool: number, offset: number): { readonly pfn: Pfn; readonly offset: number } {
    const base = this.#world.pools[pool];
    if (base === undefined) throw new TypeError(`there is no pool ${pool}`);
    return { pfn: asPfn(base.pfn + Math.floor(offset / PAGE_SIZE)), offset: offset % PAGE_SIZE };
  }

  #pool(op: Operation, length: number): Uint8Array {
    const base = this.#world.pools[int(op['pool'])];
    if (base === undefined) throw new TypeError(`there is no pool ${int(op['pool'])}`);
    return this.#world.memory.bytes(base.pfn, base.pages).subarray(int(op['off']), int(op['off']) + length);
  }

  #live(op: Operation): Mapping {
    const mapping = this.#mappings.get(int(op['id']));
    if (mapping === undefined) throw new TypeError(`mapping ${int(op['id'])} does not live`);
    return mapping;
  }

  /** The address at byte `off` of a mapping; lists count through their segments. */
  #addressOf(op: Operation, more = 0): bigint {
    const mapping = this.#live(op);
    let at = int(op['off']) + more;
    if (mapping.kind !== 'list') return firstAddress(mapping) + BigInt(at);
    for (const { dma, length } of mapping.list.segments) {
      if (at < length) return dma + BigInt(at);
      at -= length;
    }
    throw new TypeError('the offset lies past the list');
  }

  /** Reads or writes byte by byte through the translation; no device is involved, so rights do not matter. */
  #through(op: Operation, bytes: Uint8Array, write: boolean): Uint8Array {
    for (let index = 0; index < bytes.length; index += 1) {
      const dma = this.#addressOf(op, index);
      const pfn =
        this.#world.iommu === undefined
          ? asPfn(iovaFrame(dma))
          : this.#world.iommu.domain.lookup(asIovaFrame(iovaFrame(dma)));
      if (pfn === undefined) throw new TypeError(`${hex(dma)} leads nowhere`);
      const page = this.#world.memory.bytes(asPfn(pfn), 1);
      if (write) page[pageOffset(dma)] = bytes[index] ?? 0;
      else bytes[index] = page[pageOffset(dma)] ?? 0;
    }
    return bytes;
  }

  #sync(op: Operation): Answer {
    const mapping = this.#live(op);
    const { dma } = this.#world;
    const cpu = int(op['cpu']) === 1;
    if (mapping.kind === 'list') {
      if (cpu) dma.syncSgForCpu(mapping.list, mapping.direction);
      else dma.syncSgForDevice(mapping.list, mapping.direction);
    } else if (mapping.kind === 'page') {
      const segment = { dma: mapping.dma + BigInt(int(op['off'])), length: int(op['len']) };
      if (cpu) dma.syncForCpu(segment, mapping.direction);
      else dma.syncForDevice(segment, mapping.direction);
    }
    return {};
  }

  /** The device copies memory to its own buffer or back. A refused read yields zeros, a refused write is lost. */
  #device(address: bigint, op: Operation): Answer {
    const own = this.#edu.subarray(0, int(op['len']));
    const write = int(op['write']) === 1;
    const { iommu, memory } = this.#world;
    if (iommu === undefined) {
      const bytes = memory
        .bytes(asPfn(iovaFrame(address)), 1)
        .subarray(pageOffset(address), pageOffset(address) + own.length);
      if (write) bytes.set(own);
      else own.set(bytes);
      return { done: 1 };
    }
    try {
      if (write) iommu.device.write(address, own);
      else iommu.device.read(address, own);
    } catch (error) {
      if (!(error instanceof PinionError) || error.name !== 'IOMMU_FAULT') throw error;
      if (!write) own.fill(0);
    }
    return { done: 1 };
  }
}

const physical = ({ pfn, offset }: MemoryPiece): bigint => frameAddress(pfn) + BigInt(offset);

function firstAddress(mapping: Mapping): bigint {
  if (mapping.kind === 'page' || mapping.kind === 'resource') return mapping.dma;
  if (mapping.kind === 'list') return mapping.list.segments[0]?.dma ?? 0n;
  return mapping.buffer.dma;
}

/** 0, or the negative errno of what was thrown. */
function result(action: () => void): number {
  try {
    action();
    return 0;
  } catch (error) {
    if (!(error instanceof PinionError)) throw error;
    return CODE[error.errno as keyof typeof CODE] ?? -error.code; // why: a miss of the table is handled
  }
}
