import { PinionError } from '@pinion/core';
import { type Fd, SysError } from '@pinion/sys';
import { COMMAND, DEVICE_FLAG, DMA_UNMAP_FLAG, REGION_FLAG } from './commands.js';
import { decodeDmaMap, decodeDmaUnmap, encodeDmaUnmap } from './dma-messages.js';
import { vfioUserErrors } from './errors.js';
import { deviceFeature, readMigration, writeMigration } from './feature-handlers.js';
import {
  decodeDeviceInfo,
  decodeIoFdsRequest,
  decodeIrqInfo,
  decodeRegionInfoRequest,
  encodeDeviceInfo,
  encodeIoFds,
  encodeIrqInfo,
  encodeRegionInfo,
  type RegionDescription,
} from './info-messages.js';
import { decodeSetIrqs } from './irq-messages.js';
import type { Message } from './message.js';
import { decodeRegionAccess, decodeWriteMulti, encodeWriteMultiReply, type SmallWrite } from './region-messages.js';
import type { Handler, Regions, Reply, Served } from './served.js';
import type { ServedRegion } from './served-device.js';
import { DMA_UNMAP, type DmaMap, REGION_ACCESS, type RegionAccess } from './structs.js';

const NOTHING: Reply = { payload: new Uint8Array(0) };

/** Who handles which command. VERSION is the session's own. A handler of `TAKES_FDS` owns the descriptors once it has settled well. */
export const HANDLERS: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [COMMAND.DMA_MAP, mapDma],
  [COMMAND.DMA_UNMAP, unmapDma],
  [COMMAND.DEVICE_GET_INFO, deviceInfo],
  [COMMAND.DEVICE_GET_REGION_INFO, regionInfo],
  [COMMAND.DEVICE_GET_REGION_IO_FDS, regionIoFds],
  [COMMAND.DEVICE_GET_IRQ_INFO, irqInfo],
  [COMMAND.DEVICE_SET_IRQS, setIrqs],
  [COMMAND.REGION_READ, readRegion],
  [COMMAND.REGION_WRITE, writeRegion],
  [COMMAND.DEVICE_RESET, reset],
  [COMMAND.REGION_WRITE_MULTI, writeMulti],
  [COMMAND.DEVICE_FEATURE, deviceFeature],
  [COMMAND.MIG_DATA_READ, readMigration],
  [COMMAND.MIG_DATA_WRITE, writeMigration],
]);

/** Commands that come with descriptors; with all others they are refused. */
export const TAKES_FDS: ReadonlySet<number> = new Set([COMMAND.DMA_MAP, COMMAND.DEVICE_SET_IRQS]);

/** The errno of a failure as it goes over the wire: EIO for what is no error of ours. */
export function wireErrno(failure: unknown): number {
  return failure instanceof PinionError || failure instanceof SysError ? failure.code : 5;
}

function mapDma(served: Served, { payload, fds }: Message): Reply | Promise<Reply> {
  const request = decodeDmaMap(payload);
  if (fds.length > 1) {
    throw vfioUserErrors.BAD_FDS({ command: COMMAND.DMA_MAP, count: fds.length, allowed: 'one or none' });
  }
  const [fd] = fds;
  const { owner, touched } = served;
  const recognised = served.home.recognise?.({ owner, request, fd, touched });
  return recognised === undefined ? mapHere(served, request, fd) : recognised.then(() => mapHere(served, request, fd));
}

function mapHere(
  { home: { dma: space }, owner, clock }: Served,
  request: DmaMap,
  fd: Fd | undefined,
): Reply | Promise<Reply> {
  const map = (): Reply => {
    space.map(owner, request, fd);
    return NOTHING;
  };
  const yielded = space.yielded(owner, request, { fd, clock });
  return yielded === undefined ? map() : yielded.then(map);
}

async function unmapDma({ home: { dma: space }, owner, dma, maxBytes }: Served, { payload }: Message): Promise<Reply> {
  const request = decodeDmaUnmap(payload, maxBytes);
  const { address: at, size: length } = request;
  if (space.has(owner, at, length)) dma.forget(at, length);
  if (request.bitmap !== undefined) {
    return { payload: encodeDmaUnmap(request, await space.unmapDirty(owner, request, request.bitmap)) };
  }
  if ((request.flags & DMA_UNMAP_FLAG.ALL) !== 0) {
    for (const { address, size } of space.entries) dma.forget(address, size);
    await space.unmapAll(owner);
  } else {
    await space.unmap(owner, at, length);
  }
  return { payload: payload.subarray(0, DMA_UNMAP.size) };
}

function deviceInfo({ device, regions, irqs }: Served, { payload }: Message): Reply {
  decodeDeviceInfo(payload);
  const flags = (device.resettable ? DEVICE_FLAG.RESET : 0) | (device.pci ? DEVICE_FLAG.PCI : 0);
  return { payload: encodeDeviceInfo({ flags, regions: regions.count, irqs: irqs.count }) };
}

function regionInfo({ regions }: Served, { payload }: Message): Reply {
  const { index, argsz } = decodeRegionInfoRequest(payload);
  const region = regionOf(regions, index);
  const { bytes, complete } = encodeRegionInfo(describe(index, region), argsz);
  const fd = region?.mapping?.fd;
  return complete && fd !== undefined ? { payload: bytes, fds: [fd] } : { payload: bytes };
}

function describe(index: number, region: ServedRegion | undefined): RegionDescription {
  if (region === undefined || region.size === 0) return { index, flags: 0, size: 0n, offset: 0n };
  const { readable, writable, mapping, type, size } = region;
  const flags =
    (readable ? REGION_FLAG.READ : 0) | (writable ? REGION_FLAG.WRITE : 0) | (mapping ? REGION_FLAG.MMAP : 0);
  return {
    index,
    flags,
    size: BigInt(size),
    offset: BigInt(mapping?.offset ?? 0),
    ...(mapping?.areas === undefined ? {} : { areas: mapping.areas }),
    ...(type === undefined ? {} : { type }),
  };
}

function regionIoFds({ regions }: Served, { payload }: Message): Reply {
  const { index, argsz } = decodeIoFdsRequest(payload);
  const io = regionOf(regions, index)?.io;
  const { bytes, complete } = encodeIoFds(index, io?.entries ?? [], argsz);
  return complete && io !== undefined ? { payload: bytes, fds: io.fds } : { payload: bytes };
}

function regionOf({ at, count }: Regions, index: number): ServedRegion | undefined {
  if (index >= count) throw vfioUserErrors.BAD_INDEX({ what: 'region', index, count });
  return at[index];
}

function irqInfo({ irqs }: Served, { payload }: Message): Reply {
  return { payload: encodeIrqInfo(irqs.info(decodeIrqInfo(payload).index)) };
}

function setIrqs({ irqs }: Served, { payload, fds }: Message): Reply {
  irqs.set(decodeSetIrqs(payload), fds);
  return NOTHING;
}

/** @returns where the access begins. @throws VFIOUSER_BAD_ACCESS (EINVAL), VFIOUSER_BAD_INDEX (EINVAL). */
function checkAccess(regions: Regions, access: RegionAccess, right: 'readable' | 'writable'): number {
  const { region: index, offset, count } = access;
  const region = regionOf(regions, index);
  const at = Number(offset); // inexact only where no region reaches
  if (region?.[right] === true && at + count <= region.size) return at;
  const problem = region?.[right] === true ? `it has ${region.size} bytes` : `it is not ${right}`;
  throw vfioUserErrors.BAD_ACCESS({ region: index, offset, count, problem });
}

function readRegion({ device, regions, maxBytes }: Served, { payload }: Message): Reply | Promise<Reply> {
  const access = decodeRegionAccess(COMMAND.REGION_READ, payload, false, maxBytes);
  const at = checkAccess(regions, access, 'readable');
  const data = new Uint8Array(access.count);
  const reply: Reply = { payload, data };
  const read = access.count === 0 ? undefined : device.readRegion(access.region, at, data);
  return read instanceof Promise ? read.then(() => reply) : reply;
}

function writeRegion({ device, regions, maxBytes }: Served, { payload }: Message): Reply | Promise<Reply> {
  const access = decodeRegionAccess(COMMAND.REGION_WRITE, payload, true, maxBytes);
  const at = checkAccess(regions, access, 'writable');
  const reply: Reply = { payload: payload.subarray(0, REGION_ACCESS.size) };
  const written = access.count === 0 ? undefined : device.writeRegion(access.region, at, access.data);
  return written instanceof Promise ? written.then(() => reply) : reply;
}

/** All writes are looked at before the first is done. A write that the device refuses ends it; the reply then says how many were done. */
async function writeMulti({ device, regions }: Served, { payload }: Message): Promise<Reply> {
  const writes = decodeWriteMulti(payload);
  const checked = writes.map((write) => ({ ...write, at: checkAccess(regions, accessOf(write), 'writable') }));
  let done = 0;
  for (const { region, at, data } of checked) {
    try {
      await device.writeRegion(region, at, data);
    } catch (cause) {
      if (done === 0) throw cause;
      break;
    }
    done += 1;
  }
  return { payload: encodeWriteMultiReply(done) };
}

const accessOf = ({ offset, region, data }: SmallWrite): RegionAccess => ({ offset, region, count: data.length });

async function reset({ device }: Served): Promise<Reply> {
  if (!device.resettable) throw vfioUserErrors.NOT_SUPPORTED({ what: 'a reset' });
  await device.reset();
  return NOTHING;
}
