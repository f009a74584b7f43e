import { PAGE_SIZE } from '@pinion/core';
import { DIRECTION, type Dma } from '@pinion/dma';
import type { GemAddressSpace } from './address-space.js';
import type { Backing, BackingPages } from './backing.js';
import { gemErrors } from './errors.js';
import type { GemQuirk } from './quirks.js';
import type { MappingStrategy } from './strategies.js';

/** What user space says about its need. `purged`: the contents are gone for good. */
export type Madvise = 'willneed' | 'dontneed' | 'purged';

/** What the GPU still does with an object. Source: struct dma_fence. */
export interface Fence {
  readonly signalled: boolean;
  /** Returns when it is signalled. */
  wait(): void;
}

/** What an object works with. */
export interface ObjectParts {
  readonly name: string;
  readonly backing: Backing;
  readonly dma: Dma;
  readonly strategy: MappingStrategy;
  readonly quirks: ReadonlySet<GemQuirk>;
  /** Told when the object was used, and when it is gone. */
  readonly used: (object: GemObject) => void;
  readonly gone: (object: GemObject) => void;
}

/** An object's place in an address space. */
interface Vma {
  readonly first: number;
  pins: number;
}

/** Everything about an object's life at one moment. Invariants: reference D.2. */
export interface ObjectState {
  readonly pages: 'none' | 'present';
  readonly pagesPins: number;
  /** Segments the device sees; 0: not mapped. */
  readonly dmaSegments: number;
  /** Maps minus unmaps of this object: 0 or 1 unless something leaks. */
  readonly mapBalance: number;
  readonly bindCount: number;
  readonly madvise: Madvise;
  readonly active: boolean;
}

/** A GEM object: memory that may have pages, be mapped for DMA and be bound in several address spaces. */
export class GemObject {
  readonly name: string;
  /** Scanned out right now: never shrunk. */
  framebuffer = false;
  /** What the GPU does with it. */
  fence: Fence | undefined;
  readonly #parts: ObjectParts;
  readonly #vmas = new Map<GemAddressSpace, Vma>();
  #pages: BackingPages | undefined;
  #pagesPins = 0;
  #mapped = false;
  #maps = 0;
  #unmaps = 0;
  #mapCalls = 0;
  #dirty = false;
  #madvise: Madvise = 'willneed';
  #locked = false;
  #freed = false;

  constructor(parts: ObjectParts) {
    this.name = parts.name;
    this.#parts = parts;
  }

  get backing(): Backing {
    return this.#parts.backing;
  }
  get pageCount(): number {
    return this.#parts.backing.pages;
  }
  /** Shmem and userptr: what the strategies are about, and what can be shrunk. */
  get shrinkable(): boolean {
    const { kind } = this.#parts.backing;
    return kind === 'shmem' || kind === 'userptr';
  }
  /** Pages of IOVA that a shrink would give back. */
  get mappedPages(): number {
    return this.#mapped ? this.pageCount : 0;
  }
  /** How often the list was mapped in this object's life. */
  get mapCalls(): number {
    return this.#mapCalls;
  }
  /** The spaces it is bound in. */
  get spaces(): readonly GemAddressSpace[] {
    return [...this.#vmas.keys()];
  }
  get state(): ObjectState {
    return {
      pages: this.#pages === undefined ? 'none' : 'present',
      pagesPins: this.#pagesPins,
      dmaSegments: this.#mapped || this.#pages?.hasDmaMapping ? (this.#pages?.list.segments.length ?? 0) : 0,
      mapBalance: this.#maps - this.#unmaps,
      bindCount: this.#vmas.size,
      madvise: this.#madvise,
      active: this.active,
    };
  }
  get active(): boolean {
    return this.fence !== undefined && !this.fence.signalled;
  }

  /**
   * Makes the pages present and pins them. All or nothing.
   * @throws GEM_PURGED (EFAULT) unless needed, GEM_AGAIN (EAGAIN), GEM_NO_MEMORY (ENOMEM), GEM_NO_SPACE (ENOSPC), GEM_FREED,
   * GEM_LOCKED (EDEADLK).
   */
  pinPages(): void {
    this.#withLock('pinPages', () => this.#pin());
  }

  /** Takes one pin of `pinPages` back, never a bind's; the pages stay until `putPages` or the shrinker. @throws GEM_NOT_PINNED (EINVAL). */
  unpinPages(): void {
    this.#withLock('unpinPages', () => {
      if (this.#pagesPins <= this.#vmas.size) throw gemErrors.NOT_PINNED({ object: this.name });
      this.#pagesPins -= 1;
    });
  }

  /** Gives the pages up, contents kept. @throws GEM_PAGES_PINNED (EBUSY). */
  putPages(): void {
    this.#withLock('putPages', () => this.#put());
  }

  /**
   * Binds the object in a space, once; a second bind returns the same place. Unwinds fully on failure.
   * @returns its first page there. @throws as `pinPages`, GEM_SPACE_FULL (ENOSPC).
   */
  bind(space: GemAddressSpace): number {
    return this.#withLock('bind', () => this.#vmas.get(space)?.first ?? this.#bind(space));
  }

  /** @throws GEM_NOT_BOUND (ENOENT), GEM_STILL_BOUND (EBUSY) while the place is pinned. */
  unbind(space: GemAddressSpace): void {
    this.#withLock('unbind', () => this.#unbind(space));
  }

  /** Keeps an object where it is bound. @throws GEM_NOT_BOUND (ENOENT). */
  pinVma(space: GemAddressSpace): void {
    this.#vma(space).pins += 1;
  }
  /** @throws GEM_NOT_BOUND (ENOENT), GEM_NOT_PINNED (EINVAL). */
  unpinVma(space: GemAddressSpace): void {
    const vma = this.#vma(space);
    if (vma.pins === 0) throw gemErrors.NOT_PINNED({ object: this.name });
    vma.pins -= 1;
  }

  /** The GPU wrote to it, or may have. */
  markDirty(): void {
    this.#dirty = true;
  }

  /** Says whether the contents are needed. @returns whether they are still there. Source: I915_GEM_MADVISE. */
  madvise(advice: 'willneed' | 'dontneed'): boolean {
    if (this.#madvise !== 'purged') this.#madvise = advice;
    if (this.#madvise === 'dontneed' && this.#pages === undefined) this.#purge();
    return this.#madvise !== 'purged';
  }

  /** Unbinds it everywhere and drops everything. @throws GEM_STILL_BOUND, GEM_PAGES_PINNED (EBUSY): nothing was changed. */
  free(): void {
    this.#withLock('free', () => {
      this.#checkRemovable();
      for (const space of this.spaces) this.#unbind(space);
      this.#put();
      this.#parts.backing.truncate();
      this.#freed = true;
    });
    this.#parts.gone(this);
  }

  /** The memory behind a user pointer changes: pages, mapping and binds go, the object stays. @throws as `free`. */
  invalidate(): void {
    this.#withLock('invalidate', () => {
      this.#checkRemovable();
      for (const space of this.spaces) this.#unbind(space);
      this.#put();
    });
  }

  /**
   * For the shrinker: gives back what can be given back without waiting for a lock. Skipped: who is locked, scanned out,
   * pinned, or active unless `wait`. @returns pages of IOVA that came back.
   */
  shrink(wait: boolean): number {
    if (this.#locked || this.framebuffer || !this.shrinkable || this.#heldElsewhere()) return 0;
    if (this.active && !wait) return 0;
    if (this.active) this.fence?.wait();
    const before = this.mappedPages;
    return this.#withLock('shrink', () => {
      for (const space of this.spaces) this.#unbind(space);
      this.#put();
      if (this.#madvise === 'dontneed') this.#purge();
      return before - this.mappedPages;
    });
  }

  #purge(): void {
    this.#parts.backing.truncate();
    this.#madvise = 'purged';
  }

  /** Pinned by somebody else than its own binds. */
  #heldElsewhere(): boolean {
    return this.#pagesPins > this.#vmas.size || [...this.#vmas.values()].some(({ pins }) => pins > 0);
  }

  #checkRemovable(): void {
    const pinned = [...this.#vmas].filter(([, { pins }]) => pins > 0).map(([space]) => space.name);
    if (pinned.length > 0) throw gemErrors.STILL_BOUND({ object: this.name, spaces: pinned.join(', ') });
    const pins = this.#pagesPins - this.#vmas.size;
    if (pins > 0) throw gemErrors.PAGES_PINNED({ object: this.name, pins });
  }

  #vma(space: GemAddressSpace): Vma {
    const vma = this.#vmas.get(space);
    if (vma === undefined) throw gemErrors.NOT_BOUND({ object: this.name, space: space.name });
    return vma;
  }

  #pin(): BackingPages {
    const pages = this.#pages ?? this.#get();
    this.#pagesPins += 1;
    this.#parts.used(this);
    return pages;
  }

  #get(): BackingPages {
    if (this.#madvise !== 'willneed') throw gemErrors.PURGED({ object: this.name, madvise: this.#madvise });
    return this.#present(this.#acquire(this.#parts.dma.device.maxSegment));
  }

  #acquire(maxSegment: number): BackingPages {
    const arrived = (pages: BackingPages): void => {
      this.#withLock('arrived', () => {
        if (this.#parts.quirks.has('userptr-skips-prepare')) this.#pages = pages;
        else this.#present(pages);
      });
    };
    return this.#parts.backing.acquire({ object: this.name, maxSegment, arrived });
  }

  /** Pages are there; maps them now if that is the strategy. */
  #present(pages: BackingPages): BackingPages {
    this.#pages = pages;
    if (!this.#parts.strategy.withPages || pages.hasDmaMapping) return pages;
    try {
      this.#map();
    } catch (failure) {
      const kept = this.#pages;
      this.#pages = undefined;
      if (this.shrinkable && this.backing.kind === 'shmem') this.#parts.backing.release(kept, false);
      throw failure;
    }
    return this.#pages;
  }

  #put(): void {
    if (this.#pagesPins > 0) throw gemErrors.PAGES_PINNED({ object: this.name, pins: this.#pagesPins });
    const pages = this.#pages;
    if (pages === undefined) return;
    if (this.#mapped) this.#unmap();
    this.#pages = undefined;
    this.#parts.backing.release(pages, this.#dirty);
    this.#dirty = false;
  }

  #bind(space: GemAddressSpace): number {
    this.#pin();
    const first = space.reserve(this.pageCount);
    try {
      if (first === undefined) {
        throw gemErrors.SPACE_FULL({ object: this.name, space: space.name, pages: this.pageCount });
      }
      this.#mapForBind();
    } catch (failure) {
      if (first !== undefined) space.release(first);
      this.#pagesPins -= 1;
      throw failure;
    }
    this.#vmas.set(space, { first, pins: 0 });
    space.insert(first, this.#addresses());
    return first;
  }

  #unbind(space: GemAddressSpace): void {
    const vma = this.#vma(space);
    if (vma.pins > 0) throw gemErrors.STILL_BOUND({ object: this.name, spaces: space.name });
    space.release(vma.first);
    this.#vmas.delete(space);
    if (this.#vmas.size === 0 && this.#mapped && !this.#parts.strategy.withPages) this.#unmap();
    this.#pagesPins -= 1;
  }

  #mapForBind(): void {
    const { atBind } = this.#parts.strategy;
    if (atBind === 'never' || this.#pages?.hasDmaMapping) return;
    if (atBind === 'every' || !this.#mapped) this.#map();
  }

  /** Maps the list; if there is no room for long segments, once more with entries of one page. */
  #map(): void {
    if (this.#tryMap()) return;
    if (this.backing.kind === 'shmem' && this.#splitList() && this.#tryMap()) return;
    const reason = this.#parts.dma.lastFailure?.message ?? 'the mapping failed';
    const leaks = this.#parts.quirks.has('enospc-leaks');
    throw this.backing.kind === 'shmem' && !leaks
      ? gemErrors.NO_MEMORY({ object: this.name, reason })
      : gemErrors.NO_SPACE({ object: this.name, reason });
  }

  /** @returns false: the entries are pages already. */
  #splitList(): boolean {
    if (this.#parts.dma.device.maxSegment <= PAGE_SIZE || this.#mapped) return false;
    this.#pages = this.#acquire(PAGE_SIZE);
    return true;
  }

  #tryMap(): boolean {
    const { dma, strategy } = this.#parts;
    const list = this.#pages?.list;
    if (list === undefined) return false;
    if (dma.mapSg(list, DIRECTION.BIDIRECTIONAL, { attributes: strategy.attributes }) === 0) return false;
    this.#maps += 1;
    this.#mapCalls += 1;
    this.#mapped = true;
    return true;
  }

  #unmap(): void {
    const list = this.#pages?.list;
    if (list === undefined) return;
    const wrong = this.#parts.quirks.has('unmap-mapped-nents');
    const nents = wrong ? list.segments.length : list.origNents;
    const attributes = this.#parts.strategy.attributes;
    this.#parts.dma.unmapSg(list, DIRECTION.BIDIRECTIONAL, { nents, attributes });
    list.segments = [];
    this.#unmaps += 1;
    this.#mapped = false;
  }

  /** The device address of every page. With nothing mapped: none, and the GPU faults. */
  *#addresses(): Generator<bigint> {
    for (const { dma, length } of this.#pages?.list.segments ?? []) {
      for (let at = 0; at < length; at += PAGE_SIZE) yield dma + BigInt(at);
    }
  }

  #withLock<T>(operation: string, action: () => T): T {
    if (this.#freed) throw gemErrors.FREED({ object: this.name });
    if (this.#locked) throw gemErrors.LOCKED({ object: this.name, operation });
    this.#locked = true;
    try {
      return action();
    } finally {
      this.#locked = false;
    }
  }
}
