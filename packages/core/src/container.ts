import type {
  BackendStats,
  DirtyRequest,
  InfoResult,
  IommuBackend,
  IommuBackendDriver,
  MapRequest,
  UnmapRequest,
  UnmapResult,
} from './backend.js';
import type { Device } from './device.js';
import { coreErrors } from './errors.js';
import { MAP_FLAG, PROT_READ, PROT_WRITE, type Prot, UNMAP_FLAG, VFIO_API_VERSION } from './flags.js';
import type { Group } from './group.js';
import type { Task } from './memory.js';
import type { Runtime } from './runtime.js';
import type { FrameRange, IovaFrame } from './units.js';

/** A mapping as people write it: bytes, and rights instead of flag bits. */
export interface DmaMapping {
  readonly iova: bigint;
  readonly size: bigint;
  readonly vaddr: bigint;
  readonly prot: Prot;
}

/** Counters for printouts and tests. */
export interface ContainerStats extends BackendStats {
  /** Distinct pages per device that holds any, in order of its group. */
  readonly pinsByDevice: ReadonlyMap<string, number>;
}

const NO_STATS: BackendStats = { mappings: 0, mappedBytes: 0n, pinnedPages: 0, lockedPages: 0 };

/**
 * One IOVA space shared by groups, with the backend that says what mapping means in it. Methods are the container's
 * ioctls; `caller` is who asks (default: the opener) and matters for limits, capabilities and whose memory is meant.
 *
 * Closing the container drops only the opener's reference: mappings and pins live until the last group leaves.
 * Source: struct vfio_container.
 */
export class Container {
  readonly name: string;
  readonly opener: Task;
  readonly #runtime: Runtime;
  readonly #drivers: () => readonly IommuBackendDriver[];
  /** Newest first, as the kernel's list. */
  readonly #groups: Group[] = [];
  #driver: IommuBackendDriver | undefined;
  #backend: IommuBackend | undefined;
  #closed = false;

  constructor(runtime: Runtime, about: { name: string; opener: Task; drivers: () => readonly IommuBackendDriver[] }) {
    this.#runtime = runtime;
    this.name = about.name;
    this.opener = about.opener;
    this.#drivers = about.drivers;
    runtime.publish('container:opened', { container: this.name });
  }

  get groups(): readonly Group[] {
    return this.#groups;
  }

  get backend(): IommuBackend | undefined {
    return this.#backend;
  }

  get backendName(): string {
    return this.#driver?.name ?? 'none';
  }

  get closed(): boolean {
    return this.#closed;
  }

  get stats(): ContainerStats {
    const pinsByDevice = new Map<string, number>();
    for (const device of this.#devices()) if (device.pins.pages > 0) pinsByDevice.set(device.name, device.pins.pages);
    return { ...(this.#backend?.stats ?? NO_STATS), pinsByDevice };
  }

  apiVersion(): number {
    this.checkOpen();
    return VFIO_API_VERSION;
  }

  /** VFIO_CHECK_EXTENSION: 0 for everything unknown, never an error. Without a backend the first positive answer counts. */
  checkExtension(extension: number): number {
    this.checkOpen();
    if (this.#driver !== undefined) return this.#driver.checkExtension(extension, this.#backend);
    for (const driver of this.#candidates()) {
      const answer = driver.checkExtension(extension);
      if (answer > 0) return answer;
    }
    return 0;
  }

  /**
   * VFIO_SET_IOMMU: the newest registered backend that takes the type and every group wins.
   * @throws CORE_NO_GROUP, CORE_IOMMU_SET (EINVAL), CORE_NO_BACKEND (ENODEV), or the last backend's own error.
   */
  setIommu(type: number, caller: Task = this.opener): void {
    this.checkOpen();
    if (this.#groups.length === 0) throw coreErrors.NO_GROUP({ container: this.name });
    if (this.#driver !== undefined) throw coreErrors.IOMMU_SET({ container: this.name, backend: this.#driver.name });
    let failure: unknown = coreErrors.NO_BACKEND({
      container: this.name,
      type,
      backends: this.#drivers().map((d) => d.name),
    });
    for (const driver of this.#candidates()) {
      if (driver.checkExtension(type) <= 0) continue;
      try {
        this.#backend = this.#openBackend(driver, type, caller);
        this.#driver = driver;
        this.#runtime.publish('iommu:set', { container: this.name, backend: driver.name, type });
        return;
      } catch (cause) {
        failure = cause;
      }
    }
    throw failure;
  }

  /** VFIO_IOMMU_MAP_DMA, as the ioctl. @throws CORE_FILE_CLOSED (EBADF), CORE_REENTRY (EBUSY), CORE_NO_IOMMU (EINVAL), the backend's. */
  map(request: MapRequest, caller: Task = this.opener): void {
    this.checkOpen();
    this.#runtime.guard.refuseInside('map', ['dmaUnmap']);
    this.requireBackend('map').map(request, caller);
  }

  /** Maps, by rights. */
  mapDma(mapping: DmaMapping, caller: Task = this.opener): void {
    const { iova, size, vaddr, prot } = mapping;
    const flags = (prot & PROT_READ ? MAP_FLAG.READ : 0) | (prot & PROT_WRITE ? MAP_FLAG.WRITE : 0);
    this.map({ flags, iova, size, vaddr }, caller);
  }

  /**
   * VFIO_IOMMU_UNMAP_DMA, as the ioctl. Waits for the drivers' `dmaUnmap` duties.
   * @throws CORE_FILE_CLOSED (EBADF), CORE_REENTRY (EBUSY), CORE_NO_IOMMU (EINVAL), CORE_CALLBACK_FAILED (EIO),
   * CORE_CALLBACK_TIMEOUT (ETIMEDOUT), the backend's.
   */
  async unmap(request: UnmapRequest, caller: Task = this.opener): Promise<UnmapResult> {
    this.checkOpen();
    this.#runtime.guard.refuseInside('unmap', ['dmaUnmap']);
    return this.requireBackend('unmap').unmap(request, caller);
  }

  /** Unmaps whatever lies wholly inside the range (bytes). @returns the bytes that are gone. */
  async unmapDma(range: { readonly iova: bigint; readonly size: bigint }, caller?: Task): Promise<UnmapResult> {
    return this.unmap({ flags: 0, ...range }, caller);
  }

  /** VFIO_DMA_UNMAP_FLAG_ALL. */
  async unmapAll(caller?: Task): Promise<UnmapResult> {
    return this.unmap({ flags: UNMAP_FLAG.ALL, iova: 0n, size: 0n }, caller);
  }

  /** VFIO_IOMMU_GET_INFO. @throws CORE_FILE_CLOSED (EBADF), CORE_NO_IOMMU (EINVAL), the backend's. */
  info(argsz?: number, caller: Task = this.opener): InfoResult {
    this.checkOpen();
    return this.requireBackend('info').info(argsz, caller);
  }

  /**
   * An ioctl that only the container's backend knows, as the backend answers it (`IommuBackend.ioctl`).
   * @throws CORE_FILE_CLOSED (EBADF), CORE_REENTRY (EBUSY), CORE_NO_IOMMU (EINVAL), CORE_NOT_SUPPORTED (ENOTTY), the backend's.
   */
  ioctl(number: number, argument?: unknown, caller: Task = this.opener): unknown {
    this.checkOpen();
    this.#runtime.guard.refuseInside(`ioctl ${number}`, ['dmaUnmap']);
    const backend = this.requireBackend(`ioctl ${number}`);
    if (backend.ioctl === undefined) throw this.#notSupported(`ioctl ${number}`);
    return backend.ioctl(number, argument, caller);
  }

  /** VFIO_IOMMU_DIRTY_PAGES. @throws CORE_FILE_CLOSED (EBADF), CORE_NO_IOMMU (EINVAL), CORE_NOT_SUPPORTED (ENOTTY), the backend's. */
  dirty(request: DirtyRequest): void {
    this.checkOpen();
    const backend = this.requireBackend('dirty pages');
    if (backend.dirty === undefined) throw this.#notSupported('dirty pages');
    backend.dirty(request);
  }

  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean, caller?: Task): void {
    if (this.#backend?.dmaRw === undefined) throw this.#notSupported('dma_rw');
    this.#backend.dmaRw(iova, bytes, write, caller);
  }

  /** Drops the opener's reference. Everything else stays as long as a group is there. @throws CORE_FILE_CLOSED (EBADF). */
  close(): void {
    this.checkOpen();
    this.#closed = true;
    this.#announceReleased();
  }

  checkOpen(): void {
    if (this.#closed) throw coreErrors.FILE_CLOSED({ file: `container ${this.name}` });
  }

  requireBackend(operation: string): IommuBackend {
    if (this.#backend === undefined) throw coreErrors.NO_IOMMU({ container: this.name, operation });
    return this.#backend;
  }

  /** Groups with and without an IOMMU do not mix. */
  checkMix(group: Group): void {
    const other = this.#groups[0];
    if (other === undefined || (other.type === 'noiommu') === (group.type === 'noiommu')) return;
    throw coreErrors.GROUP_MIX({ group: group.name, container: this.name });
  }

  addGroup(group: Group, caller: Task): void {
    this.#backend?.attachGroup(group, caller);
    this.#groups.unshift(group);
  }

  removeGroup(group: Group): void {
    this.#backend?.detachGroup(group);
    const index = this.#groups.indexOf(group);
    if (index >= 0) this.#groups.splice(index, 1);
    if (this.#groups.length > 0) return;
    const backend = this.#backend;
    this.#backend = undefined;
    this.#driver = undefined;
    backend?.release();
  }

  announceAttached(group: Group): void {
    this.#runtime.publish('group:attached', { container: this.name, group: group.name });
  }

  announceDetached(group: Group): void {
    this.#runtime.publish('group:detached', { container: this.name, group: group.name });
    this.#announceReleased();
  }

  /** A device other than `asker` that holds `frame`. */
  holderOf(frame: IovaFrame, asker: Device): string | undefined {
    for (const device of this.#devices()) if (device !== asker && device.pins.count(frame) > 0) return device.name;
    return undefined;
  }

  *#devices(): Iterable<Device> {
    for (const group of this.#groups) yield* group.devices;
  }

  #announceReleased(): void {
    if (this.#closed && this.#groups.length === 0)
      this.#runtime.publish('container:released', { container: this.name });
  }

  /** Backends this container may use, newest registration first: with and without IOMMU do not mix. */
  #candidates(): readonly IommuBackendDriver[] {
    const noiommu = this.#groups[0]?.type === 'noiommu';
    const fits = (driver: IommuBackendDriver): boolean =>
      this.#groups.length === 0 || (driver.noiommu === true) === noiommu;
    return this.#drivers().filter(fits).reverse();
  }

  #openBackend(driver: IommuBackendDriver, type: number, caller: Task): IommuBackend {
    const backend = driver.open(type, this.#host(), caller);
    const attached: Group[] = [];
    try {
      for (const group of this.#groups) {
        backend.attachGroup(group, caller);
        attached.unshift(group);
      }
    } catch (cause) {
      for (const group of attached) backend.detachGroup(group);
      backend.release();
      throw cause;
    }
    return backend;
  }

  #host(): Parameters<IommuBackendDriver['open']>[1] {
    const container = this.name;
    return {
      container,
      memory: this.#runtime.memory,
      warn: (name, message) => this.#runtime.publish('backend:warned', { container, name, message }),
      mapped: (range, prot) => this.#runtime.publish('dma:mapped', { container, range, prot }),
      unmapped: (range) => this.#unmapped(range),
    };
  }

  #unmapped(range: FrameRange): void {
    for (const device of this.#devices()) device.forgetPins(range);
    this.#runtime.publish('dma:unmapped', { container: this.name, range });
  }

  #notSupported(operation: string): unknown {
    return coreErrors.NOT_SUPPORTED({ container: this.name, operation, backend: this.backendName });
  }
}
