import { checkSlice, sysErrors } from './errors.js';
import { Fd } from './fd.js';
import type { MemoryWindow, WindowRequest } from './memory-window.js';

/**
 * Memory that is not mapped: every access is a pread or pwrite, half a microsecond for 4 KiB. For files that somebody
 * else may truncate. Made by `openMemory`. A write never makes a file longer unless it was truncated in the meantime.
 */
export class FileWindow implements MemoryWindow {
  readonly label: string;
  readonly length: number;
  readonly writable: boolean;
  readonly #offset: bigint;
  readonly #fd: Fd;
  readonly #lent: boolean;

  #open = true;

  /** Keeps an fd of its own, unless the one that it gets is `lent` for as long as it lives. @throws SysError SYS_CALL_FAILED (EMFILE). */
  constructor(request: WindowRequest, fd: 'own' | 'lent' = 'own') {
    const { sys } = request.fd;
    this.label = request.label;
    this.length = request.length;
    this.writable = request.writable;
    this.#offset = request.offset;
    this.#lent = fd === 'lent';
    this.#fd = this.#lent ? request.fd : new Fd(sys, sys.duplicate(request.fd.number), request.label);
  }

  get open(): boolean {
    return this.#open;
  }

  read(offset: number, into: Uint8Array): void {
    this.#check('read', offset, into.length);
    this.#all('read', offset, into);
  }

  write(offset: number, from: Uint8Array): void {
    this.#check('write', offset, from.length);
    if (!this.writable) throw sysErrors.READ_ONLY({ label: this.label });
    this.#all('write', offset, from);
  }

  close(): void {
    this.#open = false;
    if (!this.#lent) this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(operation: string, offset: number, length: number): void {
    if (!this.#open) throw sysErrors.UNMAPPED({ label: this.label, operation });
    checkSlice(this, offset, length);
  }

  /** Goes on after partial transfers, until there is no more. */
  #all(operation: 'read' | 'write', offset: number, bytes: Uint8Array): void {
    const { sys, number } = this.#fd;
    const start = this.#offset + BigInt(offset);
    for (let done = 0; done < bytes.length; ) {
      const rest = bytes.subarray(done);
      const at = start + BigInt(done);
      const count = operation === 'read' ? sys.pread(number, rest, at) : sys.pwrite(number, rest, at);
      if (count === 0) throw sysErrors.SHRUNK({ label: this.label, offset, length: bytes.length, done });
      done += count;
    }
  }
}
