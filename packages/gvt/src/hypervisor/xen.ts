import type { BackendFactory } from './backend.js';
import type { AskedPage } from './held-pages.js';
import { HoldingBackend } from './holding.js';

/**
 * Xen's way: a guest page is translated when it is first asked for and noted in a log for dirty tracking, whose counts only grow; unmap
 * does nothing; everything goes when the vGPU closes. There is no pin by DMA address, so no display buffer outlives its table entry.
 *
 * Two things differ from xengt, on purpose: a page that is noted is also held, because here the guest's memory is not the
 * hypervisor's; and a frame that has no memory is an error, never a DMA address of all ones. Source: xengt.c.
 */
export class XenBackend extends HoldingBackend {
  readonly kind = 'xen';

  /** Every page that the device may have written since it was opened, and how often it was asked for. */
  dirtyLog(): Iterable<AskedPage> {
    return this.held.asked();
  }
}

export const xenBackend: BackendFactory = (parts) => new XenBackend(parts);
