import { COMMAND } from './commands.js';
import { vfioUserErrors } from './errors.js';
import { checkExactSize, checkSize } from './sizes.js';
import { MULTI_WRITE, MULTI_WRITE_SIZE, REGION_ACCESS, type RegionAccess, WRITE_MULTI } from './structs.js';

const NOTHING = new Uint8Array(0);

/** A REGION_READ or REGION_WRITE with its data: empty in requests to read and in replies to writes. */
export interface RegionData extends RegionAccess {
  readonly data: Uint8Array;
}

/**
 * Reads a message of REGION_READ or REGION_WRITE. `carries`: whether this direction of it has data.
 * @throws VFIOUSER_BAD_SIZE (EINVAL), VFIOUSER_TOO_LARGE (E2BIG) for a count above `max` bytes.
 */
export function decodeRegionAccess(command: number, payload: Uint8Array, carries: boolean, max: number): RegionData {
  checkSize(command, payload, REGION_ACCESS.size);
  const { offset, region, count } = REGION_ACCESS.fields;
  const bytes = count.get(payload, 0);
  if (bytes > max) throw vfioUserErrors.TOO_LARGE({ command, count: bytes, max });
  checkExactSize(command, payload, REGION_ACCESS.size + (carries ? bytes : 0));
  const data = carries ? payload.subarray(REGION_ACCESS.size) : NOTHING;
  return { offset: offset.get(payload, 0), region: region.get(payload, 0), count: bytes, data };
}

export function encodeRegionAccess(access: RegionAccess, data?: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = REGION_ACCESS.encode(access, data?.length ?? 0);
  if (data !== undefined) bytes.set(data, REGION_ACCESS.size);
  return bytes;
}

/** One write of REGION_WRITE_MULTI: at most 8 bytes. */
export interface SmallWrite {
  readonly offset: bigint;
  readonly region: number;
  readonly data: Uint8Array;
}

/** The most bytes that one write of REGION_WRITE_MULTI carries. */
export const SMALL_WRITE_MAX = 8;

/**
 * Reads a request of REGION_WRITE_MULTI; its count must be what the payload holds, and every write must have 1 to 8 bytes.
 * @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ACCESS (EINVAL).
 */
export function decodeWriteMulti(payload: Uint8Array): readonly SmallWrite[] {
  const command = COMMAND.REGION_WRITE_MULTI;
  checkSize(command, payload, WRITE_MULTI.size);
  const { count } = WRITE_MULTI.read(payload);
  checkExactSize(command, payload, BigInt(WRITE_MULTI.size) + count * BigInt(MULTI_WRITE_SIZE));
  const writes: SmallWrite[] = [];
  for (let at = WRITE_MULTI.size; at < payload.length; at += MULTI_WRITE_SIZE) writes.push(readSmallWrite(payload, at));
  return writes;
}

function readSmallWrite(payload: Uint8Array, at: number): SmallWrite {
  const { offset, region, count } = MULTI_WRITE.read(payload, at);
  if (count < 1 || count > SMALL_WRITE_MAX) {
    throw vfioUserErrors.BAD_ACCESS({ region, offset, count, problem: 'one write of many has 1 to 8 bytes' });
  }
  const start = at + MULTI_WRITE.size;
  return { offset, region, data: payload.subarray(start, start + count) };
}

/** @throws VFIOUSER_BAD_ACCESS (EINVAL) for data that is empty or more than 8 bytes. */
export function encodeWriteMulti(writes: readonly SmallWrite[]): Uint8Array<ArrayBuffer> {
  const bytes = WRITE_MULTI.encode({ count: BigInt(writes.length) }, writes.length * MULTI_WRITE_SIZE);
  writes.forEach(({ offset, region, data }, index) => {
    const count = data.length;
    if (count < 1 || count > SMALL_WRITE_MAX) {
      throw vfioUserErrors.BAD_ACCESS({ region, offset, count, problem: 'one write of many has 1 to 8 bytes' });
    }
    const at = WRITE_MULTI.size + index * MULTI_WRITE_SIZE;
    MULTI_WRITE.write(bytes, { offset, region, count }, at);
    bytes.set(data, at + MULTI_WRITE.size);
  });
  return bytes;
}

/** How many writes of REGION_WRITE_MULTI were done. */
export function decodeWriteMultiReply(payload: Uint8Array): bigint {
  checkExactSize(COMMAND.REGION_WRITE_MULTI, payload, WRITE_MULTI.size);
  return WRITE_MULTI.read(payload).count;
}

export const encodeWriteMultiReply = (count: number): Uint8Array<ArrayBuffer> =>
  WRITE_MULTI.encode({ count: BigInt(count) });
