import { constants } from 'node:os';
import type { SysError } from '../errors.js';
import { sysErrors } from '../errors.js';
import { type MappedRange, type MapRequest, SEAL } from '../sys.js';

const { EINVAL, EPERM, EBUSY, EFBIG } = constants.errno;
/** The largest fake file, bytes. */
const MAX_FILE = 2n ** 30n;

export const failure = (call: string, errno: number): SysError => sysErrors.CALL_FAILED({ call, what: 'fake', errno });

/** A memfd in memory. */
export class FakeFile {
  readonly kind = 'file';
  readonly name: string;
  readonly inode: bigint;
  seals = 0;
  bytes = new Uint8Array(0);
  /** Mappings that lie on `bytes`. */
  mapped = 0;

  constructor(name: string, inode: bigint) {
    this.name = name;
    this.inode = inode;
  }

  get target(): string {
    return `/memfd:${this.name} (deleted)`;
  }

  truncate(size: bigint): void {
    if (size > MAX_FILE) throw failure('ftruncate', EFBIG);
    const length = Number(size);
    if (length < this.bytes.length && (this.seals & SEAL.SHRINK) !== 0) throw failure('ftruncate', EPERM);
    if (length > this.bytes.length && (this.seals & SEAL.GROW) !== 0) throw failure('ftruncate', EPERM);
    if (length === this.bytes.length) return;
    if (this.mapped > 0) throw failure('ftruncate', EBUSY); // the views could not follow
    const resized = new Uint8Array(length);
    resized.set(this.bytes.subarray(0, length));
    this.bytes = resized;
  }

  addSeals(seals: number): void {
    if ((this.seals & SEAL.SEAL) !== 0) throw failure('fcntl', EPERM);
    if ((seals & SEAL.WRITE) !== 0 && this.mapped > 0) throw failure('fcntl', EBUSY);
    this.seals |= seals;
  }

  read(into: Uint8Array, offset: bigint): number {
    if (offset >= BigInt(this.bytes.length)) return 0;
    const from = this.bytes.subarray(Number(offset), Number(offset) + into.length);
    into.set(from);
    return from.length;
  }

  write(from: Uint8Array, offset: bigint): number {
    if ((this.seals & (SEAL.WRITE | SEAL.FUTURE_WRITE)) !== 0) throw failure('pwrite', EPERM);
    const end = offset + BigInt(from.length);
    if (end > BigInt(this.bytes.length)) this.truncate(end);
    this.bytes.set(from, Number(offset));
    return from.length;
  }
}

interface FakeRange extends MappedRange {
  readonly file: FakeFile;
  readonly offset: number;
  readonly writable: boolean;
}

/** The mapped ranges of a fake system. Views are parts of the file's bytes, so they cannot be detached one by one. */
export class FakeMappings {
  readonly #ranges = new Map<bigint, FakeRange>();
  readonly #pageSize: number;
  #next = 0x7000_0000_0000n;

  constructor(pageSize: number) {
    this.#pageSize = pageSize;
  }

  map(file: FakeFile, { offset, length, writable }: MapRequest): MappedRange {
    if (offset % BigInt(this.#pageSize) !== 0n) throw failure('mmap', EINVAL);
    if (writable && (file.seals & (SEAL.WRITE | SEAL.FUTURE_WRITE)) !== 0) throw failure('mmap', EPERM);
    const range = { address: this.#next, length, file, offset: Number(offset), writable };
    this.#next += BigInt(Math.ceil(length / this.#pageSize) * this.#pageSize);
    this.#ranges.set(range.address, range);
    file.mapped += 1;
    return range;
  }

  view({ address }: MappedRange, offset: number, length: number): Uint8Array {
    const range = this.#find(address, 'view');
    const start = range.offset + offset;
    const bytes = range.file.bytes.subarray(start, start + length);
    return range.writable ? bytes : bytes.slice(); // a private mapping; here its content is of the moment it was asked for
  }

  unmap({ address }: MappedRange): void {
    const range = this.#find(address, 'munmap');
    this.#ranges.delete(address);
    range.file.mapped -= 1;
  }

  /** Throws unless the range is mapped. */
  check({ address }: MappedRange): void {
    this.#find(address, 'mlock');
  }

  #find(address: bigint, call: string): FakeRange {
    const range = this.#ranges.get(address);
    if (range === undefined) throw failure(call, EINVAL);
    return range;
  }
}
