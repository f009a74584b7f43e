import { ccwErrors } from './errors.js';
import { ASYNC_REGION, CCW_IRQ, CRW_REGION, IO_REGION, SCHIB_REGION } from './wire.js';

/** VFIO_REGION_INFO_FLAG_* and others, include/uapi/linux/vfio.h. */
const REGION_FLAG = { READ: 1, WRITE: 2, CAPS: 8 } as const;
const DEVICE_FLAG = { RESET: 1, CCW: 16 } as const;
const IRQ_EVENTFD = 1;
const MIN_ARGSZ = { device: 16, region: 32, irq: 16 } as const;
/** Region `index` stands at `index << OFFSET_SHIFT` of the device file. */
export const OFFSET_SHIFT = 10;
const REGION_TYPE_CCW = 2;
const CAP_TYPE = 2;
const CAP_SIZE = 16;

/** struct vfio_device_info, as far as this device fills it. */
export interface DeviceInfo {
  readonly flags: number;
  readonly regions: number;
  readonly irqs: number;
}

/** struct vfio_region_info; `argsz` and `capOffset` as written back; `caps`: the bytes at `capOffset`. */
export interface RegionDescription {
  readonly flags: number;
  readonly size: number;
  readonly offset: number;
  readonly argsz: number;
  readonly capOffset: number;
  readonly caps?: Uint8Array;
}

const { READ, WRITE, CAPS } = REGION_FLAG;
/** In the order of their indexes; `subtype` 0: the region that every such device has. */
const REGIONS = [
  { size: IO_REGION.size, flags: READ | WRITE, subtype: 0 },
  { size: ASYNC_REGION.size, flags: READ | WRITE | CAPS, subtype: 1 },
  { size: SCHIB_REGION.size, flags: READ | CAPS, subtype: 2 },
  { size: CRW_REGION.size, flags: READ | CAPS, subtype: 3 },
] as const;

/** VFIO_DEVICE_GET_INFO. @throws PinionError CCW_BAD_ARGSZ (EINVAL) below 16. */
export function deviceInfo(argsz: number): DeviceInfo {
  checkArgsz('device info', argsz, MIN_ARGSZ.device);
  return { flags: DEVICE_FLAG.CCW | DEVICE_FLAG.RESET, regions: REGIONS.length, irqs: Object.keys(CCW_IRQ).length };
}

/**
 * VFIO_DEVICE_GET_REGION_INFO. With room for less than the capability (48 bytes) `argsz` says how much it takes and
 * `capOffset` is 0. @throws PinionError CCW_BAD_ARGSZ, CCW_NO_INDEX (EINVAL).
 */
export function regionInfo(index: number, argsz: number): RegionDescription {
  checkArgsz('region info', argsz, MIN_ARGSZ.region);
  const region = REGIONS[index];
  if (region === undefined) throw ccwErrors.NO_INDEX({ what: 'region', index });
  const { size, flags, subtype } = region;
  const facts = { flags, size, offset: index * 2 ** OFFSET_SHIFT };
  if (subtype === 0) return { ...facts, argsz, capOffset: 0 };
  const whole = MIN_ARGSZ.region + CAP_SIZE;
  if (argsz < whole) return { ...facts, argsz: whole, capOffset: 0 };
  return { ...facts, argsz, capOffset: MIN_ARGSZ.region, caps: typeCapability(subtype) };
}

/** VFIO_DEVICE_GET_IRQ_INFO. @throws PinionError CCW_BAD_ARGSZ, CCW_NO_INDEX (EINVAL). */
export function irqInfo(index: number, argsz: number): { readonly flags: number; readonly count: number } {
  checkArgsz('interrupt info', argsz, MIN_ARGSZ.irq);
  if (!Object.values(CCW_IRQ).some((known) => known === index)) throw ccwErrors.NO_INDEX({ what: 'interrupt', index });
  return { flags: IRQ_EVENTFD, count: 1 };
}

/** struct vfio_region_info_cap_type, big-endian. */
function typeCapability(subtype: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(CAP_SIZE));
  view.setUint16(0, CAP_TYPE);
  view.setUint16(2, 1);
  view.setUint32(8, REGION_TYPE_CCW);
  view.setUint32(12, subtype);
  return new Uint8Array(view.buffer);
}

function checkArgsz(what: string, argsz: number, least: number): void {
  if (argsz < least) throw ccwErrors.BAD_ARGSZ({ what, argsz, least });
}
