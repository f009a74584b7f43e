import { type FileHandle, open } from 'node:fs/promises';
import { ccwErrors } from './errors.js';

/** The bytes of a disk. Positions and sizes in bytes. */
export interface DiskImage {
  /** For messages. */
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  /**
   * Fills all of `pieces` in order from `position`, straight into the memory they stand in. Settles when the host no
   * longer touches that memory, whatever the outcome. @throws PinionError CCW_IMAGE_RANGE (ERANGE), CCW_IMAGE_SHORT
   * (EIO), or the host's error.
   */
  read(position: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Writes all of `pieces`. The same, and @throws PinionError CCW_IMAGE_READ_ONLY (EACCES). Not atomic. */
  write(position: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** A second call does nothing. No I/O may run. */
  close(): Promise<void>;
}

/** Opens a raw image file. The caller closes it. @throws PinionError CCW_BAD_IMAGE (EINVAL) for what is no file. */
export async function openFileImage(path: string, options: { readonly readOnly?: boolean } = {}): Promise<DiskImage> {
  const readOnly = options.readOnly ?? false;
  const file = await open(path, readOnly ? 'r' : 'r+').catch((cause: unknown) => {
    throw ccwErrors.BAD_IMAGE({ image: path, why: cause instanceof Error ? cause.message : String(cause) }, cause);
  });
  const facts = await file.stat();
  if (facts.isFile()) return new FileImage(path, file, { size: facts.size, readOnly });
  await file.close();
  throw ccwErrors.BAD_IMAGE({ image: path, why: 'is not a regular file' });
}

/** An image in memory: `bytes` is the disk, not a copy of it. */
export const memoryImage = (bytes: Uint8Array, options: { name?: string; readOnly?: boolean } = {}): DiskImage =>
  new MemoryImage(bytes, options.name ?? 'memory', options.readOnly ?? false);

const lengthOf = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, piece) => sum + piece.length, 0);

function checkRange(image: DiskImage, position: number, length: number): void {
  if (Number.isSafeInteger(position) && position >= 0 && position + length <= image.size) return;
  throw ccwErrors.IMAGE_RANGE({ image: image.name, position, length, size: image.size });
}

function checkWrite(image: DiskImage, position: number, length: number): void {
  if (image.readOnly) throw ccwErrors.IMAGE_READ_ONLY({ image: image.name });
  checkRange(image, position, length);
}

type Move = (pieces: readonly Uint8Array[], position: number) => Promise<number>;

class FileImage implements DiskImage {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  #file: FileHandle | undefined;

  constructor(name: string, file: FileHandle, facts: { size: number; readOnly: boolean }) {
    this.name = name;
    this.#file = file;
    this.size = facts.size;
    this.readOnly = facts.readOnly;
  }

  async read(position: number, pieces: readonly Uint8Array[]): Promise<void> {
    checkRange(this, position, lengthOf(pieces));
    const file = this.#open();
    await this.#moveAll(position, pieces, async (some, at) => (await file.readv(some, at)).bytesRead);
  }

  async write(position: number, pieces: readonly Uint8Array[]): Promise<void> {
    checkWrite(this, position, lengthOf(pieces));
    const file = this.#open();
    await this.#moveAll(position, pieces, async (some, at) => (await file.writev(some, at)).bytesWritten);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  #open(): FileHandle {
    if (this.#file === undefined) throw ccwErrors.BAD_IMAGE({ image: this.name, why: 'is closed' });
    return this.#file;
  }

  /** The host may move less than asked for, and takes only so many pieces at once. */
  async #moveAll(position: number, pieces: readonly Uint8Array[], move: Move): Promise<void> {
    let rest = pieces.filter((piece) => piece.length > 0);
    for (let at = position; rest.length > 0; ) {
      const moved = await move(rest, at);
      if (moved === 0) throw ccwErrors.IMAGE_SHORT({ image: this.name, position: at });
      rest = dropBytes(rest, moved);
      at += moved;
    }
  }
}

function dropBytes(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count;
  let index = 0;
  for (let piece = pieces[index]; piece !== undefined && piece.length <= left; piece = pieces[index]) {
    left -= piece.length;
    index += 1;
  }
  const first = pieces[index];
  return first === undefined ? [] : [first.subarray(left), ...pieces.slice(index + 1)];
}

class MemoryImage implements DiskImage {
  readonly name: string;
  readonly readOnly: boolean;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, name: string, readOnly: boolean) {
    this.#bytes = bytes;
    this.name = name;
    this.readOnly = readOnly;
  }

  get size(): number {
    return this.#bytes.length;
  }

  async read(position: number, pieces: readonly Uint8Array[]): Promise<void> {
    checkRange(this, position, lengthOf(pieces));
    let at = position;
    for (const piece of pieces) {
      piece.set(this.#bytes.subarray(at, at + piece.length));
      at += piece.length;
    }
  }

  async write(position: number, pieces: readonly Uint8Array[]): Promise<void> {
    checkWrite(this, position, lengthOf(pieces));
    let at = position;
    for (const piece of pieces) {
      this.#bytes.set(piece, at);
      at += piece.length;
    }
  }

  async close(): Promise<void> {}
}
