import type { BarHandler } from './bars.js';

/** 32-bit registers: `offset` is a multiple of 4, values are unsigned. */
export interface DwordRegisters {
  read(offset: number): number;
  write(offset: number, value: number): void;
}

const DWORD = 4;
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * A window of 32-bit registers. An 8-byte access is two, the lower one first; a shorter read takes its bytes out of the
 * register; a write that does not cover a whole register does not reach it.
 */
export const dwordBar = (registers: DwordRegisters): BarHandler => ({
  read(offset, bytes) {
    const word = new Uint8Array(DWORD);
    for (let at = offset - (offset % DWORD); at < offset + bytes.length; at += DWORD) {
      viewOf(word).setUint32(0, registers.read(at) >>> 0, true);
      const skip = Math.max(offset - at, 0);
      const target = at + skip - offset;
      bytes.set(word.subarray(skip, Math.min(DWORD, skip + bytes.length - target)), target);
    }
  },
  write(offset, bytes) {
    const view = viewOf(bytes);
    const first = (DWORD - (offset % DWORD)) % DWORD;
    for (let at = first; at + DWORD <= bytes.length; at += DWORD)
      registers.write(offset + at, view.getUint32(at, true));
  },
});

/** 8-bit registers, as I/O ports often are. */
export interface ByteRegisters {
  read(offset: number): number;
  write(offset: number, value: number): void;
}

/** A window of 8-bit registers: a wider access is one for each byte, ascending. */
export const byteBar = (registers: ByteRegisters): BarHandler => ({
  read(offset, bytes) {
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = registers.read(offset + at);
  },
  write(offset, bytes) {
    for (let at = 0; at < bytes.length; at += 1) registers.write(offset + at, bytes[at] ?? 0);
  },
});

/** A window of plain memory, kept by the caller; what lies beyond it reads as zeros. */
export const memoryBar = (memory: Uint8Array): BarHandler => ({
  read(offset, bytes) {
    bytes.fill(0);
    bytes.set(memory.subarray(offset, offset + bytes.length));
  },
  write(offset, bytes) {
    memory.set(bytes.subarray(0, Math.max(memory.length - offset, 0)), Math.min(offset, memory.length));
  },
});

/** A part of a window that somebody else answers for. */
export interface Overlay {
  readonly first: number;
  readonly size: number;
  readonly handler: BarHandler;
}

/** `base` with parts of it (ascending, disjoint) answered by others; an access over a border is cut there. */
export function overlaid(base: BarHandler, overlays: readonly Overlay[]): BarHandler {
  const visit = (direction: 'read' | 'write', offset: number, bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; ) {
      const place = offset + at;
      const inside = overlays.find(({ first, size }) => first <= place && place < first + size);
      const next = overlays.find(({ first }) => first > place)?.first ?? Number.POSITIVE_INFINITY;
      const end = Math.min(inside === undefined ? next : inside.first + inside.size, offset + bytes.length);
      const piece = bytes.subarray(at, end - offset);
      if (inside === undefined) base[direction](place, piece);
      else inside.handler[direction](place - inside.first, piece);
      at = end - offset;
    }
  };
  return {
    read: (offset, bytes) => visit('read', offset, bytes),
    write: (offset, bytes) => visit('write', offset, bytes),
  };
}
