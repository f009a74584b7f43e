import type { Task, UnmapRequest } from '@pinion/core';
import { tceErrors } from './errors.js';
import { checkAligned, checkEnd, isUnaligned } from './map.js';
import { TCE_ARGSZ } from './requests.js';
import type { TceState } from './state.js';
import { makeDefaultWindow } from './windows.js';

/** Entries that a kernel goes over in one call before somebody thinks that it is stuck. */
const MAX_ENTRIES = 2 ** 27;

/** How an unmap ended: `bytes` that led somewhere before; `aligned` is false where a quirk answers +1 and does nothing. */
export interface Unmapped {
  readonly aligned: boolean;
  readonly bytes: bigint;
}

/**
 * VFIO_IOMMU_UNMAP_DMA: lets any entries of a window lead nowhere, mapped or not, whatever calls mapped them. Creates the default
 * window like `map`. @throws TCE_NOT_ENABLED (EPERM), TCE_BAD_ARGSZ, TCE_BAD_FLAGS (EINVAL), what `makeDefaultWindow` throws,
 * TCE_NO_WINDOW (ENXIO), TCE_UNALIGNED, TCE_TOO_LARGE (EINVAL). Source: tce_iommu_ioctl(), tce_iommu_clear().
 */
export function unmap(state: TceState, request: UnmapRequest, caller: Task): Unmapped {
  if (!state.enabled) throw tceErrors.NOT_ENABLED({ operation: 'unmap', v2: state.v2 });
  const { argsz = TCE_ARGSZ.UNMAP, flags, iova, size } = request;
  if (argsz < TCE_ARGSZ.UNMAP) throw tceErrors.BAD_ARGSZ({ operation: 'unmap', argsz, min: TCE_ARGSZ.UNMAP });
  if (flags !== 0) throw tceErrors.BAD_FLAGS({ operation: 'unmap', flags });
  makeDefaultWindow(state, 'unmap', caller);
  const window = state.windowAt(iova);
  if (window === undefined) throw tceErrors.NO_WINDOW({ operation: 'unmap', iova, size });
  checkAligned(window, 'unmap', { size });
  if (isUnaligned(state, window, 'unmap', iova)) return { aligned: false, bytes: 0n };
  checkEnd(state, window, 'unmap', { iova, size });
  const count = Number(size >> BigInt(window.table.pageShift));
  if (count > MAX_ENTRIES && count > window.table.entries)
    throw tceErrors.TOO_LARGE({ operation: 'unmap', iova, size });
  const first = window.indexOf(iova);
  const inside = Math.min(count, window.table.entries - first);
  const cleared = state.clear(window, first, inside);
  if (cleared > 0) state.host.unmapped(window.framesOf(first, inside));
  return { aligned: true, bytes: BigInt(cleared) * window.pageSize };
}
