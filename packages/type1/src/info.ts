import { frameAddress, INFO_FLAG, type InfoCapability, type InfoResult, MIN_ARGSZ } from '@pinion/core';
import { MAX_BITMAP_SIZE } from './dirty-bits.js';
import { type1Errors } from './errors.js';
import type { Type1State } from './state.js';

/** struct vfio_iommu_type1_info without capabilities, bytes. */
const FULL_SIZE = 24;
/** Bytes of each capability, padded to 8: migration, available mappings, ranges (plus 16 per range). */
const CAPABILITY_SIZE = { migration: 32, 'dma-avail': 16, 'iova-range': 16 } as const;
const RANGE_SIZE = 16;

const sizeOf = (capability: InfoCapability): number =>
  CAPABILITY_SIZE[capability.id] + (capability.id === 'iova-range' ? capability.ranges.length * RANGE_SIZE : 0);

/**
 * VFIO_IOMMU_GET_INFO. `argsz`: bytes the caller has room for; too few for the capabilities is no error, they are left out
 * and the result's `argsz` says what is needed. @throws TYPE1_BAD_ARGSZ (EINVAL). Source: vfio_iommu_type1_get_info().
 */
export function info(state: Type1State, argsz: number): InfoResult {
  if (argsz < MIN_ARGSZ.INFO) throw type1Errors.BAD_ARGSZ({ operation: 'info', argsz, min: MIN_ARGSZ.INFO });
  const capabilities = capabilitiesOf(state);
  const needed = FULL_SIZE + capabilities.reduce((sum, capability) => sum + sizeOf(capability), 0);
  return {
    argsz: needed,
    flags: INFO_FLAG.PGSIZES | INFO_FLAG.CAPS,
    pgsizes: state.pageSizes,
    capabilities: argsz < needed ? [] : capabilities,
  };
}

/** In the kernel's order; no ranges while the container never had a passthrough group. */
function capabilitiesOf(state: Type1State): InfoCapability[] {
  const capabilities: InfoCapability[] = [
    { id: 'migration', flags: 0, pgsizes: state.minPage, maxBitmapSize: MAX_BITMAP_SIZE },
    { id: 'dma-avail', available: state.entriesLeft },
  ];
  if (state.ranges.length === 0) return capabilities;
  const ranges = state.ranges.map((range) => [frameAddress(range.first), frameAddress(range.last) + 0xfffn] as const);
  return [...capabilities, { id: 'iova-range', ranges }];
}
