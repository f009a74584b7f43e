import { COMMAND, FEATURE_FLAG } from './commands.js';
import { vfioUserErrors } from './errors.js';
import { checkArgsz, checkExactSize, checkFlags, checkSize, joined } from './sizes.js';
import { FEATURE, FEATURE_LOGGING, FEATURE_REPORT, LOGGING_RANGE, type LoggingRange, MIG_DATA } from './structs.js';

const KNOWN = FEATURE_FLAG.MASK | FEATURE_FLAG.GET | FEATURE_FLAG.SET | FEATURE_FLAG.PROBE;

/** A message of DEVICE_FEATURE, in either direction. `argsz`: what the sender has room for, or what the reply has. */
export interface FeatureMessage {
  readonly argsz: number;
  readonly feature: number;
  readonly get: boolean;
  readonly set: boolean;
  readonly probe: boolean;
  readonly data: Uint8Array;
}

/** @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ, VFIOUSER_BAD_FLAGS (EINVAL): none, or GET and SET without PROBE. */
export function decodeFeature(payload: Uint8Array): FeatureMessage {
  const command = COMMAND.DEVICE_FEATURE;
  checkSize(command, payload, FEATURE.size);
  const { argsz, flags } = FEATURE.read(payload);
  checkArgsz(command, argsz, FEATURE.size);
  checkFlags(command, flags, KNOWN);
  const [get, set, probe] = [FEATURE_FLAG.GET, FEATURE_FLAG.SET, FEATURE_FLAG.PROBE].map((bit) => (flags & bit) !== 0);
  if (!probe && get === set) {
    throw vfioUserErrors.BAD_FLAGS({ command, flags, problem: 'one of GET and SET is needed, or PROBE' });
  }
  const data = payload.subarray(FEATURE.size);
  return {
    argsz,
    feature: flags & FEATURE_FLAG.MASK,
    get: get === true,
    set: set === true,
    probe: probe === true,
    data,
  };
}

/** `argsz` is written as what is sent unless the message says more (room for a reply). */
export function encodeFeature(
  message: Omit<FeatureMessage, 'argsz'> & { readonly argsz?: number },
): Uint8Array<ArrayBuffer> {
  const { feature, get, set, probe, data } = message;
  const bits = (get ? FEATURE_FLAG.GET : 0) | (set ? FEATURE_FLAG.SET : 0) | (probe ? FEATURE_FLAG.PROBE : 0);
  const argsz = Math.max(message.argsz ?? 0, FEATURE.size + data.length);
  return joined([FEATURE.encode({ argsz, flags: feature | bits }), data]);
}

/** Data of DMA_LOGGING_START; no ranges means everything. */
export interface DmaLogging {
  readonly pageSize: bigint;
  readonly ranges: readonly LoggingRange[];
}

/** @throws VFIOUSER_BAD_SIZE (EINVAL) when the ranges are not exactly what the data holds. */
export function decodeLogging(data: Uint8Array): DmaLogging {
  const command = COMMAND.DEVICE_FEATURE;
  checkSize(command, data, FEATURE_LOGGING.size);
  const { pageSize, ranges } = FEATURE_LOGGING.read(data);
  checkExactSize(command, data, FEATURE_LOGGING.size + ranges * LOGGING_RANGE.size);
  const at = (n: number): number => FEATURE_LOGGING.size + n * LOGGING_RANGE.size;
  return { pageSize, ranges: Array.from({ length: ranges }, (_, n) => LOGGING_RANGE.read(data, at(n))) };
}

export const encodeLogging = ({ pageSize, ranges }: DmaLogging): Uint8Array<ArrayBuffer> =>
  joined([
    FEATURE_LOGGING.encode({ pageSize, ranges: ranges.length, reserved: 0 }),
    ...ranges.map((range) => LOGGING_RANGE.encode(range)),
  ]);

/** Data of DMA_LOGGING_REPORT; `bits` is empty in the request. */
export interface DmaReport {
  readonly iova: bigint;
  readonly length: bigint;
  readonly pageSize: bigint;
  readonly bits: Uint8Array;
}

/** @throws VFIOUSER_BAD_SIZE (EINVAL). */
export function decodeReport(data: Uint8Array): DmaReport {
  checkSize(COMMAND.DEVICE_FEATURE, data, FEATURE_REPORT.size);
  return { ...FEATURE_REPORT.read(data), bits: data.subarray(FEATURE_REPORT.size) };
}

export const encodeReport = (report: DmaReport): Uint8Array<ArrayBuffer> =>
  joined([FEATURE_REPORT.encode(report), report.bits]);

/** A request of MIG_DATA_READ: how many bytes to give at most. @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ, VFIOUSER_TOO_LARGE (E2BIG). */
export function decodeMigRead(payload: Uint8Array, max: number): number {
  const command = COMMAND.MIG_DATA_READ;
  checkExactSize(command, payload, MIG_DATA.size);
  const { argsz, size } = MIG_DATA.read(payload);
  checkArgsz(command, argsz, MIG_DATA.size);
  if (size > max) throw vfioUserErrors.TOO_LARGE({ command, count: size, max });
  return size;
}

export const encodeMigRead = (size: number): Uint8Array<ArrayBuffer> =>
  MIG_DATA.encode({ argsz: MIG_DATA.size + size, size });

/** The data of a reply to MIG_DATA_READ or of a MIG_DATA_WRITE. Bytes beyond `size` are padding. @throws VFIOUSER_BAD_SIZE (EINVAL). */
export function decodeMigData(command: number, payload: Uint8Array): Uint8Array {
  checkSize(command, payload, MIG_DATA.size);
  const { argsz, size } = MIG_DATA.read(payload);
  checkArgsz(command, argsz, MIG_DATA.size);
  checkSize(command, payload, MIG_DATA.size + size);
  return payload.subarray(MIG_DATA.size, MIG_DATA.size + size);
}

export const encodeMigData = (data: Uint8Array): Uint8Array<ArrayBuffer> =>
  joined([MIG_DATA.encode({ argsz: MIG_DATA.size + data.length, size: data.length }), data]);
