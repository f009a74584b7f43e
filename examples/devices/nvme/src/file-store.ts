import { closeSync, fdatasync, fstatSync, openSync, readvSync, writevSync } from 'node:fs';
import { errors } from './errors.js';
import type { NamespaceStore } from './store.js';

const CHUNK = 1 << 20;

/**
 * Blocks in a file. Reads and writes go straight between the page cache and guest memory, in the calling thread (a cached page
 * costs less than a thread switch); a flush waits for the disk in another.
 */
export class FileStore implements NamespaceStore {
  readonly size: number;
  readonly readOnly: boolean;
  readonly #path: string;
  readonly #fd: number;
  #open = true;

  /** @throws NVME_BAD_IMAGE (EINVAL) for an empty file; what opening it throws (ENOENT, EACCES ...). */
  constructor(path: string, about: { readonly readOnly?: boolean } = {}) {
    this.#path = path;
    this.readOnly = about.readOnly ?? false;
    this.#fd = openSync(path, this.readOnly ? 'r' : 'r+');
    this.size = fstatSync(this.#fd).size;
    if (this.size > 0) return;
    this.close();
    throw errors.BAD_IMAGE({ path, problem: 'it is empty' });
  }

  read(offset: number, into: readonly Uint8Array[]): void {
    this.#all('read', offset, into);
  }

  write(offset: number, from: readonly Uint8Array[]): void {
    this.#all('write', offset, from);
  }

  zero(offset: number, length: number): void {
    const zeros = new Uint8Array(Math.min(length, CHUNK));
    for (let done = 0; done < length; done += zeros.length) {
      this.write(offset + done, [zeros.subarray(0, Math.min(zeros.length, length - done))]);
    }
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#fd, (failure) => (failure === null ? resolve() : reject(failure)));
    });
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }

  /** Goes on after short transfers. @throws NVME_SHORT_IMAGE (EIO) when the file ends before its size. */
  #all(direction: 'read' | 'write', offset: number, views: readonly Uint8Array[]): void {
    const total = views.reduce((sum, { length }) => sum + length, 0);
    for (let done = 0; done < total; ) {
      const rest = done === 0 ? views : skip(views, done);
      const moved =
        direction === 'read' ? readvSync(this.#fd, rest, offset + done) : writevSync(this.#fd, rest, offset + done);
      if (moved === 0) throw errors.SHORT_IMAGE({ path: this.#path, offset: offset + done });
      done += moved;
    }
  }
}

/** The views without their first `count` bytes. */
function skip(views: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let left = count;
  for (const view of views) {
    if (left < view.length) rest.push(view.subarray(left));
    left = Math.max(left - view.length, 0);
  }
  return rest;
}
