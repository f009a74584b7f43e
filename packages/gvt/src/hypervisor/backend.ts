import type { DmaApi, FrameRange, Gfn, IrqSink, Log, Pfn, PinApi } from '@pinion/core';
import type { Quirks } from '../quirks.js';
import type { MapOwner } from './owner.js';

/** What a backend can do. Constant between `attach` and `detach`; the core asks instead of knowing who it talks to. */
export interface HypervisorCapabilities {
  /**
   * Memory that was handed out stays held for as long as the guest has it: `dmaUnmapGuestPage` does nothing, references are not counted,
   * and nothing can be left over. The duty to give back a range that goes away stands all the same.
   */
  readonly pinned: boolean;
  /** `dmaPinGuestPage` is there: a display buffer can outlive its table entry. */
  readonly dmaPin: boolean;
  /** Guest writes to a tracked page reach `onGuestWrite`. Without it, tables are compared before each dispatch. */
  readonly pageTrack: boolean;
  /** `dmaMapGuestPage` takes 2 MiB. Without it, the core maps such a page as 512 small ones. */
  readonly largePages: boolean;
  /** `mapGfnToPfn` is there: the aperture and the OpRegion can stand in guest memory. Without it, the device shows them as regions. */
  readonly mapsAperture: boolean;
  /** `setTrapArea` is there: the hypervisor traps BAR0 itself. Without it, whoever serves the regions does. */
  readonly trapsArea: boolean;
}

/** A mapping that nobody had unmapped. `size` in bytes; `owner` took its latest reference. */
export interface Leftover {
  readonly gfn: Gfn;
  readonly size: number;
  readonly refs: number;
  readonly owner: MapOwner;
}

/** What a backend holds now. `pages`: host pages, one under two mappings counts twice. */
export interface BackendUsage {
  readonly mappings: number;
  readonly pages: number;
}

/** The guest has written `bytes` (1..8, within one page) at `gpa` (guest-physical, bytes) into a tracked page; they are in memory already. */
export type GuestWriteHandler = (gpa: bigint, bytes: Uint8Array) => void;

/** What can trap guest writes, in a hypervisor that has it. */
export interface WriteTraps {
  /**
   * Calls `onWrite` after every guest write into the page, in pieces of at most 8 bytes as a CPU stores them; what it throws is the
   * caller's fault and must not reach the guest. Copies by devices are not guest writes. @returns the undo; a second call does nothing.
   */
  watchWrites(gfn: Gfn, onWrite: GuestWriteHandler): () => void;
}

/**
 * What a vGPU core needs of the hypervisor below it: one backend per vGPU. The core knows nothing about who implements it: this is
 * the seam at which another hypervisor is plugged in. Source: struct intel_gvt_mpt (v5.13 shape).
 *
 * Contract of an implementation:
 * - the same frame and size gives the same DMA frame while references are held;
 * - an unmap drops a reference of exactly that DMA frame, or nothing;
 * - no DMA frame is handed out whose page is not held;
 * - whatever is left when the vGPU closes is released, however many references it has, and returned: map and unmap come
 *   from guest page-table writes and need not balance;
 * - memory that is held for good is a capability, `pinned`, never a secret.
 */
export interface HypervisorBackend {
  /** For messages. */
  readonly kind: string;
  readonly capabilities: HypervisorCapabilities;
  readonly usage: BackendUsage;

  /** The vGPU opened: from here on there is a handle. @throws PinionError when the guest's memory cannot be had; there is no handle then. */
  attach(): void;
  /** The vGPU closed, the core has dropped what it tracks: everything goes. @returns what nobody had unmapped; empty when `pinned`. */
  detach(): readonly Leftover[];
  /** The vGPU is reset: every mapping goes whatever its references, the handle stays. @returns as `detach`. */
  releaseAll(): readonly Leftover[];
  /**
   * A whole mapping of guest memory goes away: nothing with a page in `range` is held any more when this returns, whatever its references.
   * May come without a handle, more than once, and for ranges never touched. @returns mappings released.
   */
  releaseRange(range: FrameRange): number;
  /**
   * First frames of the mappings that begin before `range` and reach into it: `releaseRange` releases them as a whole, so whoever holds one
   * of these frames by a small reference of the same mapping loses it, too. Absent: there are none, pages are held one by one.
   */
  reachingInto?(range: FrameRange): readonly Gfn[];

  /** Who hears the vGPU's interrupt; undefined disconnects. */
  setIrqSink(sink: IrqSink | undefined): void;
  /** Sends the vGPU's message-signalled interrupt; without a listener it is lost. @throws GVT_NO_GUEST (ESRCH) without a handle. */
  injectMsi(address: number, data: number): void;

  /**
   * Takes one reference on a guest page. `size`: 4096 or 2097152 bytes, the latter only with `largePages`. `owner` is for the list of leftovers.
   * @throws PinionError when the page cannot be had; nothing is held then. GVT_NOT_OPEN (EINVAL) without a handle.
   */
  dmaMapGuestPage(gfn: Gfn, size: number, owner?: MapOwner): Pfn;
  /**
   * Drops one reference; an unknown DMA frame is ignored, and so is every one without a handle. Does nothing when `pinned`. `gfn` says which
   * mapping is meant where several guest frames are the same host page; without it, any of them.
   */
  dmaUnmapGuestPage(dma: Pfn, gfn?: Gfn): void;
  /** One more reference on an existing mapping, by its first DMA frame; `gfn` as above. Capability `dmaPin`. @throws GVT_NO_HANDLE (ENODEV), GVT_DMA_UNKNOWN (ENOMEM). */
  dmaPinGuestPage?(dma: Pfn, owner?: MapOwner, gfn?: Gfn): void;
  /** The live bytes of one page of a mapping, which must be held. 4096 bytes. Not to be kept beyond the mapping. */
  bytes(dma: Pfn): Uint8Array;

  /** Whether the guest has memory there. Absent: every frame is tried. */
  isValidGfn?(gfn: Gfn): boolean;
  /** The host frame of a guest page, without a reference: good for a look, not for keeping. Undefined: no memory there. */
  gfnToPfn(gfn: Gfn): Pfn | undefined;
  /** Copies guest memory out; `gpa` guest-physical, bytes. @throws GVT_NO_GUEST (ESRCH) without a handle, and what the memory refuses (EFAULT, EINVAL). */
  readGuest(gpa: bigint, into: Uint8Array): void;
  /** Copies into guest memory; what came before a hole stays written. @throws as `readGuest`. */
  writeGuest(gpa: bigint, from: Uint8Array): void;

  /** Who hears guest writes to tracked pages; set once by the core. What it throws is logged: the write has been done. */
  onGuestWrite: GuestWriteHandler | undefined;
  /** Reports every guest write to the page. A page that is tracked already stays so. Capability `pageTrack`. @throws GVT_NO_GUEST (ESRCH), GVT_NO_PAGE_TRACK (ENOTTY). */
  enablePageTrack(gfn: Gfn): void;
  /** The counterpart; a page that is not tracked, or a backend without a handle, is left alone. */
  disablePageTrack(gfn: Gfn): void;
  /** Where guest writes can be trapped, before `attach`; undefined: nowhere. Absent: this backend never learns of them, or knows without being told. */
  setWriteTraps?(traps: WriteTraps | undefined): void;

  /** Where the guest's RAM is, told before `attach` by whoever owns it. Absent: this backend finds out, or does not care. */
  setGuestMemory?(memory: readonly FrameRange<Gfn>[]): void;

  /** Puts host frames into guest memory (aperture, OpRegion) or takes them out. Capability `mapsAperture`. */
  mapGfnToPfn?(request: { gfn: Gfn; pfn: Pfn; count: number; map: boolean }): void;
  /** Traps guest access to the bytes `first`..`last` of guest-physical memory (BAR0), or ends that. Capability `trapsArea`. */
  setTrapArea?(request: { first: bigint; last: bigint; trap: boolean }): void;
  /** Shows the OpRegion to the guest. Absent: the device shows it as a region. */
  setOpregion?(bytes: Uint8Array): void;
  /** Shows a port's EDID to the guest. Absent: the device shows it as a region. */
  setEdid?(port: number, bytes: Uint8Array): void;
  /** Keeps the device alive while an exported buffer lives. @returns the undo. Absent: nothing is needed. */
  holdDevice?(): () => void;
}

/** What a backend is made from: one vGPU's way to its guest. */
export interface BackendParts {
  /** Name of the vGPU. */
  readonly device: string;
  readonly pins: PinApi;
  readonly dma: DmaApi;
  readonly log: Log;
  readonly quirks: Quirks;
}

/** Makes the backend of one vGPU, when the vGPU is created. This is what plugs a hypervisor in. */
export type BackendFactory = (parts: BackendParts) => HypervisorBackend;
