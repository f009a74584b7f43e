import {
  type BackendGroup,
  type BackendStats,
  INFO_FLAG,
  type InfoResult,
  type IommuBackend,
  type MapRequest,
  type Task,
  type UnmapRequest,
  type UnmapResult,
} from '@pinion/core';
import { tceErrors } from './errors.js';
import { attachGroup, detachGroup } from './groups.js';
import { DEFAULT_PAGE_SHIFT } from './hardware.js';
import { info } from './info.js';
import { ioctl, runUnmap } from './ioctl.js';
import { unregisterAll } from './memory.js';
import { TCE_IOCTL } from './requests.js';
import type { TceState } from './state.js';
import { firstTables, freeWindow } from './windows.js';

const FULL_INFO = 32;

/**
 * One container's sPAPR TCE, v1 or v2. It cannot pin for drivers, so it serves passthrough groups alone. A container belongs to the
 * address space that used it first: any other caller gets TCE_NOT_OWNER (EPERM). Source: tce_iommu_driver_ops.
 */
export class SpaprTceBackend implements IommuBackend {
  readonly #state: TceState;

  constructor(state: TceState) {
    this.#state = state;
  }

  get stats(): BackendStats {
    let mappings = 0;
    let mappedBytes = 0n;
    for (const window of this.#state.windows) {
      mappings += window?.present ?? 0;
      mappedBytes += window === undefined ? 0n : BigInt(window.present) * window.pageSize;
    }
    return { mappings, mappedBytes, pinnedPages: 0, lockedPages: this.#state.lockedPages };
  }

  attachGroup(group: BackendGroup): void {
    attachGroup(this.#state, group);
  }

  detachGroup(group: BackendGroup): void {
    detachGroup(this.#state, group);
  }

  /** Groups, windows, memory, charges, owner: in this order. Works after the owner's last process is gone. */
  release(): void {
    for (const { group } of [...this.#state.groups]) detachGroup(this.#state, group);
    for (const window of this.#state.windows) if (window !== undefined) freeWindow(this.#state, window);
    unregisterAll(this.#state);
    this.#state.disable();
    this.#state.dropOwner();
  }

  /** Replaces whatever the range was mapped to. @throws as `ioctl`; TCE_UNALIGNED (EINVAL) also where the kernel answers +1. */
  map(request: MapRequest, caller: Task): void {
    const answer = this.ioctl(TCE_IOCTL.MAP_DMA, request, caller);
    if (answer !== 0) throw this.#unaligned('map', request.iova);
  }

  /** Any part of what was mapped. @returns the bytes that led somewhere before. */
  async unmap(request: UnmapRequest, caller: Task): Promise<UnmapResult> {
    this.#state.checkOwner('unmap', caller);
    const { aligned, bytes } = runUnmap({ state: this.#state, argument: request, caller });
    if (!aligned) throw this.#unaligned('unmap', request.iova);
    return { size: bytes };
  }

  /** The page sizes windows can have; the struct of its own is `ioctl(GET_INFO)`. */
  info(argsz: number = FULL_INFO, caller?: Task): InfoResult {
    if (caller !== undefined) this.#state.checkOwner('info', caller);
    info(this.#state, argsz);
    const { pageSizes } = firstTables(this.#state, 'info');
    const pgsizes = this.#state.v2 ? pageSizes : 1n << BigInt(DEFAULT_PAGE_SHIFT);
    return { argsz: FULL_INFO, flags: INFO_FLAG.PGSIZES, pgsizes, capabilities: [] };
  }

  ioctl(number: number, argument: unknown, caller: Task): unknown {
    return ioctl(this.#state, number, argument, caller);
  }

  #unaligned(operation: string, iova: bigint): unknown {
    const pageSize = this.#state.windowAt(iova)?.pageSize ?? 1n << BigInt(DEFAULT_PAGE_SHIFT);
    return tceErrors.UNALIGNED({ operation, what: 'iova', value: iova, pageSize });
  }
}
