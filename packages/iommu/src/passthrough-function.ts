import {
  asIovaFrame,
  asPfn,
  type DmaApi,
  frameAddress,
  type HostMemory,
  iovaFrame,
  LAST_FRAME,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  pageOffset,
} from '@pinion/core';
import type { SoftwareDomain } from './domain.js';
import { iommuErrors } from './errors.js';
import type { FaultLog, FaultReason } from './fault-log.js';
import { Iotlb } from './iotlb.js';
import { leafFrame, leafProt } from './page-table.js';

/** A frame that no address has. */
const ADDRESS_ERROR = Number.POSITIVE_INFINITY;
/** Up to here a loop is faster than making a view of the page. */
const SHORT = 16;

/** What a function sees of the place where it is plugged in. */
export interface FunctionSlot {
  readonly group: number;
  readonly memory: HostMemory;
  readonly faults: FaultLog;
  /** The domain that the function's group sits behind right now. */
  readonly domain: () => SoftwareDomain | undefined;
}

/** An access, or one page's share of it. */
interface Piece {
  readonly frame: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly write: boolean;
}

/**
 * A PCI function as the IOMMU knows it: a source of DMA. Every access goes through the domain of its group, page by page,
 * and nowhere else. Device models (a disk, a network card) are built on `read` and `write`.
 */
export class PassthroughFunction implements DmaApi {
  readonly name: string;
  readonly #slot: FunctionSlot;
  readonly #iotlb = new Iotlb();
  #busMaster = true;
  #present = true;

  constructor(name: string, slot: FunctionSlot) {
    this.name = name;
    this.#slot = slot;
  }

  /** Id of the group it belongs to. */
  get group(): number {
    return this.#slot.group;
  }

  /** The Bus Master Enable bit of the command register. On after creation. Source: PCI 3.0, 6.2.2. */
  get busMaster(): boolean {
    return this.#busMaster;
  }
  set busMaster(on: boolean) {
    this.#busMaster = on;
  }

  /** False once the function was taken out of its group. */
  get present(): boolean {
    return this.#present;
  }

  /** Translations answered by the IOTLB and by walking the tables. */
  get iotlb(): { readonly hits: number; readonly misses: number } {
    return this.#iotlb;
  }

  /**
   * Fills `bytes` from memory at `iova` (bytes). What was read before a fault stays read.
   * @throws IOMMU_FAULT (EFAULT), recorded in the fault log; IOMMU_BUS_MASTER_OFF (EIO); IOMMU_BAD_ADDRESS (EINVAL).
   */
  read(iova: bigint, bytes: Uint8Array): void {
    this.#access(iova, bytes, false);
  }

  /** Writes `bytes` to memory at `iova` (bytes). What was written before a fault stays written. @throws as `read`. */
  write(iova: bigint, bytes: Uint8Array): void {
    this.#access(iova, bytes, true);
  }

  /** The function is gone: it sits behind nothing from now on. For its group only. */
  unplug(): void {
    this.#present = false;
    this.#busMaster = false;
  }

  #access(iova: bigint, bytes: Uint8Array, write: boolean): void {
    if (!this.#busMaster) throw iommuErrors.BUS_MASTER_OFF({ device: this.name });
    const frame = iova < 0n ? ADDRESS_ERROR : iovaFrame(iova);
    const offset = pageOffset(iova);
    if (frame + Math.ceil((offset + bytes.length) / PAGE_SIZE) - 1 > LAST_FRAME) {
      throw iommuErrors.BAD_ADDRESS({ device: this.name, iova, length: bytes.length });
    }
    if (bytes.length <= PAGE_SIZE - offset) {
      if (bytes.length > 0) this.#copy({ frame, offset, bytes, write });
    } else this.#copyPages({ frame, offset, bytes, write });
  }

  #copyPages({ frame, offset, bytes, write }: Piece): void {
    let done = 0;
    for (let page = frame, from = offset; done < bytes.length; page += 1, from = 0) {
      const end = Math.min(done + PAGE_SIZE - from, bytes.length);
      this.#copy({ frame: page, offset: from, bytes: bytes.subarray(done, end), write });
      done = end;
    }
  }

  #copy(piece: Piece): void {
    const domain = this.#present ? this.#slot.domain() : undefined;
    if (domain === undefined) throw this.#fault(piece, 'no-domain');
    const frame = asIovaFrame(piece.frame);
    if (frame > domain.aperture.last) throw this.#fault(piece, 'beyond-width');
    const leaf = this.#iotlb.translate(domain, frame);
    if (leaf === 0) throw this.#fault(piece, 'unmapped');
    const prot = leafProt(leaf);
    if (piece.write && (prot & PROT_WRITE) === 0) throw this.#fault(piece, 'read-only');
    if (!piece.write && (prot & PROT_READ) === 0) throw this.#fault(piece, 'write-only');
    move(piece, this.#page(piece, leafFrame(leaf)));
  }

  /** The live bytes of one host page. */
  #page(piece: Piece, pfn: number): Uint8Array {
    try {
      return this.#slot.memory.bytes(asPfn(pfn), 1);
    } catch (cause) {
      throw this.#fault(piece, 'unreachable', cause);
    }
  }

  /** Records a fault. @returns the error to throw. */
  #fault(piece: Piece, reason: FaultReason, cause?: unknown): Error {
    const iova = frameAddress(piece.frame) + BigInt(piece.offset);
    const access = piece.write ? 'write' : 'read';
    this.#slot.faults.record({ device: this.name, group: this.group, iova, access, reason });
    return iommuErrors.FAULT({ device: this.name, iova, access, reason }, cause);
  }
}

/** Copies between the device's bytes and one page of memory. */
function move({ bytes, offset, write }: Piece, page: Uint8Array): void {
  if (write) page.set(bytes, offset);
  else if (bytes.length > SHORT) bytes.set(page.subarray(offset, offset + bytes.length));
  else for (let index = 0; index < bytes.length; index += 1) bytes[index] = page[offset + index] ?? 0;
}
