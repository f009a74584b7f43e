import { asPfn, frameAddress, type HostMemory, PAGE_SIZE } from '@pinion/core';
import type { DmaDevice } from './device.js';
import { dmaErrors } from './errors.js';
import { copyPhysical, type PhysicalPlace, physicalAddress } from './memory.js';
import type { MemoryPiece } from './sg.js';

/** Bytes in a slot. Source: IO_TLB_SIZE. */
export const SLOT_SIZE = 2048;
/** Slots in a segment; no piece crosses its end. Source: IO_TLB_SEGSIZE. */
const SEGMENT_SLOTS = 128;
const WORD = 2 ** 32;

export interface BouncePoolOptions {
  readonly memory: HostMemory;
  /** The first frame; the pool lies in contiguous memory that nothing else uses. */
  readonly first: number;
  readonly pages: number;
}

/** A buffer's stand-in: where it is, and what it stands for. */
interface Bounce {
  readonly slot: number;
  readonly slots: number;
  readonly place: PhysicalPlace;
  readonly original: MemoryPiece;
}

/** What one piece asks of its place. */
interface SlotRequest {
  readonly slots: number;
  /** Low bits of the address that must be 0. */
  readonly alignMask: number;
  /** Low bits that must equal the original's. */
  readonly keepMask: number;
  readonly keep: number;
  readonly stride: number;
  /** One more than the boundary mask, in slots. */
  readonly boundarySlots: number;
}

/**
 * Memory in reach of devices whose buffers are not: pieces of up to 256 KiB in slots of 2 KiB, next fit (a slot just freed is not
 * the next one used). Unless the device keeps low address bits (`minAlign`), a piece begins with a slot, from 4 KiB on with a
 * page. Source: kernel/dma/swiotlb.c.
 */
export class BouncePool {
  readonly slots: number;
  readonly #memory: HostMemory;
  readonly #first: number;
  readonly #taken: Uint8Array;
  readonly #bounces = new Map<bigint, Bounce>();
  #next = 0;
  #used = 0;

  /** @throws DMA_BAD_OPTION (EINVAL) for a pool that is no multiple of 256 KiB. */
  constructor(options: BouncePoolOptions) {
    const slots = (options.pages * PAGE_SIZE) / SLOT_SIZE;
    if (!Number.isSafeInteger(slots) || slots < SEGMENT_SLOTS || slots % SEGMENT_SLOTS !== 0) {
      throw dmaErrors.BAD_OPTION({ option: 'pages', problem: `${options.pages} pages are no multiple of 64` });
    }
    this.slots = slots;
    this.#memory = options.memory;
    this.#first = options.first;
    this.#taken = new Uint8Array(slots);
  }

  /** Slots that are in use. */
  get used(): number {
    return this.#used;
  }
  /** The slot where the next search begins. */
  get next(): number {
    return this.#next;
  }
  /** Moves it. @throws DMA_BAD_OPTION (EINVAL) for a slot that does not exist. */
  set next(slot: number) {
    if (!Number.isSafeInteger(slot) || slot < 0 || slot >= this.slots) {
      throw dmaErrors.BAD_OPTION({ option: 'next', problem: `there is no slot ${slot}` });
    }
    this.#next = slot;
  }
  /** The last byte of the pool. */
  get last(): bigint {
    return frameAddress(this.#first) + BigInt(this.slots * SLOT_SIZE - 1);
  }

  /** Bytes of the longest piece for a device. */
  maxMapping(device: DmaDevice): number {
    return SEGMENT_SLOTS * SLOT_SIZE - Math.ceil(device.minAlign / SLOT_SIZE) * SLOT_SIZE;
  }

  /** Takes slots for a piece and copies it in, whatever its direction. @returns its address; undefined: no room. */
  map(device: DmaDevice, piece: MemoryPiece): bigint | undefined {
    const keptOffset = piece.offset & device.minAlign & (SLOT_SIZE - 1);
    const slots = Math.ceil((piece.length + keptOffset) / SLOT_SIZE);
    if (piece.length < 1 || slots > this.slots - this.#used) return undefined;
    const slot = this.#find(slotRequest(device, piece, slots));
    if (slot === undefined) return undefined;
    this.#taken.fill(1, slot, slot + slots);
    this.#used += slots;
    this.#next = (slot + slots) % this.slots;
    const place = this.#place(slot, keptOffset);
    const dma = physicalAddress(place);
    this.#bounces.set(dma, { slot, slots, place, original: piece });
    copyPhysical(this.#memory, piece, { ...place, length: piece.length });
    return dma;
  }

  /** Frees what `map` took, without copying back. */
  unmap(dma: bigint): void {
    const bounce = this.#bounces.get(dma);
    if (bounce === undefined) return;
    this.#bounces.delete(dma);
    this.#taken.fill(0, bounce.slot, bounce.slot + bounce.slots);
    this.#used -= bounce.slots;
  }

  /** Whether an address begins a piece of the pool. */
  has(dma: bigint): boolean {
    return this.#bounces.has(dma);
  }

  /** Length of the original that a piece stands for. */
  lengthOf(dma: bigint): number | undefined {
    return this.#bounces.get(dma)?.original.length;
  }

  /**
   * Copies `length` bytes between a piece and its original; `dma` may lie inside the piece.
   * @returns false: that address is not the pool's. @throws DMA_OUTSIDE (EINVAL) for bytes past the end of the piece.
   */
  copy(dma: bigint, length: number, toDevice: boolean): boolean {
    const bounce = this.#around(dma);
    if (bounce === undefined) return false;
    const at = Number(dma - physicalAddress(bounce.place));
    const size = bounce.original.length;
    if (at + length > size) throw dmaErrors.OUTSIDE({ what: 'bounced buffer', at, length, size });
    const inside = { pfn: bounce.place.pfn, offset: bounce.place.offset + at };
    const original = { pfn: bounce.original.pfn, offset: bounce.original.offset + at };
    const [from, to] = toDevice ? [original, inside] : [inside, original];
    copyPhysical(this.#memory, from, { ...to, length });
    return true;
  }

  #around(dma: bigint): Bounce | undefined {
    const exact = this.#bounces.get(dma);
    if (exact !== undefined) return exact;
    if (dma < frameAddress(this.#first) || dma > this.last) return undefined;
    for (const [start, bounce] of this.#bounces) {
      if (start <= dma && dma < start + BigInt(bounce.original.length)) return bounce;
    }
    return undefined;
  }

  #place(slot: number, offset: number): PhysicalPlace {
    const bytes = slot * SLOT_SIZE + offset;
    return { pfn: asPfn(this.#first + Math.floor(bytes / PAGE_SIZE)), offset: bytes % PAGE_SIZE };
  }

  /** Low 32 bits of a slot's address. */
  #low(slot: number): number {
    return (((this.#first % 2 ** 20) * PAGE_SIZE + slot * SLOT_SIZE) % WORD) >>> 0;
  }

  /** From where the last search ended, once around. */
  #find(request: SlotRequest): number | undefined {
    let slot = this.#next;
    for (let checked = 0; checked < this.slots; ) {
      const low = this.#low(slot);
      const aligned = (low & request.alignMask) === 0 && (low & request.keepMask) === request.keep;
      if (aligned && this.#fits(slot, request)) return slot;
      const step = aligned ? request.stride : 1;
      checked += step;
      slot = slot + step >= this.slots ? 0 : slot + step;
    }
    return undefined;
  }

  #fits(slot: number, { slots, boundarySlots }: SlotRequest): boolean {
    const inBoundary = (this.#low(0) / SLOT_SIZE + slot) % boundarySlots;
    if (inBoundary + slots > boundarySlots || (slot % SEGMENT_SLOTS) + slots > SEGMENT_SLOTS) return false;
    for (let index = slot; index < slot + slots; index += 1) if (this.#taken[index] === 1) return false;
    return true;
  }
}

function slotRequest(device: DmaDevice, { pfn, offset, length }: MemoryPiece, slots: number): SlotRequest {
  const pageAligned = device.minAlign === 0 && length >= PAGE_SIZE;
  const alignMask = pageAligned ? PAGE_SIZE - 1 : SLOT_SIZE - 1;
  const keepMask = device.minAlign & ~alignMask;
  const low = Number(physicalAddress({ pfn: asPfn(pfn), offset }) % BigInt(WORD));
  const boundarySlots = device.boundarySize / SLOT_SIZE;
  return {
    slots,
    alignMask,
    keepMask,
    keep: low & keepMask,
    stride: Math.ceil((Math.max(alignMask, keepMask) + 1) / SLOT_SIZE),
    boundarySlots: Math.max(1, Math.ceil(boundarySlots)),
  };
}
