import { checkSlice, SysError, sysErrors } from './errors.js';
import { Fd } from './fd.js';
import { FileWindow } from './file-window.js';
import { Mapping } from './mapping.js';
import { checkWindow, type MemoryWindow, type WindowRequest } from './memory-window.js';
import { SEAL } from './sys.js';

/** Copies of a part of a sealed file that go by pread and pwrite before it is worth a mapping. */
const COPIES = 4;
/** Files that are kept open although nothing of them is in use: the next part of one of them comes soon. */
const IDLE = 4;

/** A file that was looked at once and is open once. */
interface Booked {
  readonly key: string;
  readonly fd: Fd;
  /** It cannot shrink any more, so it may be mapped. */
  readonly sealed: boolean;
  windows: number;
}

/**
 * Parts of files as memory, where many parts lie in few files: a file is open once, however many parts of it are in use and whoever sent
 * descriptors of it, and is asked once whether it can shrink. A part is mapped when somebody needs it to be.
 */
export class FileBook {
  readonly #files = new Map<string, Booked>();

  /**
   * As `openMemory`; the descriptor may be closed at once. Two descriptors count as one file if inode and open flags are the same.
   * @throws as `openMemory`, except that a mapping that fails (ENOMEM, EACCES) fails where it is needed.
   */
  open(request: WindowRequest): BookedWindow {
    const { fd, offset, length, label } = request;
    const { sys } = fd;
    const { device, inode, size } = fd.stat();
    const identity = `${device}:${inode}`;
    const key = `${identity}:${sys.openFlags(fd.number)}`;
    const known = this.#files.get(key);
    if (known?.sealed !== true) return new BookedWindow(request, identity, this.#enter(key, request), this);
    if (offset < 0n || length < 1 || offset + BigInt(length) > size) {
      throw sysErrors.BEYOND_FILE({ label, offset, length, size });
    }
    known.windows += 1;
    return new BookedWindow(request, identity, known, this);
  }

  /** Closes what is not in use. */
  close(): void {
    for (const file of this.#files.values()) if (file.windows === 0) this.#drop(file);
  }

  /** For `BookedWindow`: one part less. */
  release(file: Booked): void {
    file.windows -= 1;
    if (file.windows > 0) return;
    if (this.#files.get(file.key) !== file) file.fd.close();
    const idle = [...this.#files.values()].filter(({ windows }) => windows === 0);
    const [oldest] = idle;
    if (idle.length > IDLE && oldest !== undefined) this.#drop(oldest);
  }

  /** A file that is not known, or was not sealed when it was looked at. */
  #enter(key: string, request: WindowRequest): Booked {
    const { fd } = request;
    const sealed = isSealed(fd);
    checkWindow(request, sealed !== undefined);
    const number = fd.sys.duplicate(fd.number);
    const file = { key, fd: new Fd(fd.sys, number, request.label), sealed: sealed === true, windows: 1 };
    const before = this.#files.get(key);
    if (before?.windows === 0) this.#drop(before);
    if (before === undefined || before.windows === 0) this.#files.set(key, file);
    return file;
  }

  #drop(file: Booked): void {
    this.#files.delete(file.key);
    file.fd.close();
  }
}

/** Whether a file cannot shrink; undefined for one that can have no seals. @throws SysError SYS_CALL_FAILED. */
function isSealed(fd: Fd): boolean | undefined {
  try {
    return (fd.sys.seals(fd.number) & SEAL.SHRINK) !== 0;
  } catch (failure) {
    if (!(failure instanceof SysError) || failure.errno !== 'EINVAL') throw failure;
    return undefined;
  }
}

/** A part of a file of a `FileBook`. The first copies go by pread and pwrite; then, or when somebody asks, it is mapped if it can be. */
export class BookedWindow implements MemoryWindow {
  readonly label: string;
  readonly length: number;
  readonly writable: boolean;
  /** The same for all parts of one file. */
  readonly identity: string;
  readonly #request: WindowRequest;
  readonly #book: FileBook;
  #file: Booked | undefined;
  #way: MemoryWindow | undefined;
  #copies = 0;

  /** For `FileBook.open`. */
  constructor(request: WindowRequest, identity: string, file: Booked, book: FileBook) {
    this.label = request.label;
    this.length = request.length;
    this.writable = request.writable;
    this.identity = identity;
    this.#request = request;
    this.#file = file;
    this.#book = book;
  }

  get open(): boolean {
    return this.#file !== undefined;
  }

  /** Whether `mapping` gives something. */
  get mappable(): boolean {
    return this.#file?.sealed === true;
  }

  /** Live memory, mapped by now at the latest; undefined for a file that can shrink. @throws SysError SYS_UNMAPPED (EFAULT), SYS_CALL_FAILED (ENOMEM, EACCES). */
  mapping(): Mapping | undefined {
    const { sealed, fd } = this.#live('mapping');
    if (!sealed) return undefined;
    if (!(this.#way instanceof Mapping)) this.#way = new Mapping({ ...this.#request, fd });
    return this.#way instanceof Mapping ? this.#way : undefined;
  }

  read(offset: number, into: Uint8Array): void {
    this.#copyBy('read', offset, into.length).read(offset, into);
  }

  write(offset: number, from: Uint8Array): void {
    this.#copyBy('write', offset, from.length).write(offset, from);
  }

  /** @throws SysError SYS_CALL_FAILED (ENOMEM): still open, may be tried again. */
  close(): void {
    if (this.#file === undefined) return;
    this.#way?.close();
    const file = this.#file;
    this.#file = undefined;
    this.#way = undefined;
    this.#book.release(file);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #copyBy(operation: string, offset: number, length: number): MemoryWindow {
    const { sealed, fd } = this.#live(operation);
    checkSlice(this, offset, length);
    if (this.#way instanceof Mapping) return this.#way;
    this.#copies += 1;
    const mapped = sealed && this.#copies > COPIES ? this.mapping() : undefined;
    this.#way ??= mapped ?? new FileWindow({ ...this.#request, fd }, 'lent');
    return this.#way;
  }

  #live(operation: string): Booked {
    if (this.#file === undefined) throw sysErrors.UNMAPPED({ label: this.label, operation });
    return this.#file;
  }
}
