import {
  ADDRESS_SPACE_SIZE,
  type Clock,
  type Container,
  PAGE_SHIFT,
  PROT_RW,
  pageOffset,
  UNMAP_FLAG,
} from '@pinion/core';
import { type Fd, FileBook, type MemoryWindow, openFile } from '@pinion/sys';
import { type ClientTask, vaddrOf } from './client-memory.js';
import { DMA_MAP_FLAG } from './commands.js';
import { bitmapOf, bitmapSize, checkPageSize, DirtyLog } from './dirty-log.js';
import type { DmaEntry, Owner } from './dma-entry.js';
import { vfioUserErrors } from './errors.js';
import type { Bitmap, DmaMap } from './structs.js';

/** The most bytes one mapping may have: an offset inside it must be an exact number. */
const MAX_SIZE = 1n << 47n;

/** Milliseconds that a map waits for other connections to let go of its range: far below the 5000 that QEMU waits for a reply. */
const PATIENCE = 1000;

/**
 * The DMA mappings of one VM, in one container: what DMA_MAP and DMA_UNMAP mean. The container's backend decides about
 * overlaps, limits and pins; this keeps the memory behind each mapping and who asked for it.
 *
 * Connections of one VM may share it. Then a mapping that another connection made already - same place, same memory - gets a
 * second owner, and lives until its last owner unmaps it or is gone. A VMM that cuts its memory up anew tells each of its connections
 * by itself, so one may ask for the new pieces while another has still to give up the old: see `yielded`.
 */
export class DmaSpace {
  readonly container: Container;
  readonly task: ClientTask;
  /** Which pages devices wrote. */
  readonly dirty: DirtyLog;
  readonly #entries = new Map<bigint, DmaEntry>();
  /** Unmaps that wait for devices: nothing else is decided about their ranges until they are through. */
  readonly #leaving = new Set<DmaEntry>();
  /** How many mappings each connection has. */
  readonly #holders = new Map<Owner, number>();
  /** Maps that wait: each looks again when a mapping has gone. */
  readonly #waiting = new Set<() => void>();
  /** What clients gave descriptors of. */
  readonly #files = new FileBook();
  /** Ascending by address; made anew when the entries changed. */
  #sorted: readonly DmaEntry[] | undefined;
  /** Of all mappings together. */
  #bytes = 0n;

  constructor(container: Container, task: ClientTask) {
    this.container = container;
    this.task = task;
    this.dirty = new DirtyLog(
      container,
      () => this.#entries.values(),
      () => this.#bytes,
    );
  }

  get entries(): readonly DmaEntry[] {
    return [...this.#entries.values()];
  }

  /**
   * What to wait for before `map`: that no mapping which other connections alone have is in the way, unless it is the same one.
   * Settles after a second at most; what is in the way then is for `map` to refuse. @returns undefined if nothing is to wait for.
   */
  yielded(owner: Owner, request: DmaMap, about: { fd: Fd | undefined; clock: Clock }): Promise<void> | undefined {
    if (!this.#others(owner)) return undefined;
    const file = about.fd === undefined ? undefined : identityOf(about.fd);
    const blocked = (): boolean => this.#blocked(owner, request, file);
    if (!blocked()) return undefined;
    return new Promise((resolve) => {
      const finish = (): void => {
        this.#waiting.delete(look);
        cancel();
        resolve();
      };
      const look = (): void => {
        if (!blocked()) finish();
      };
      const cancel = about.clock.after(PATIENCE, finish);
      this.#waiting.add(look);
    });
  }

  /** Whether another connection has any mapping. Most spaces have one connection, whose maps cost nothing here. */
  #others(owner: Owner): boolean {
    for (const other of this.#holders.keys()) if (other !== owner) return true;
    return false;
  }

  #hold(owner: Owner, change: 1 | -1): void {
    const count = (this.#holders.get(owner) ?? 0) + change;
    if (count > 0) this.#holders.set(owner, count);
    else this.#holders.delete(owner);
  }

  /** What the connection itself has mapped there makes waiting useless. */
  #blocked(owner: Owner, request: DmaMap, file: string | undefined): boolean {
    const overlapping = this.#ascending().filter((entry) => overlaps(entry, request));
    if (overlapping.some((entry) => entry.owners.has(owner) && !this.#leaving.has(entry))) return false;
    return overlapping.some((entry) => this.#leaving.has(entry) || !isSame(entry, request, file));
  }

  /**
   * DMA_MAP. `fd` stays the caller's. All or nothing.
   * @throws VFIOUSER_BAD_MAP (EINVAL), VFIOUSER_MAP_EXISTS (EEXIST), VFIOUSER_BAD_FEATURE (EINVAL: more than a log of dirty pages
   * takes), the errors of `openMemory`, and what the backend throws.
   */
  map(owner: Owner, request: DmaMap, fd: Fd | undefined): void {
    checkRange(request, fd !== undefined);
    const { address, size, offset, flags } = request;
    const prot = flags & PROT_RW;
    const there = this.#entries.get(address);
    if (there !== undefined) {
      const file = fd === undefined ? undefined : identityOf(fd);
      const foreign = !there.owners.has(owner);
      if (!foreign || this.#leaving.has(there) || !isSame(there, request, file))
        throw vfioUserErrors.MAP_EXISTS({ address, size, foreign });
      there.owners.add(owner);
      this.#hold(owner, 1);
      return;
    }
    this.dirty.checkRoom(size);
    const { memory, file } = fd === undefined ? NO_FILE : this.#open(request, fd);
    const piece = this.task.mm.add(Number(size >> BigInt(PAGE_SHIFT)), memory);
    try {
      this.container.mapDma({ iova: address, size, vaddr: vaddrOf(piece), prot }, this.task);
    } catch (cause) {
      this.task.mm.remove(piece);
      if (this.#others(owner) && this.#blocked(owner, request, file)) {
        throw vfioUserErrors.MAP_EXISTS({ address, size, foreign: true }, cause);
      }
      throw cause;
    }
    this.#entries.set(address, { address, size, prot, flags, offset, file, piece, owners: new Set([owner]) });
    this.#hold(owner, 1);
    this.#bytes += size;
    this.#sorted = undefined;
  }

  /**
   * DMA_UNMAP. Settles when no device has a page of the mapping any more.
   * @throws VFIOUSER_NOT_MAPPED (ENOENT) unless it is exactly a mapping of this owner; what devices and the backend throw: the mapping stays.
   */
  async unmap(owner: Owner, address: bigint, size: bigint): Promise<void> {
    await this.#release(this.#owned(owner, address, size), owner);
  }

  /**
   * The same, and which of its pages were written since the last report.
   * @returns `bitmap.size` bytes. @throws as `unmap`, and VFIOUSER_BAD_FEATURE (EINVAL): no log, or the bitmap is too small; nothing has happened then.
   */
  async unmapDirty(
    owner: Owner,
    { address, size }: { readonly address: bigint; readonly size: bigint },
    bitmap: Bitmap,
  ): Promise<Uint8Array> {
    const entry = this.#owned(owner, address, size);
    const bad = (problem: string): unknown => vfioUserErrors.BAD_FEATURE({ what: 'a bitmap of dirty pages', problem });
    checkPageSize(bitmap.pgsize);
    if (!this.dirty.logs(owner)) throw bad('the log is not on');
    if (bitmap.size < bitmapSize((size + bitmap.pgsize - 1n) / bitmap.pgsize)) throw bad('it has too few bits');
    const bits = new Uint8Array(Number(bitmap.size));
    await this.#release(entry, owner, () => bits.set(this.dirty.last(owner, entry, bitmap.pgsize)));
    return bits;
  }

  /** Every mapping of an owner goes, in ascending order. @throws the first failure, after all were tried. */
  async unmapAll(owner: Owner): Promise<void> {
    const failures: unknown[] = [];
    for (const entry of this.#ascending()) {
      if (!entry.owners.has(owner)) continue;
      try {
        await this.#release(entry, owner);
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (this.#entries.size === 0) this.#files.close();
    if (failures.length > 0) throw failures[0];
  }

  /** Lets go of files that are kept for the next mapping. */
  close(): void {
    this.#files.close();
  }

  /** Whether an owner has exactly that mapping. */
  has(owner: Owner, address: bigint, size: bigint): boolean {
    const entry = this.#entries.get(address);
    return entry?.size === size && entry.owners.has(owner);
  }

  /** The mapping that a request asks for, if it is there already. */
  same(request: DmaMap, fd: Fd): DmaEntry | undefined {
    const there = this.#entries.get(request.address);
    return there !== undefined && isSame(there, request, identityOf(fd)) ? there : undefined;
  }

  /** The mapping over a byte: binary search. */
  find(address: bigint): DmaEntry | undefined {
    const sorted = this.#ascending();
    let low = 0;
    let high = sorted.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const entry = sorted[middle];
      if (entry === undefined) return undefined;
      if (address < entry.address) high = middle - 1;
      else if (address >= entry.address + entry.size) low = middle + 1;
      else return entry;
    }
    return undefined;
  }

  #ascending(): readonly DmaEntry[] {
    this.#sorted ??= [...this.#entries.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
    return this.#sorted;
  }

  #owned(owner: Owner, address: bigint, size: bigint): DmaEntry {
    const entry = this.#entries.get(address);
    if (entry?.size === size && entry.owners.has(owner)) return entry;
    throw vfioUserErrors.NOT_MAPPED({ address, size });
  }

  /** `report` is called when no device has a page of it any more, before what is known of it is forgotten. */
  async #release(entry: DmaEntry, owner: Owner, report?: () => void): Promise<void> {
    if (entry.owners.size > 1) {
      if (report !== undefined) this.dirty.refresh(entry);
      report?.();
      this.dirty.forget(entry, owner);
      entry.owners.delete(owner);
      this.#hold(owner, -1);
      return;
    }
    entry.owners.delete(owner);
    this.#leaving.add(entry);
    try {
      await this.#unmap(entry);
    } catch (cause) {
      entry.owners.add(owner);
      throw cause;
    } finally {
      this.#leaving.delete(entry);
    }
    report?.();
    this.dirty.forget(entry);
    this.#entries.delete(entry.address);
    this.#hold(owner, -1);
    this.#bytes -= entry.size;
    this.#sorted = undefined;
    this.task.mm.remove(entry.piece);
    this.#look();
  }

  #look(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Out of the container; what was written until then is kept for who wants to know. */
  #unmap(entry: DmaEntry): Promise<unknown> {
    const { address: iova, size } = entry;
    if (!this.dirty.active) return this.container.unmapDma({ iova, size }, this.task);
    const bitmap = bitmapOf(entry);
    const flags = UNMAP_FLAG.GET_DIRTY_BITMAP;
    return this.container
      .unmap({ flags, iova, size, bitmap }, this.task)
      .then(() => this.dirty.keep(entry, bitmap.data));
  }

  #open({ address, size, offset, flags }: DmaMap, fd: Fd): { readonly memory: MemoryWindow; readonly file: string } {
    const label = `DMA mapping of ${this.task.name} at 0x${address.toString(16)}`;
    const request = { fd, offset, length: Number(size), writable: (flags & DMA_MAP_FLAG.WRITE) !== 0, label };
    if ((flags & DMA_MAP_FLAG.FILE_IO) !== 0) return { file: identityOf(fd), memory: openFile(request) };
    const memory = this.#files.open(request);
    return { memory, file: memory.identity };
  }
}

const NO_FILE = { memory: undefined, file: undefined };

const overlaps = (entry: DmaEntry, { address, size }: DmaMap): boolean =>
  entry.address < address + size && address < entry.address + entry.size;

const isSame = (entry: DmaEntry, { address, size, offset, flags }: DmaMap, file: string | undefined): boolean =>
  entry.address === address &&
  entry.size === size &&
  entry.flags === flags &&
  entry.file === file &&
  entry.offset === offset;

function identityOf(fd: Fd): string {
  const { device, inode } = fd.stat();
  return `${device}:${inode}`;
}

function checkRange({ address, size, offset, flags }: DmaMap, hasFile: boolean): void {
  const bad = (problem: string): unknown => vfioUserErrors.BAD_MAP({ address, size, problem });
  if (size === 0n) throw bad('it has no bytes');
  if (pageOffset(address) !== 0 || pageOffset(size) !== 0) throw bad('address and size must be multiples of 4096');
  if (address + size > ADDRESS_SPACE_SIZE) throw bad('it goes past 2^64');
  if (size > MAX_SIZE) throw bad('it is larger than anything can be');
  if (pageOffset(offset) !== 0) throw bad('the offset in its file must be a multiple of 4096');
  if (offset + size > ADDRESS_SPACE_SIZE) throw bad('the offset in its file goes past 2^64');
  if (!hasFile && offset !== 0n) throw bad('an offset without a file');
  if (!hasFile && flags > PROT_RW) throw bad('a way to reach a file without a file');
}
