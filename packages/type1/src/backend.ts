import {
  type BackendDevice,
  type BackendGroup,
  type BackendStats,
  type DirtyRequest,
  EXTENSION,
  type InfoResult,
  type IommuBackend,
  type IommuDomain,
  type IovaFrame,
  type MapRequest,
  type PinPolicy,
  type Prot,
  pagesToBytes,
  type Task,
  type UnmapRequest,
  type UnmapResult,
} from '@pinion/core';
import { dirtyPages } from './dirty.js';
import { dmaRw } from './dma-rw.js';
import { type1Errors } from './errors.js';
import { attachGroup, detachGroup } from './groups.js';
import { info } from './info.js';
import { map } from './map.js';
import { pinPages, unpinPages } from './pin.js';
import { removeAllMappings } from './remove.js';
import type { Type1State } from './state.js';
import { CallbackRounds, unmap } from './unmap.js';

/** One container's type1: every method is the kernel's operation of that name. Source: vfio_iommu_driver_ops_type1. */
export class Type1Backend implements IommuBackend {
  readonly pinPolicy: PinPolicy;
  readonly #state: Type1State;
  readonly #rounds: CallbackRounds;

  constructor(state: Type1State) {
    this.#state = state;
    this.#rounds = new CallbackRounds(state.devices);
    this.pinPolicy = {
      foreignUnpin: state.quirks.has('pins-without-owner') ? 'performed' : 'refused',
      leftAtClose: state.quirks.has('close-keeps-pins') ? 'kept' : 'released',
    };
  }

  get stats(): BackendStats {
    return {
      mappings: this.#state.mappings.size,
      mappedBytes: pagesToBytes(this.#state.mappings.pages),
      pinnedPages: this.#state.pinnedPages,
      lockedPages: this.#state.locked.total,
    };
  }

  attachGroup(group: BackendGroup, caller: Task): void {
    attachGroup(this.#state, group, caller);
  }

  detachGroup(group: BackendGroup): void {
    detachGroup(this.#state, group);
  }

  release(): void {
    for (const group of [...this.#state.emulated]) detachGroup(this.#state, group);
    for (const slot of [...this.#state.domains]) for (const group of [...slot.groups]) detachGroup(this.#state, group);
    removeAllMappings(this.#state);
  }

  map(request: MapRequest, caller: Task): void {
    map(this.#state, request, caller);
  }

  unmap(request: UnmapRequest): Promise<UnmapResult> {
    return unmap(this.#state, request, this.#rounds);
  }

  info(argsz: number = Number.MAX_SAFE_INTEGER): InfoResult {
    return info(this.#state, argsz);
  }

  dirty(request: DirtyRequest): void {
    dirtyPages(this.#state, request);
  }

  registerDevice(device: BackendDevice): Promise<void> {
    return this.#rounds.register(device);
  }

  unregisterDevice(device: BackendDevice): Promise<void> {
    return this.#rounds.unregister(device);
  }

  pinPages(group: BackendGroup, first: IovaFrame, offset: number, count: number, prot: Prot, out: Float64Array): void {
    pinPages(this.#state, { group, first, offset, count, prot }, out);
  }

  unpinPages(first: IovaFrame, offset: number, count: number): void {
    unpinPages(this.#state, first, offset, count);
  }

  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean, caller?: Task): void {
    dmaRw(this.#state, { iova, bytes, write, caller });
  }

  groupDomain(group: BackendGroup): IommuDomain {
    const slot = this.#state.domains.find((candidate) => candidate.groups.includes(group));
    if (slot === undefined) throw type1Errors.NOT_ATTACHED({ group: group.name });
    return slot.domain;
  }

  /** VFIO_CHECK_EXTENSION for this container. */
  checkExtension(extension: number): number {
    if (extension === EXTENSION.UPDATE_VADDR) return this.#state.emulated.length === 0 ? 1 : 0;
    // Vacuously true without domains, as in the kernel.
    if (extension === EXTENSION.DMA_CC_IOMMU) return this.#state.domains.every((slot) => slot.domain.coherent) ? 1 : 0;
    return 0;
  }
}
