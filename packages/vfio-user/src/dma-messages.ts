import { COMMAND, DMA_MAP_FLAG, DMA_UNMAP_FLAG } from './commands.js';
import { vfioUserErrors } from './errors.js';
import { checkArgsz, checkExactSize, checkFlags, checkSize, joined } from './sizes.js';
import {
  BITMAP,
  type Bitmap,
  DMA_ACCESS,
  DMA_MAP,
  DMA_UNMAP,
  type DmaAccess,
  type DmaMap,
  type DmaUnmap,
} from './structs.js';

/** @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ, VFIOUSER_BAD_FLAGS (EINVAL). What the numbers mean is not looked at. */
export function decodeDmaMap(payload: Uint8Array): DmaMap {
  checkSize(COMMAND.DMA_MAP, payload, DMA_MAP.size);
  const map = DMA_MAP.read(payload);
  checkArgsz(COMMAND.DMA_MAP, map.argsz, DMA_MAP.size);
  const { READ, WRITE, MMAP, FILE_IO } = DMA_MAP_FLAG;
  checkFlags(COMMAND.DMA_MAP, map.flags, READ | WRITE | MMAP | FILE_IO);
  if ((map.flags & (MMAP | FILE_IO)) === (MMAP | FILE_IO)) {
    const problem = 'MMAP and FILE_IO exclude each other';
    throw vfioUserErrors.BAD_FLAGS({ command: COMMAND.DMA_MAP, flags: map.flags, problem });
  }
  return map;
}

export const encodeDmaMap = (map: Omit<DmaMap, 'argsz'>): Uint8Array<ArrayBuffer> =>
  DMA_MAP.encode({ argsz: DMA_MAP.size, ...map });

/** DMA_UNMAP, with what it says of the bitmap if it asks for one. */
export interface UnmapMessage extends DmaUnmap {
  readonly bitmap?: Bitmap;
}

/**
 * @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ, VFIOUSER_BAD_FLAGS (EINVAL): unknown bits, ALL together with a bitmap or with an
 * address or a size; VFIOUSER_TOO_LARGE (E2BIG) for a bitmap of more than `max` bytes.
 */
export function decodeDmaUnmap(payload: Uint8Array, max: number): UnmapMessage {
  const command = COMMAND.DMA_UNMAP;
  checkSize(command, payload, DMA_UNMAP.size);
  const unmap = DMA_UNMAP.read(payload);
  checkArgsz(command, unmap.argsz, DMA_UNMAP.size);
  checkFlags(command, unmap.flags, DMA_UNMAP_FLAG.GET_DIRTY_BITMAP | DMA_UNMAP_FLAG.ALL);
  const { flags } = unmap;
  const bad = (problem: string): unknown => vfioUserErrors.BAD_FLAGS({ command, flags, problem });
  const all = (flags & DMA_UNMAP_FLAG.ALL) !== 0;
  if (all && (unmap.address !== 0n || unmap.size !== 0n)) throw bad('ALL goes with address 0 and size 0');
  if ((flags & DMA_UNMAP_FLAG.GET_DIRTY_BITMAP) === 0) return unmap;
  if (all) throw bad('ALL and GET_DIRTY_BITMAP exclude each other');
  checkSize(command, payload, DMA_UNMAP.size + BITMAP.size);
  const bitmap = BITMAP.read(payload, DMA_UNMAP.size);
  if (bitmap.size > BigInt(max)) throw vfioUserErrors.TOO_LARGE({ command, count: bitmap.size, max });
  checkArgsz(command, unmap.argsz, DMA_UNMAP.size + BITMAP.size + Number(bitmap.size));
  return { ...unmap, bitmap };
}

/** The request; the reply is the same with the bitmap's bytes behind it. */
export function encodeDmaUnmap(unmap: Omit<UnmapMessage, 'argsz'>, bits?: Uint8Array): Uint8Array<ArrayBuffer> {
  const { bitmap } = unmap;
  if (bitmap === undefined) return DMA_UNMAP.encode({ argsz: DMA_UNMAP.size, ...unmap });
  const argsz = DMA_UNMAP.size + BITMAP.size + Number(bitmap.size);
  return joined([DMA_UNMAP.encode({ ...unmap, argsz }), BITMAP.encode(bitmap), bits ?? new Uint8Array(0)]);
}

/** A DMA_READ or DMA_WRITE with its data: empty in requests to read and in replies to writes. */
export interface DmaData extends DmaAccess {
  readonly data: Uint8Array;
}

/**
 * Reads a message of DMA_READ or DMA_WRITE. `carries`: whether this direction of it has data.
 * @throws VFIOUSER_BAD_SIZE (EINVAL), VFIOUSER_TOO_LARGE (E2BIG) for a count above `max` bytes.
 */
export function decodeDmaAccess(command: number, payload: Uint8Array, carries: boolean, max: number): DmaData {
  checkSize(command, payload, DMA_ACCESS.size);
  const access = DMA_ACCESS.read(payload);
  if (access.count > BigInt(max)) throw vfioUserErrors.TOO_LARGE({ command, count: access.count, max });
  checkExactSize(command, payload, DMA_ACCESS.size + (carries ? Number(access.count) : 0));
  return { ...access, data: payload.subarray(DMA_ACCESS.size) };
}

export function encodeDmaAccess(address: bigint, count: number, data?: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = DMA_ACCESS.encode({ address, count: BigInt(count) }, data?.length ?? 0);
  if (data !== undefined) bytes.set(data, DMA_ACCESS.size);
  return bytes;
}
