import type { Prot } from './flags.js';
import type { IommuDomain, IommuGroup } from './iommu-domain.js';
import type { HostMemory, Task } from './memory.js';
import type { FrameRange, IovaFrame } from './units.js';

/** `iommu`: a passthrough group behind an IOMMU; `emulated`: a mediated device's own group; `noiommu`: unprotected. */
export type GroupType = 'iommu' | 'emulated' | 'noiommu';

/** A group as a backend sees it. */
export interface BackendGroup {
  readonly id: number;
  readonly name: string;
  readonly type: GroupType;
  /** Present exactly when `type` is `iommu`. */
  readonly iommu?: IommuGroup;
}

/** An open device that may pin, as a backend sees it. Core has wrapped the driver's callback with its guards. */
export interface BackendDevice {
  readonly name: string;
  readonly driver: string;
  readonly group: BackendGroup;
  /** Set when the driver has the duty to give pins back; only such devices are registered for callbacks. */
  readonly hasDmaUnmap: boolean;
  /**
   * Runs the driver's `dmaUnmap` duty for a whole mapping. Settles when the driver did; never hangs (a watchdog settles it).
   * @throws PinionError CORE_CALLBACK_FAILED, CORE_CALLBACK_TIMEOUT naming the driver.
   */
  dmaUnmap(range: FrameRange): Promise<void>;
  /** Frames of `range` that this device still holds pinned, ascending: what a leak report names. */
  pinnedFrames(range: FrameRange): readonly IovaFrame[];
}

/** struct vfio_iommu_type1_dma_map, addresses and size in bytes. */
export interface MapRequest {
  readonly argsz?: number;
  readonly flags: number;
  readonly vaddr: bigint;
  readonly iova: bigint;
  readonly size: bigint;
}

/** struct vfio_bitmap: `pgsize` and `size` in bytes; `data` is written in place, bit 0 of byte 0 is the first page. */
export interface DirtyBitmap {
  readonly pgsize: bigint;
  readonly size: bigint;
  readonly data: Uint8Array;
}

/** struct vfio_iommu_type1_dma_unmap, bytes. */
export interface UnmapRequest {
  readonly argsz?: number;
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
  readonly bitmap?: DirtyBitmap;
}

/** What an unmap did. Source: struct vfio_iommu_type1_dma_unmap, `size` on return. */
export interface UnmapResult {
  /** Bytes that are really gone. */
  readonly size: bigint;
}

/** struct vfio_iommu_type1_dirty_bitmap(_get), bytes. */
export interface DirtyRequest {
  readonly argsz?: number;
  readonly flags: number;
  readonly iova?: bigint;
  readonly size?: bigint;
  readonly bitmap?: DirtyBitmap;
}

/** VFIO_IOMMU_TYPE1_INFO_CAP_*; `ranges` holds closed byte ranges. */
export type InfoCapability =
  | { readonly id: 'migration'; readonly flags: number; readonly pgsizes: bigint; readonly maxBitmapSize: bigint }
  | { readonly id: 'dma-avail'; readonly available: number }
  | { readonly id: 'iova-range'; readonly ranges: readonly (readonly [start: bigint, end: bigint])[] };

/** struct vfio_iommu_type1_info. `argsz` is what the whole answer needs; capabilities are absent when it was more than asked. */
export interface InfoResult {
  readonly argsz: number;
  readonly flags: number;
  readonly pgsizes: bigint;
  readonly capabilities: readonly InfoCapability[];
}

/** What a backend finds when it looks around: given to `open`, kept by the backend. */
export interface BackendHost {
  /** For messages: the container this backend serves. */
  readonly container: string;
  readonly memory: HostMemory;
  /** Reports what a kernel would WARN about: the backend goes on. `name` is a row of the backend's list of warnings. */
  warn(name: string, message: string): void;
  /** Past-tense facts for observers; never throws. */
  mapped(range: FrameRange, prot: Prot): void;
  unmapped(range: FrameRange): void;
}

/** What happens to pins outside their owner's hands. Source: pins are per container in Linux; nobody owns them. */
export interface PinPolicy {
  /** Unpin of a page that another device pinned: `refused` (and reported) or `performed` (and reported), as Linux does. */
  readonly foreignUnpin: 'refused' | 'performed';
  /** Pins that a driver left when its device was closed: `released` (and reported) or `kept` (and reported), as Linux does. */
  readonly leftAtClose: 'released' | 'kept';
}

/**
 * The first plug point: what mapping, pinning and accounting mean. Source: struct vfio_iommu_driver_ops.
 *
 * Core calls a backend's methods one at a time. All are synchronous but those that wait for drivers (`unmap`) or for
 * a round of callbacks to end (`registerDevice`, `unregisterDevice`): while `unmap` waits, any other method may run, so a
 * backend re-reads what it knew afterwards. A method that throws has changed nothing, unless its text says so.
 * Optional methods are capabilities: a backend without `pinPages` cannot serve mediated devices (core answers ENOTTY).
 */
export interface IommuBackend {
  /** @throws PinionError of the kernel's errno; the container is then as before. Source: ops->attach_group. */
  attachGroup(group: BackendGroup, caller: Task): void;
  /** Never fails. Source: ops->detach_group. */
  detachGroup(group: BackendGroup): void;
  /** The last group left (or SET_IOMMU is undone): everything goes. Source: ops->release. */
  release(): void;
  /** VFIO_IOMMU_MAP_DMA. */
  map(request: MapRequest, caller: Task): void;
  /** VFIO_IOMMU_UNMAP_DMA. Waits for the drivers' `dmaUnmap`. */
  unmap(request: UnmapRequest, caller: Task): Promise<UnmapResult>;
  /** VFIO_IOMMU_GET_INFO. `argsz`: bytes the caller has room for; `caller` matters to backends that belong to one process. */
  info(argsz?: number, caller?: Task): InfoResult;
  /**
   * Everything else that a backend alone knows, by the number of its ioctl (`_IO(';', 100 + number)`). `argument` is the
   * struct as an object, undefined when the caller's pointer could not be read. Returns what the ioctl would, or the struct
   * that it would write back. @throws PinionError ENOTTY for a number that it does not know. Source: ops->ioctl.
   */
  ioctl?(number: number, argument: unknown, caller: Task): unknown;
  /** VFIO_IOMMU_DIRTY_PAGES. */
  dirty?(request: DirtyRequest): void;
  /** Tells the backend of an open device. Waits until no round of callbacks runs. Source: ops->register_device. */
  registerDevice?(device: BackendDevice): Promise<void>;
  unregisterDevice?(device: BackendDevice): Promise<void>;
  /**
   * Pins `count` pages from the page `first`; `offset` (0..4095) is where in the first page the caller pointed.
   * All or nothing. Writes the host frames to `out[0..count-1]`. Source: ops->pin_pages.
   */
  pinPages?(group: BackendGroup, first: IovaFrame, offset: number, count: number, prot: Prot, out: Float64Array): void;
  /** Drops one reference per page; never fails, what is wrong is warned about. Source: ops->unpin_pages. */
  unpinPages?(first: IovaFrame, offset: number, count: number): void;
  /**
   * Copies through the mappings without pinning. Not atomic: earlier pieces stay done. `caller` absent: a driver's own
   * worker, which may use the memory of whoever mapped. Source: ops->dma_rw.
   */
  dmaRw?(iova: bigint, bytes: Uint8Array, write: boolean, caller?: Task): void;
  /** The domain a group sits behind. Source: ops->group_iommu_domain. */
  groupDomain?(group: BackendGroup): IommuDomain;
  readonly pinPolicy?: PinPolicy;
  /** Counters for printouts and tests. */
  readonly stats: BackendStats;
}

/** Counters of one backend instance, for people and tests: mappings, bytes, pages. */
export interface BackendStats {
  readonly mappings: number;
  /** Bytes of all mappings. */
  readonly mappedBytes: bigint;
  /** Distinct pages that drivers hold pinned. */
  readonly pinnedPages: number;
  /** Pages this container has charged to its users' locked-page counters. */
  readonly lockedPages: number;
}

/** How a backend is found and opened. Source: struct vfio_iommu_driver_ops, open and the CHECK_EXTENSION ioctl. */
export interface IommuBackendDriver {
  readonly name: string;
  /** Serves groups without an IOMMU, and no others. */
  readonly noiommu?: boolean;
  /** VFIO_CHECK_EXTENSION; `backend` is absent while no container uses this driver. 0 for anything unknown. */
  checkExtension(extension: number, backend?: IommuBackend): number;
  /** @throws PinionError EINVAL for a type that is not its own, ENOMEM, EPERM. */
  open(type: number, host: BackendHost, caller: Task): IommuBackend;
}
