import {
  ADDRESS_SPACE_SIZE,
  frameAddress,
  iovaFrame,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  pageOffset,
  type Task,
} from '@pinion/core';
import { markDirty } from './dirty.js';
import { type1Errors } from './errors.js';
import type { Mapping } from './mapping.js';
import type { Type1State } from './state.js';

/** One copy. `caller` undefined: a driver's own worker, which may use the memory of whoever mapped. */
export interface Copy {
  readonly iova: bigint;
  readonly bytes: Uint8Array;
  readonly write: boolean;
  readonly caller: Task | undefined;
}

/**
 * Copies between a driver and the user's memory, mapping by mapping, without a pin. Works with type1 (v1) too. Reading must
 * be allowed even for a write. Not atomic: what came before a hole stays done.
 * @throws TYPE1_VADDR_INVALID (EBUSY), TYPE1_NOT_MAPPED (EINVAL), TYPE1_PROT, TYPE1_RW_OWNER_GONE (EPERM), TYPE1_RW_NOT_MAPPER,
 * TYPE1_RW_FAULT (EFAULT). Source: vfio_iommu_type1_dma_rw().
 */
export function dmaRw(state: Type1State, copy: Copy): void {
  if (state.invalidVaddrs > 0) {
    state.host.warn('vaddr-invalid', 'a driver copies while mappings have no vaddr');
    throw type1Errors.VADDR_INVALID({ operation: 'dma_rw', count: state.invalidVaddrs });
  }
  for (let done = 0; done < copy.bytes.length; ) done += copyPiece(state, copy, done);
}

/** Copies up to the end of one mapping. @returns bytes done. */
function copyPiece(state: Type1State, copy: Copy, done: number): number {
  const iova = done === 0 ? copy.iova : copy.iova + BigInt(done);
  const frame = iova < 0n || iova >= ADDRESS_SPACE_SIZE ? undefined : iovaFrame(iova);
  const mapping = frame === undefined ? undefined : state.mappings.find(frame);
  if (frame === undefined || mapping === undefined) throw type1Errors.NOT_MAPPED({ operation: 'dma_rw', iova });
  checkAccess(mapping, iova, copy);
  const page = frame - mapping.first;
  const inPage = pageOffset(iova);
  const length = Math.min((mapping.pages - page) * PAGE_SIZE - inPage, copy.bytes.length - done);
  const vaddr = frameAddress(mapping.vaddr + page) + BigInt(inPage);
  const bytes = length === copy.bytes.length ? copy.bytes : copy.bytes.subarray(done, done + length);
  const copied = mapping.mm.copy(vaddr, bytes, copy.write);
  // why: nobody says how far a copy came that failed, so all of its pages may have been written
  if (copy.write && (copied || !state.quirks.has('failed-copy-is-clean'))) {
    markDirty(state, mapping, page, page + Math.floor((inPage + length - 1) / PAGE_SIZE));
  }
  if (!copied) throw type1Errors.RW_FAULT({ iova, length });
  return length;
}

function checkAccess(mapping: Mapping, iova: bigint, copy: Copy): void {
  const wanted = copy.write ? PROT_READ | PROT_WRITE : PROT_READ;
  if ((mapping.prot & wanted) !== wanted) {
    throw type1Errors.PROT({ operation: 'dma_rw', iova, wanted, granted: mapping.prot });
  }
  if (!mapping.mm.alive) throw type1Errors.RW_OWNER_GONE({ iova, mm: mapping.mm.name });
  if (copy.caller === undefined || copy.caller.mm === mapping.mm) return;
  throw type1Errors.RW_NOT_MAPPER({ iova, task: copy.caller.name });
}
