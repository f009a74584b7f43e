import { type HostMemory, PAGE_SIZE, type Pfn } from '@pinion/core';
import { dmaErrors } from './errors.js';

/** Memory that CPU and device see alike all the time: a DMA address and the pages behind it. */
export interface CoherentBuffer {
  readonly dma: bigint;
  /** Bytes, as requested. */
  readonly size: number;
  /** Page i of the buffer; behind an IOMMU they lie anywhere. */
  readonly pfns: readonly Pfn[];
}

/**
 * The CPU's side of a coherent buffer: fills `bytes` from offset `at`, or writes them there.
 * @throws DMA_OUTSIDE (EINVAL) for bytes that are not the buffer's.
 */
export function coherentBytes(
  memory: HostMemory,
  buffer: CoherentBuffer,
  access: { readonly at: number; readonly bytes: Uint8Array; readonly write: boolean },
): void {
  const { at, bytes, write } = access;
  if (!Number.isSafeInteger(at) || at < 0 || at + bytes.length > buffer.size) {
    throw dmaErrors.OUTSIDE({ what: 'coherent buffer', at, length: bytes.length, size: buffer.size });
  }
  for (let done = 0; done < bytes.length; ) {
    const from = (at + done) % PAGE_SIZE;
    const length = Math.min(PAGE_SIZE - from, bytes.length - done);
    const pfn = buffer.pfns[Math.floor((at + done) / PAGE_SIZE)];
    if (pfn === undefined) throw new RangeError('a coherent buffer has a page for each of its bytes');
    const page = memory.bytes(pfn, 1).subarray(from, from + length);
    if (write) page.set(bytes.subarray(done, done + length));
    else bytes.set(page, done);
    done += length;
  }
}
