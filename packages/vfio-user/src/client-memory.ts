import {
  type AddressSpace,
  frameAddress,
  type Pfn,
  pageOffset,
  type Task,
  type VaddrFrame,
  vaddrFrame,
} from '@pinion/core';
import { SysError } from '@pinion/sys';
import type { ClientPages, Piece } from './client-pages.js';
import { vfioUserErrors } from './errors.js';

/**
 * The address space of one VM as a server has it: the memory of its DMA mappings. Locked pages are counted here.
 * A page's virtual address is its frame's number: every mapping has frames of its own.
 */
export class ClientMemory implements AddressSpace {
  readonly name: string;
  readonly #pages: ClientPages;
  readonly #own = new Set<Piece>();
  #alive = true;
  #grabs = 0;
  #locked = 0;

  constructor(name: string, pages: ClientPages) {
    this.name = name;
    this.#pages = pages;
  }

  get alive(): boolean {
    return this.#alive;
  }

  get lockedPages(): number {
    return this.#locked;
  }

  /** References of containers to this address space: 0 once every mapping is gone. */
  get grabs(): number {
    return this.#grabs;
  }

  /** A new piece of this address space. @returns it; `vaddrOf` says where it begins. */
  add(pages: number, memory: Piece['memory']): Piece {
    const piece = this.#pages.add(pages, memory);
    this.#own.add(piece);
    return piece;
  }

  remove(piece: Piece): void {
    this.#own.delete(piece);
    this.#pages.remove(piece);
  }

  /** The VM is gone: everything of it goes. */
  exit(): void {
    this.#alive = false;
    for (const piece of [...this.#own]) this.remove(piece);
    this.#pages.letGo();
  }

  grab(): void {
    this.#grabs += 1;
  }

  drop(): void {
    this.#grabs -= 1;
  }

  accountLocked(delta: number): void {
    this.#locked += delta;
  }

  pinPage(page: VaddrFrame, write: boolean): Pfn {
    const pfn = this.#pieceAt(page) === undefined ? undefined : this.#pages.reference(page, write);
    if (pfn === undefined) throw vfioUserErrors.NO_SHARED_MEMORY({ address: frameAddress(page) });
    return pfn;
  }

  copy(vaddr: bigint, bytes: Uint8Array, write: boolean): boolean {
    const frame = vaddrFrame(vaddr);
    const piece = this.#pieceAt(frame);
    const offset = piece === undefined ? 0 : Number(frameAddress(frame - piece.first)) + pageOffset(vaddr);
    if (piece?.memory === undefined || offset + bytes.length > piece.memory.length) return false;
    try {
      if (write) piece.memory.write(offset, bytes);
      else piece.memory.read(offset, bytes);
      return true;
    } catch (cause) {
      if (cause instanceof SysError) return false; // why: a file that its owner cut short is memory that cannot be reached
      throw cause;
    }
  }

  #pieceAt(frame: number): Piece | undefined {
    const piece = this.#pages.find(frame);
    return piece !== undefined && this.#own.has(piece) ? piece : undefined;
  }
}

/** Where a piece begins in its address space: bytes. */
export const vaddrOf = (piece: Piece): bigint => frameAddress(piece.first);

/** The process that a VM's mappings count for. */
export interface ClientTask extends Task {
  readonly mm: ClientMemory;
}

/** Limits of a VM; RLIMIT_MEMLOCK in pages. */
export interface ClientLimits {
  readonly lockLimit?: number;
  readonly ipcLock?: boolean;
}

export const clientTask = (name: string, pages: ClientPages, limits: ClientLimits = {}): ClientTask => ({
  name,
  mm: new ClientMemory(name, pages),
  lockLimit: limits.lockLimit ?? Number.POSITIVE_INFINITY,
  ipcLock: limits.ipcLock ?? false,
  rawIo: false,
});
