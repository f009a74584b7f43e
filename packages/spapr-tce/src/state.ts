import { type AddressSpace, type BackendGroup, type BackendHost, PROT_WRITE, type Task } from '@pinion/core';
import { credit, type Payer } from './accounting.js';
import { tceErrors } from './errors.js';
import type { FindTableGroup, TceTableGroup } from './hardware.js';
import type { Quirk } from './quirks.js';
import type { Region, RegionStore } from './regions.js';
import type { Target, Window } from './window.js';

/** A group of the container with its hardware. */
export interface AttachedGroup {
  readonly group: BackendGroup;
  readonly tables: TceTableGroup;
}

/** Everything one container's sPAPR TCE knows. The files beside this one work on it. Source: struct tce_container. */
export class TceState {
  readonly host: BackendHost;
  readonly v2: boolean;
  readonly quirks: ReadonlySet<Quirk>;
  readonly regions: RegionStore;
  readonly findTables: FindTableGroup;
  /** Newest first, as the kernel's list: the first one's hardware answers for all. */
  readonly groups: AttachedGroup[] = [];
  readonly windows: (Window | undefined)[] = [undefined, undefined];
  /** Memory that this container registered. */
  readonly registered: Region[] = [];
  /** Regions among them whose charge this container made. */
  readonly charged = new Set<Region>();
  /** v1: ENABLE was called. v2: memory was registered once. */
  enabled = false;
  /** Pages that ENABLE charged. */
  enabledPages = 0;
  /** The default window has not been asked for yet: the first use creates it. */
  defaultPending = false;
  #owner: AddressSpace | undefined;

  constructor(about: {
    host: BackendHost;
    v2: boolean;
    quirks: ReadonlySet<Quirk>;
    regions: RegionStore;
    findTables: FindTableGroup;
  }) {
    this.host = about.host;
    this.v2 = about.v2;
    this.quirks = about.quirks;
    this.regions = about.regions;
    this.findTables = about.findTables;
  }

  get version(): string {
    return this.v2 ? 'v2' : 'v1';
  }

  /** The address space that the container belongs to since its first use. Source: container->mm. */
  get owner(): AddressSpace | undefined {
    return this.#owner;
  }

  /** @throws TCE_NOT_OWNER (EPERM) for a caller with another address space than the owner's. */
  checkOwner(operation: string, caller: Task): void {
    if (this.#owner === undefined || this.#owner === caller.mm) return;
    throw tceErrors.NOT_OWNER({ operation, task: caller.name, owner: this.#owner.name });
  }

  /**
   * Runs a call that makes its caller's address space the owner if there is none; the address space is grabbed, so that charges
   * can be settled after its last process is gone (threads/2016-10). A call that fails leaves no owner, unless it left charges.
   * @throws TCE_TASK_GONE (ESRCH), and what the call throws.
   */
  asOwner<T>(operation: string, caller: Task, call: (payer: Payer) => T): T {
    const { mm } = caller;
    if (mm === null) throw tceErrors.TASK_GONE({ operation, task: caller.name });
    const fresh = this.#owner === undefined;
    if (fresh) {
      mm.grab();
      this.#owner = mm;
    }
    try {
      return call({ mm, task: caller });
    } catch (cause) {
      if (fresh && this.#charges === 0 && !this.quirks.has('refusal-takes-owner')) this.dropOwner();
      throw cause;
    }
  }

  dropOwner(): void {
    this.#owner?.drop();
    this.#owner = undefined;
  }

  /** Who pays for what an enabled container does. */
  payer(operation: string, caller: Task): Payer {
    if (this.#owner === undefined) throw tceErrors.NO_OWNER({ operation });
    return { mm: this.#owner, task: caller };
  }

  windowAt(iova: bigint): Window | undefined {
    return this.windows.find((window) => window?.contains(iova) === true);
  }

  /** An entry does not lead to `target` any more: gives back what it held. */
  letGo({ region, pfn, prot }: Target): void {
    if (region === undefined) this.host.memory.unpinPage(pfn, (prot & PROT_WRITE) !== 0);
    else this.regions.unuse(region);
  }

  /** Lets `count` entries from `first` on lead nowhere. @returns how many led somewhere. */
  clear(window: Window, first: number, count: number): number {
    const present = window.presentIn(first, count);
    for (const index of present) {
      const target = window.take(index);
      if (target !== undefined) this.letGo(target);
    }
    return present.length;
  }

  /** v1: takes back what ENABLE charged; the mappings stay. Does nothing when not enabled. */
  disable(): void {
    this.enabled = false;
    if (this.#owner !== undefined) credit(this.#owner, this.enabledPages);
    this.enabledPages = 0;
  }

  /** Pages charged for tables, memory and ENABLE. */
  get lockedPages(): number {
    let pages = this.enabledPages;
    for (const window of this.windows) pages += window?.chargedPages ?? 0;
    for (const region of this.charged) pages += region.pages;
    return pages;
  }

  get #charges(): number {
    return this.lockedPages + this.registered.length + this.windows.filter((window) => window !== undefined).length;
  }
}
