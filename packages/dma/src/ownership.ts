import { type HostMemory, PAGE_SIZE } from '@pinion/core';
import { DIRECTION, type Direction } from './direction.js';
import { dmaErrors } from './errors.js';
import { eachPage, physicalAddress } from './memory.js';
import type { MemoryPiece } from './sg.js';

/** Whose turn it is. */
export type Owner = 'device' | 'cpu';

interface Held {
  readonly device: string;
  readonly pieces: readonly MemoryPiece[];
  readonly direction: Direction;
  owner: Owner;
}

/**
 * Who may touch mapped memory right now. The device owns it from map to unmap, but for the time between a sync for the CPU and one
 * for the device. A driver that goes through `read` and `write` here cannot break that rule; raw views of memory can.
 */
export class Ownership {
  readonly #held = new Map<bigint, Held>();
  /** First addresses of the mappings that touch a frame. */
  readonly #frames = new Map<number, Set<bigint>>();

  /** Mappings that are known. */
  get size(): number {
    return this.#held.size;
  }

  /** Books a mapping that begins at `dma`. */
  take(
    device: string,
    mapping: { readonly dma: bigint; readonly pieces: readonly MemoryPiece[]; readonly direction: Direction },
  ): void {
    const { dma, pieces, direction } = mapping;
    this.#held.set(dma, { device, pieces, direction, owner: 'device' });
    for (const frame of framesOf(pieces)) {
      const known = this.#frames.get(frame) ?? new Set();
      this.#frames.set(frame, known.add(dma));
    }
  }

  /** The mapping that began at `dma` is gone. */
  release(dma: bigint): void {
    for (const frame of framesOf(this.#held.get(dma)?.pieces ?? [])) {
      const known = this.#frames.get(frame);
      known?.delete(dma);
      if (known?.size === 0) this.#frames.delete(frame);
    }
    this.#held.delete(dma);
  }

  /** Changes the owner of the mapping that begins at `dma`; a sync of a part of it that begins elsewhere changes nothing. */
  hand(dma: bigint, owner: Owner): void {
    const held = this.#held.get(dma);
    if (held !== undefined) held.owner = owner;
  }

  /** Reads mapped or unmapped memory as the CPU. What the device only reads may be read any time. @throws DMA_NOT_OWNER (EBUSY). */
  read(memory: HostMemory, piece: MemoryPiece): Uint8Array {
    this.#check(piece, 'read', (held) => held.direction !== DIRECTION.TO_DEVICE);
    const bytes = new Uint8Array(piece.length);
    eachPage(memory, piece, (part, done) => bytes.set(part, done));
    return bytes;
  }

  /** Writes memory as the CPU. @throws DMA_NOT_OWNER (EBUSY). */
  write(memory: HostMemory, piece: MemoryPiece, bytes: Uint8Array): void {
    this.#check(piece, 'write', () => true);
    eachPage(memory, piece, (part, done) => part.set(bytes.subarray(done, done + part.length)));
  }

  #check(piece: MemoryPiece, access: string, forbids: (held: Held) => boolean): void {
    for (const frame of framesOf([piece])) {
      for (const dma of this.#frames.get(frame) ?? []) {
        const held = this.#held.get(dma);
        if (held === undefined || held.owner === 'cpu' || !forbids(held)) continue;
        if (!held.pieces.some((other) => overlap(piece, other))) continue;
        const address = physicalAddress(piece);
        throw dmaErrors.NOT_OWNER({ device: held.device, address, length: piece.length, access });
      }
    }
  }
}

function* framesOf(pieces: readonly MemoryPiece[]): Generator<number> {
  for (const { pfn, offset, length } of pieces) {
    const last = pfn + Math.floor((offset + length - 1) / PAGE_SIZE);
    for (let frame = pfn + Math.floor(offset / PAGE_SIZE); frame <= last; frame += 1) yield frame;
  }
}

function overlap(a: MemoryPiece, b: MemoryPiece): boolean {
  const [from, to] = [physicalAddress(a), physicalAddress(b)];
  return from < to + BigInt(b.length) && to < from + BigInt(a.length);
}
