import { checkSlice, checkWhole, sysErrors } from './errors.js';
import type { LedgerEntry } from './ledger.js';
import { MAX_VIEW } from './limits.js';
import type { MemoryWindow, WindowRequest } from './memory-window.js';
import type { MappedRange, Sys } from './sys.js';

/**
 * A part of a sealed memfd as live memory, made by `mapFile`. Its raw views are cut at every `windowSize` bytes.
 *
 * After `close` every method throws SYS_UNMAPPED, which names the mapping; raw views that somebody kept are detached
 * (Node >= 22) or read zeros (Node 20). Do not hand a raw view to an asynchronous native function (zlib, crypto, fs with a
 * callback): such a function keeps an address, which nobody can revoke.
 */
export class Mapping implements MemoryWindow {
  readonly label: string;
  /** Bytes. */
  readonly length: number;
  readonly writable: boolean;
  /** Where it begins in its file: bytes. */
  readonly fileOffset: bigint;
  /** Bytes from one cut between raw views to the next. */
  readonly windowSize: number;
  readonly #sys: Sys;
  readonly #entry: LedgerEntry;
  /** Raw views by window, made when they are asked for. */
  readonly #views: (Uint8Array | undefined)[] = [];
  /** All raw views ever made, also those that were detached by whoever got them. */
  readonly #given: Uint8Array[] = [];
  #range: MappedRange | undefined;

  /** For `mapFile`, which checks first. */
  constructor(request: WindowRequest) {
    const { fd, offset, length, writable, label, windowSize = MAX_VIEW } = request;
    const { sys } = fd;
    checkWhole('map', 'the window size', windowSize, [sys.pageSize, MAX_VIEW]);
    if (windowSize % sys.pageSize !== 0 || offset % BigInt(sys.pageSize) !== 0n) {
      const value = `${offset} (offset), ${windowSize} (window size)`;
      throw sysErrors.BAD_ARGUMENT({
        operation: 'map',
        what: label,
        value,
        wanted: `multiples of ${sys.pageSize}`,
      });
    }
    this.label = label;
    this.length = length;
    this.writable = writable;
    this.fileOffset = offset;
    this.windowSize = windowSize;
    this.#sys = sys;
    this.#range = sys.map({ fd: fd.number, offset, length, writable });
    this.#entry = sys.ledger.open('mapping', label, this);
  }

  get open(): boolean {
    return this.#range !== undefined;
  }

  /** Virtual address of its first byte, for ioctls that want one. @throws SysError SYS_UNMAPPED (EFAULT). */
  get address(): bigint {
    return this.#live('address').address;
  }

  /** How many raw views cover it. */
  get windows(): number {
    return Math.ceil(this.length / this.windowSize);
  }

  /** The raw view of window `index`, the same one every time. @throws SysError SYS_UNMAPPED (EFAULT), SYS_BAD_ARGUMENT (EINVAL). */
  window(index: number): Uint8Array {
    const range = this.#live('window');
    checkWhole('window', 'the index', index, [0, this.windows - 1]);
    const known = this.#views[index];
    if (known !== undefined && known.length > 0) return known; // 0: somebody detached it
    const start = index * this.windowSize;
    const view = this.#sys.view(range, start, Math.min(this.windowSize, this.length - start));
    this.#views[index] = view;
    this.#given.push(view);
    return view;
  }

  /** Whether `length` bytes at `offset` lie in one window, so that `bytes` gives them. */
  contiguous(offset: number, length: number): boolean {
    return Math.floor(offset / this.windowSize) === Math.floor((offset + Math.max(length, 1) - 1) / this.windowSize);
  }

  /**
   * The live bytes of a part, without a copy.
   * @throws SysError SYS_UNMAPPED, SYS_OUT_OF_RANGE (EFAULT), SYS_SPANS_WINDOWS (ERANGE).
   */
  bytes(offset: number, length: number): Uint8Array {
    this.#live('bytes');
    checkSlice(this, offset, length);
    if (!this.contiguous(offset, length)) {
      throw sysErrors.SPANS_WINDOWS({ label: this.label, offset, length, window: this.windowSize });
    }
    if (length === 0) return new Uint8Array(0);
    const within = offset % this.windowSize;
    return this.window((offset - within) / this.windowSize).subarray(within, within + length);
  }

  /** The live bytes of a part, one piece per window. @throws SysError SYS_UNMAPPED, SYS_OUT_OF_RANGE (EFAULT). */
  pieces(offset: number, length: number): Uint8Array[] {
    this.#live('pieces');
    checkSlice(this, offset, length);
    if (this.contiguous(offset, length)) return [this.bytes(offset, length)];
    const pieces: Uint8Array[] = [];
    for (let at = offset; at < offset + length; ) {
      const room = this.windowSize - (at % this.windowSize);
      const count = Math.min(room, offset + length - at);
      pieces.push(this.bytes(at, count));
      at += count;
    }
    return pieces;
  }

  read(offset: number, into: Uint8Array): void {
    this.#live('read');
    let done = 0;
    for (const piece of this.pieces(offset, into.length)) {
      into.set(piece, done);
      done += piece.length;
    }
  }

  write(offset: number, from: Uint8Array): void {
    this.#live('write');
    if (!this.writable) throw sysErrors.READ_ONLY({ label: this.label });
    let done = 0;
    for (const piece of this.pieces(offset, from.length)) {
      piece.set(from.subarray(done, done + piece.length));
      done += piece.length;
    }
  }

  /**
   * Makes a part resident, in whole pages (by default everything); undone by `unlock` or `close`. Source: mlock(2).
   * @throws SysError SYS_UNMAPPED (EFAULT), SYS_BAD_ARGUMENT (EINVAL), SYS_CALL_FAILED (ENOMEM: over RLIMIT_MEMLOCK, EPERM).
   */
  lock(offset = 0, length: number = this.length - offset): void {
    this.#sys.lock(this.#live('lock'), offset, length);
  }

  /** @throws as `lock`. */
  unlock(offset = 0, length: number = this.length - offset): void {
    this.#sys.unlock(this.#live('unlock'), offset, length);
  }

  /**
   * Unmaps it, after its raw views were made harmless. A second call does nothing.
   * @throws SysError SYS_CALL_FAILED (ENOMEM): still mapped, may be tried again.
   */
  close(): void {
    if (this.#range === undefined) return;
    this.#sys.unmap(this.#range, this.#given);
    this.#range = undefined;
    this.#views.length = 0;
    this.#given.length = 0;
    this.#entry.settle();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #live(operation: string): MappedRange {
    if (this.#range === undefined) throw sysErrors.UNMAPPED({ label: this.label, operation });
    return this.#range;
  }
}
