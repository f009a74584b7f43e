import {
  asIovaFrame,
  asPfn,
  type FrameRange,
  type Gfn,
  hex,
  type IrqSink,
  type Pfn,
  PinionError,
  PROT_RW,
} from '@pinion/core';
import { gvtErrors } from '../errors.js';
import { IRQ } from '../regs.js';
import type {
  BackendParts,
  BackendUsage,
  GuestWriteHandler,
  HypervisorBackend,
  HypervisorCapabilities,
  Leftover,
  WriteTraps,
} from './backend.js';
import type { MapOwner } from './owner.js';
import { PageTracks } from './page-tracks.js';

/**
 * What backends have in common: a handle between `attach` and `detach`, the interrupt's listener, guest memory through the container,
 * and write traps where there are any. A backend of your own extends it and says how guest pages are held.
 */
export abstract class GuestBackend implements HypervisorBackend {
  abstract readonly kind: string;
  onGuestWrite: GuestWriteHandler | undefined;
  protected readonly parts: BackendParts;
  readonly #tracks = new PageTracks();
  readonly #frame = new Float64Array(1);
  #sink: IrqSink | undefined;
  #traps: WriteTraps | undefined;
  #attached = false;
  #capabilities: HypervisorCapabilities | undefined;

  constructor(parts: BackendParts) {
    this.parts = parts;
  }

  abstract get usage(): BackendUsage;
  abstract releaseAll(): readonly Leftover[];
  abstract releaseRange(range: FrameRange): number;
  abstract dmaMapGuestPage(gfn: Gfn, size: number, owner?: MapOwner): Pfn;
  abstract dmaUnmapGuestPage(dma: Pfn, gfn?: Gfn): void;
  /** What this kind of backend can do, write traps aside. */
  protected abstract readonly abilities: Omit<HypervisorCapabilities, 'pageTrack'>;

  get capabilities(): HypervisorCapabilities {
    this.#capabilities ??= Object.freeze({ ...this.abilities, pageTrack: this.#traps !== undefined });
    return this.#capabilities;
  }

  /** Whether there is a handle. */
  protected get attached(): boolean {
    return this.#attached;
  }

  attach(): void {
    this.#attached = true;
  }

  detach(): readonly Leftover[] {
    this.#tracks.clear();
    const left = this.releaseAll();
    this.#attached = false;
    return left;
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** Address and data are the guest's; the listener was told the vector, so both are ignored, as in KVM. A listener that throws is reported. */
  injectMsi(_address: number, _data: number): void {
    this.checkHandle('send an interrupt to');
    try {
      this.#sink?.(IRQ.MSI, 0);
    } catch (cause) {
      this.parts.log.warn(`vGPU ${this.parts.device}: the listener of its MSI threw`, cause);
    }
  }

  bytes(dma: Pfn): Uint8Array {
    return this.parts.pins.bytes(dma, 1);
  }

  /** Pins the page for a moment: a container has no other way to translate. */
  gfnToPfn(gfn: Gfn): Pfn | undefined {
    const { pins } = this.parts;
    const frame = asIovaFrame(gfn);
    try {
      pins.pinInto(frame, 1, PROT_RW, this.#frame);
    } catch (cause) {
      if (cause instanceof PinionError) return undefined;
      throw cause;
    }
    pins.unpin(frame, 1);
    return asPfn(this.#frame[0] ?? 0);
  }

  readGuest(gpa: bigint, into: Uint8Array): void {
    this.checkHandle('read memory of');
    this.parts.dma.read(gpa, into);
  }

  writeGuest(gpa: bigint, from: Uint8Array): void {
    this.checkHandle('write memory of');
    this.parts.dma.write(gpa, from);
  }

  enablePageTrack(gfn: Gfn): void {
    this.checkHandle('track a page of');
    if (this.#traps === undefined) throw gvtErrors.NO_PAGE_TRACK({ device: this.parts.device, gfn });
    this.#tracks.enable(this.#traps, gfn, (gpa, bytes) => this.#hear(gpa, bytes));
  }

  disablePageTrack(gfn: Gfn): void {
    this.#tracks.disable(gfn);
  }

  setWriteTraps(traps: WriteTraps | undefined): void {
    this.#tracks.clear();
    this.#traps = traps;
    this.#capabilities = undefined;
  }

  /** The guest's write is done whatever the core makes of it. */
  #hear(gpa: bigint, bytes: Uint8Array): void {
    try {
      this.onGuestWrite?.(gpa, bytes);
    } catch (cause) {
      this.parts.log.warn(`vGPU ${this.parts.device}: a guest's write at ${hex(gpa)} was not understood`, cause);
    }
  }

  /** @throws GVT_NO_GUEST (ESRCH). */
  protected checkHandle(what: string): void {
    if (!this.#attached) throw gvtErrors.NO_GUEST({ device: this.parts.device, what });
  }

  /** @throws GVT_NOT_OPEN (EINVAL): what a map without a handle is. */
  protected checkOpen(): void {
    if (!this.#attached) throw gvtErrors.NOT_OPEN({ device: this.parts.device });
  }
}
