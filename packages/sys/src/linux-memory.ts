import { checkFd, checkOffset, checkWhole } from './errors.js';
import { fdText, type Kernel } from './kernel.js';
import { MAX_MAPPING, MAX_VIEW } from './limits.js';
import type { MappedRange, Sys } from './sys.js';

/** Source: asm-generic/mman-common.h, mman.h (the same on x64 and arm64). */
const PROT_READ_WRITE = 0x3;
const MAP = { SHARED: 0x1, PRIVATE: 0x2, FIXED: 0x10, ANONYMOUS: 0x20, NORESERVE: 0x4000 } as const;
type MemoryCalls = Pick<Sys, 'map' | 'view' | 'unmap' | 'lock' | 'unlock'>;
/** ArrayBuffer.prototype.transfer of ES2024, which Node 20 does not have. */
type Transfer = (this: ArrayBuffer, length: number) => ArrayBuffer;

export function checkWithin(operation: string, range: MappedRange, offset: number, length: number): void {
  checkWhole(operation, 'the offset', offset, [0, range.length]);
  checkWhole(operation, 'the length', length, [1, range.length - offset]);
}

const hexAddress = (address: bigint): string => `0x${address.toString(16)}`;

/**
 * Detaches a raw view. @returns false where that cannot be had, or had been done by somebody: then other views of the
 * memory may exist that nobody knows of, because `ArrayBuffer.transfer` moves memory to a new buffer without a copy.
 */
function detach(buffer: ArrayBuffer): boolean {
  if (buffer.byteLength === 0) return false;
  const transfer: unknown = Reflect.get(buffer, 'transfer');
  if (typeof transfer !== 'function') return false;
  (transfer as Transfer).call(buffer, 0); // why: the name and being a function say which one it is
  return buffer.byteLength === 0;
}

interface Grave {
  readonly address: number;
  readonly length: number;
  /** Views that lie on it and are not collected yet. */
  views: number;
}

/** The calls of `Sys` on mapped memory. */
export function memoryCalls(kernel: Kernel): MemoryCalls {
  const collected = new FinalizationRegistry<Grave>((grave) => {
    grave.views -= 1;
    // why unchecked: munmap fails only when it would split more areas than the kernel allows; the range then stays unused.
    if (grave.views === 0) kernel.calls.munmap(grave.address, grave.length);
  });

  /** Lays private zero pages over a range that raw views still lead to, and frees it when the last of them is collected. */
  function bury(range: MappedRange, survivors: readonly ArrayBuffer[]): void {
    const address = Number(range.address);
    const flags = MAP.FIXED | MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE;
    const got = kernel.calls.mmap(address, range.length, PROT_READ_WRITE, flags, -1, 0n);
    if (got === -1) throw kernel.failure('mmap', `${hexAddress(range.address)}, ${range.length}, MAP_FIXED`);
    // A buffer that was emptied behind our back gives no sign when its memory is unused: that range is never freed.
    if (survivors.some((buffer) => buffer.byteLength === 0)) return;
    const grave: Grave = { address, length: range.length, views: survivors.length };
    for (const buffer of survivors) collected.register(buffer, grave);
  }

  return {
    map({ fd, offset, length, writable }) {
      checkFd('map', fd);
      checkOffset('map', 'the offset', offset);
      checkWhole('map', 'the length', length, [1, MAX_MAPPING]);
      const flags = writable ? MAP.SHARED : MAP.PRIVATE | MAP.NORESERVE;
      const address = kernel.calls.mmap(0, length, PROT_READ_WRITE, flags, fd, offset);
      if (address === -1) throw kernel.failure('mmap', `${fdText(fd)}, ${length} bytes at ${offset}`);
      return { address: BigInt(address), length };
    },
    view(range, offset, length) {
      checkWithin('view', range, offset, length);
      checkWhole('view', 'the length', length, [1, MAX_VIEW]);
      return new Uint8Array(kernel.native.koffi.view(range.address + BigInt(offset), length));
    },
    unmap(range, views) {
      const buffers = [...new Set(views.map((view) => view.buffer))];
      const survivors = buffers.filter((buffer): buffer is ArrayBuffer => !detach(buffer as ArrayBuffer)); // why: view() makes no shared ones
      if (survivors.length > 0) return bury(range, survivors);
      const result = kernel.calls.munmap(Number(range.address), range.length);
      if (result === -1) throw kernel.failure('munmap', `${hexAddress(range.address)}, ${range.length}`);
    },
    lock(range, offset, length) {
      checkWithin('lock', range, offset, length);
      const result = kernel.calls.mlock(Number(range.address) + offset, length);
      if (result === -1) throw kernel.failure('mlock', `${hexAddress(range.address)} + ${offset}, ${length}`);
    },
    unlock(range, offset, length) {
      checkWithin('unlock', range, offset, length);
      const result = kernel.calls.munlock(Number(range.address) + offset, length);
      if (result === -1) throw kernel.failure('munlock', `${hexAddress(range.address)} + ${offset}, ${length}`);
    },
  };
}
