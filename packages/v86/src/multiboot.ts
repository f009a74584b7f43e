import { hex } from '@pinion/core';
import { v86Errors } from './errors.js';

/** Multiboot header. Source: Multiboot Specification 0.6.96, section 3.1. */
const MULTIBOOT = { MAGIC: 0x1bad_b002, SEARCH: 8192, KNOWN_FLAGS: 0b11 } as const;
/** ELF of 32 bits. Source: System V ABI, chapters 4 and 5; i386 supplement. */
const ELF = {
  MAGIC: 0x464c_457f,
  CLASS: 4,
  CLASS_32: 1,
  DATA: 5,
  LITTLE_ENDIAN: 1,
  TYPE: 16,
  EXECUTABLE: 2,
  MACHINE: 18,
  I386: 3,
  ENTRY: 24,
  PROGRAM_HEADERS: 28,
  PROGRAM_HEADER_SIZE: 42,
  PROGRAM_HEADER_COUNT: 44,
  HEADER_SIZE: 52,
  SEGMENT_SIZE: 32,
  LOAD: 1,
} as const;
/** Below are the interrupt table, what the loader leaves for the kernel, the display and option ROMs. */
const FIRST_ADDRESS = 0x10_0000;

interface Segment {
  readonly offset: number;
  readonly at: number;
  readonly virtual: number;
  readonly fileSize: number;
  readonly size: number;
}

/**
 * Looks at a kernel before anything is made of it: an ELF executable of 32 bits with a multiboot header, every segment inside the file
 * and inside RAM above 1 MiB. @throws V86_BAD_IMAGE (EINVAL).
 */
export function checkImage(image: Uint8Array, ramBytes: number): void {
  const problem = problemOf(image, ramBytes);
  if (problem !== undefined) throw v86Errors.BAD_IMAGE({ problem });
}

function problemOf(image: Uint8Array, ramBytes: number): string | undefined {
  if (image.length < ELF.HEADER_SIZE) return `${image.length} bytes are less than an ELF header`;
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  return elfProblem(view) ?? multibootProblem(view) ?? segmentsProblem(view, ramBytes);
}

function elfProblem(view: DataView): string | undefined {
  if (view.getUint32(0, true) !== ELF.MAGIC) return 'it is no ELF file';
  if (view.getUint8(ELF.CLASS) !== ELF.CLASS_32 || view.getUint8(ELF.DATA) !== ELF.LITTLE_ENDIAN)
    return 'it is no 32-bit little-endian ELF file';
  if (view.getUint16(ELF.MACHINE, true) !== ELF.I386) return 'it is for another CPU than i386';
  if (view.getUint16(ELF.TYPE, true) !== ELF.EXECUTABLE) return 'it is no executable with fixed addresses';
  return undefined;
}

function multibootProblem(view: DataView): string | undefined {
  const end = Math.min(MULTIBOOT.SEARCH, view.byteLength) - 12;
  for (let at = 0; at <= end; at += 4) {
    if (view.getUint32(at, true) !== MULTIBOOT.MAGIC) continue;
    const flags = view.getUint32(at + 4, true);
    if (((MULTIBOOT.MAGIC + flags + view.getUint32(at + 8, true)) | 0) !== 0) continue;
    const unknown = (flags & ~MULTIBOOT.KNOWN_FLAGS) >>> 0;
    return unknown === 0 ? undefined : `its multiboot header asks for ${hex(unknown)}, which this loader does not do`;
  }
  return `there is no multiboot header in its first ${MULTIBOOT.SEARCH} bytes`;
}

function segmentsProblem(view: DataView, ramBytes: number): string | undefined {
  const at = view.getUint32(ELF.PROGRAM_HEADERS, true);
  const count = view.getUint16(ELF.PROGRAM_HEADER_COUNT, true);
  if (view.getUint16(ELF.PROGRAM_HEADER_SIZE, true) !== ELF.SEGMENT_SIZE) return 'its program headers have an odd size';
  if (at + count * ELF.SEGMENT_SIZE > view.byteLength) return 'it is cut off: its program headers are not in the file';
  const segments = loadable(view, at, count);
  if (segments.length === 0) return 'it has nothing to load';
  const problems = segments.map((segment) => segmentProblem(segment, view.byteLength, ramBytes));
  return problems.find((problem) => problem !== undefined) ?? entryProblem(view.getUint32(ELF.ENTRY, true), segments);
}

function loadable(view: DataView, at: number, count: number): readonly Segment[] {
  const starts = Array.from({ length: count }, (_, index) => at + index * ELF.SEGMENT_SIZE);
  return starts
    .filter((start) => view.getUint32(start, true) === ELF.LOAD)
    .map((start) => ({
      offset: view.getUint32(start + 4, true),
      virtual: view.getUint32(start + 8, true),
      at: view.getUint32(start + 12, true),
      fileSize: view.getUint32(start + 16, true),
      size: view.getUint32(start + 20, true),
    }));
}

function segmentProblem(
  { offset, at, fileSize, size }: Segment,
  fileBytes: number,
  ramBytes: number,
): string | undefined {
  const where = `the segment for ${hex(at)}`;
  if (fileSize > size) return `${where} has more bytes in the file than in memory`;
  if (offset + fileSize > fileBytes) return `it is cut off: ${where} is not all in the file`;
  if (at < FIRST_ADDRESS) return `${where} lies below 1 MiB`;
  // The emulator's loader wants one byte less than there is.
  return at + size < ramBytes ? undefined : `${where} ends beyond RAM of ${hex(ramBytes)} bytes`;
}

const entryProblem = (entry: number, segments: readonly Segment[]): string | undefined =>
  segments.some(({ virtual, fileSize }) => virtual <= entry && entry < virtual + fileSize)
    ? undefined
    : `it begins at ${hex(entry)}, where nothing of it is`;
