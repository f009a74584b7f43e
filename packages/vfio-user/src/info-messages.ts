import { COMMAND, REGION_CAP, REGION_FLAG } from './commands.js';
import { vfioUserErrors } from './errors.js';
import { checkArgsz, checkExactSize, checkSize, joined } from './sizes.js';
import {
  AREA,
  type Area,
  CAPABILITY,
  DEVICE_INFO,
  type DeviceInfo,
  IO_FD,
  IO_FD_WIDE,
  IRQ_INFO,
  type IrqInfoWire,
  REGION_INFO,
  REGION_IO_FDS,
  REGION_TYPE,
  SPARSE_MMAP,
} from './structs.js';

/** The most a reply to an info request may be asked to have: nothing real comes near. */
const MAX_ARGSZ = 1 << 20;

/** A request or a reply of DEVICE_GET_INFO. @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ (EINVAL). */
export function decodeDeviceInfo(payload: Uint8Array): DeviceInfo {
  checkSize(COMMAND.DEVICE_GET_INFO, payload, DEVICE_INFO.size);
  const info = DEVICE_INFO.read(payload);
  checkArgsz(COMMAND.DEVICE_GET_INFO, info.argsz, DEVICE_INFO.size);
  return info;
}

export const encodeDeviceInfo = (info: Omit<DeviceInfo, 'argsz'>): Uint8Array<ArrayBuffer> =>
  DEVICE_INFO.encode({ argsz: DEVICE_INFO.size, ...info });

/** A request or a reply of DEVICE_GET_IRQ_INFO. @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ (EINVAL). */
export function decodeIrqInfo(payload: Uint8Array): IrqInfoWire {
  checkSize(COMMAND.DEVICE_GET_IRQ_INFO, payload, IRQ_INFO.size);
  const info = IRQ_INFO.read(payload);
  checkArgsz(COMMAND.DEVICE_GET_IRQ_INFO, info.argsz, IRQ_INFO.size);
  return info;
}

export const encodeIrqInfo = (info: Omit<IrqInfoWire, 'argsz'>): Uint8Array<ArrayBuffer> =>
  IRQ_INFO.encode({ argsz: IRQ_INFO.size, ...info });

/** A region as DEVICE_GET_REGION_INFO describes it. `flags` has no CAPS bit: that follows from the rest. */
export interface RegionDescription {
  readonly index: number;
  readonly flags: number;
  readonly size: bigint;
  /** Where the region begins in the file that comes with the reply. */
  readonly offset: bigint;
  /** Parts that can be mapped; absent: all of it if `flags` has MMAP. */
  readonly areas?: readonly Area[];
  readonly type?: { readonly type: number; readonly subtype: number };
}

/** What a client asks: `argsz` is the room it has for the reply's payload. @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ. */
export function decodeRegionInfoRequest(payload: Uint8Array): { readonly index: number; readonly argsz: number } {
  checkSize(COMMAND.DEVICE_GET_REGION_INFO, payload, REGION_INFO.size);
  const { index, argsz } = REGION_INFO.read(payload);
  checkArgsz(COMMAND.DEVICE_GET_REGION_INFO, argsz, REGION_INFO.size);
  return { index, argsz };
}

export const encodeRegionInfoRequest = (index: number, argsz: number): Uint8Array<ArrayBuffer> =>
  REGION_INFO.encode({ argsz, flags: 0, index, capOffset: 0, size: 0n, offset: 0n });

/**
 * The reply for a client that has room for `argsz` bytes. If the capabilities do not fit, they are left out, and `argsz` in
 * the reply says what to ask with. `complete`: they are in, or there are none: only then a descriptor goes with it.
 */
export function encodeRegionInfo(region: RegionDescription, argsz: number): { bytes: Uint8Array; complete: boolean } {
  const capabilities = encodeCapabilities(region);
  const need = REGION_INFO.size + capabilities.length;
  const complete = need <= argsz;
  const shown = complete && capabilities.length > 0;
  const { index, size, offset, flags } = region;
  const fixed = REGION_INFO.encode({
    argsz: need,
    flags: flags | (shown ? REGION_FLAG.CAPS : 0),
    index,
    capOffset: shown ? REGION_INFO.size : 0,
    size,
    offset,
  });
  return { bytes: shown ? joined([fixed, capabilities]) : fixed, complete };
}

function encodeCapabilities({ areas, type }: RegionDescription): Uint8Array {
  const parts: { id: number; body: Uint8Array }[] = [];
  if (areas !== undefined) {
    const head = SPARSE_MMAP.encode({ areas: areas.length, reserved: 0 });
    parts.push({ id: REGION_CAP.SPARSE_MMAP, body: joined([head, ...areas.map((area) => AREA.encode(area))]) });
  }
  if (type !== undefined) parts.push({ id: REGION_CAP.TYPE, body: REGION_TYPE.encode(type) });
  let at: number = REGION_INFO.size;
  return joined(
    parts.flatMap(({ id, body }, index) => {
      at += CAPABILITY.size + body.length;
      return [CAPABILITY.encode({ id, version: 1, next: index === parts.length - 1 ? 0 : at }), body];
    }),
  );
}

/** A reply of DEVICE_GET_REGION_INFO. `argsz` above the payload's size: ask again with that much. */
export interface RegionInfoReply extends RegionDescription {
  readonly argsz: number;
}

/**
 * Reads a reply. The chain of capabilities must go forward, inside the payload, each behind the one before; unknown ones are passed over.
 * @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ (EINVAL), VFIOUSER_TOO_LARGE (E2BIG) for an `argsz` beyond 1 MiB.
 */
export function decodeRegionInfo(payload: Uint8Array): RegionInfoReply {
  const command = COMMAND.DEVICE_GET_REGION_INFO;
  const { argsz } = decodeRegionInfoRequest(payload);
  if (argsz > MAX_ARGSZ) throw vfioUserErrors.TOO_LARGE({ command, count: argsz, max: MAX_ARGSZ });
  const { capOffset, flags, index, size, offset } = REGION_INFO.read(payload);
  const region = { argsz, flags: flags & ~REGION_FLAG.CAPS, index, size, offset };
  if ((flags & REGION_FLAG.CAPS) === 0) return region;
  return { ...region, ...readCapabilityChain(payload, capOffset) };
}

function readCapabilityChain(payload: Uint8Array, first: number): Pick<RegionDescription, 'areas' | 'type'> {
  let found: Pick<RegionDescription, 'areas' | 'type'> = {};
  let least: number = REGION_INFO.size;
  for (let at = first; at !== 0; ) {
    const command = COMMAND.DEVICE_GET_REGION_INFO;
    if (at < least) throw vfioUserErrors.BAD_SIZE({ command, size: at, need: least });
    checkSize(command, payload, at + CAPABILITY.size);
    const { id, next } = CAPABILITY.read(payload, at);
    const { size, ...read } = readCapability(payload, id, at + CAPABILITY.size);
    found = { ...found, ...read };
    // why behind its body: areas that many capabilities share would be read once for each of them, for minutes.
    least = at + CAPABILITY.size + size;
    at = next;
  }
  return found;
}

/** `size`: bytes of the capability behind its header, 0 of one that is not known. */
function readCapability(
  payload: Uint8Array,
  id: number,
  at: number,
): Pick<RegionDescription, 'areas' | 'type'> & { readonly size: number } {
  const command = COMMAND.DEVICE_GET_REGION_INFO;
  if (id === REGION_CAP.TYPE) {
    checkSize(command, payload, at + REGION_TYPE.size);
    return { type: REGION_TYPE.read(payload, at), size: REGION_TYPE.size };
  }
  if (id !== REGION_CAP.SPARSE_MMAP) return { size: 0 };
  checkSize(command, payload, at + SPARSE_MMAP.size);
  const { areas: count } = SPARSE_MMAP.read(payload, at);
  const start = at + SPARSE_MMAP.size;
  const size = SPARSE_MMAP.size + count * AREA.size;
  checkSize(command, payload, at + size);
  return { areas: Array.from({ length: count }, (_, n) => AREA.read(payload, start + n * AREA.size)), size };
}

/** A part of a region whose writes (or reads and writes) can go to a descriptor instead of a message. */
export interface IoFd {
  readonly offset: bigint;
  readonly size: bigint;
  readonly fdIndex: number;
  /** 0: ioeventfd, 1: ioregionfd, 2: shadow ioeventfd. */
  readonly type: number;
  readonly flags: number;
  /** Datamatch of an ioeventfd, user data of an ioregionfd. */
  readonly data: bigint;
}

/** @throws VFIOUSER_BAD_SIZE, VFIOUSER_BAD_ARGSZ, VFIOUSER_BAD_FLAGS (EINVAL): flags and count of a request are 0. */
export function decodeIoFdsRequest(payload: Uint8Array): { readonly index: number; readonly argsz: number } {
  const command = COMMAND.DEVICE_GET_REGION_IO_FDS;
  checkSize(command, payload, REGION_IO_FDS.size);
  const { argsz, flags, index, count } = REGION_IO_FDS.read(payload);
  checkArgsz(command, argsz, REGION_IO_FDS.size);
  if (flags !== 0 || count !== 0)
    throw vfioUserErrors.BAD_FLAGS({ command, flags, problem: 'flags and count must be 0' });
  return { index, argsz };
}

export const encodeIoFdsRequest = (index: number, argsz: number): Uint8Array<ArrayBuffer> =>
  REGION_IO_FDS.encode({ argsz, flags: 0, index, count: 0 });

/** The reply for a client with room for `argsz` bytes; entries that do not all fit are left out, and `complete` is false. */
export function encodeIoFds(
  index: number,
  fds: readonly IoFd[],
  argsz: number,
): { bytes: Uint8Array; complete: boolean } {
  const need = REGION_IO_FDS.size + fds.length * IO_FD.size;
  const fixed = REGION_IO_FDS.encode({ argsz: need, flags: 0, index, count: fds.length });
  if (need > argsz) return { bytes: fixed, complete: false };
  return { bytes: joined([fixed, ...fds.map((fd) => IO_FD.encode({ ...fd, padding: 0 }))]), complete: true };
}

/**
 * Reads a reply: the width of an entry follows from `argsz` and `count` (40 bytes in the specification, 48 from libvfio-user).
 * `fds` is empty when the entries were left out; ask again with `argsz` then.
 * @throws VFIOUSER_BAD_SIZE (EINVAL).
 */
export function decodeIoFds(payload: Uint8Array): {
  readonly argsz: number;
  readonly count: number;
  readonly fds: readonly IoFd[];
} {
  const command = COMMAND.DEVICE_GET_REGION_IO_FDS;
  checkSize(command, payload, REGION_IO_FDS.size);
  const { argsz, count } = REGION_IO_FDS.read(payload);
  if (count === 0 || payload.length === REGION_IO_FDS.size) return { argsz, count, fds: [] };
  const width = (argsz - REGION_IO_FDS.size) / count;
  const entry = [IO_FD, IO_FD_WIDE].find((layout) => layout.size === width);
  if (entry === undefined) throw vfioUserErrors.BAD_SIZE({ command, size: payload.length, need: argsz });
  checkExactSize(command, payload, argsz);
  const fds = Array.from({ length: count }, (_, n) => {
    const { offset, size, fdIndex, type, flags, data } = entry.read(payload, REGION_IO_FDS.size + n * width);
    return { offset, size, fdIndex, type, flags, data };
  });
  return { argsz, count, fds };
}
