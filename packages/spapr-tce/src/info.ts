import { tceErrors } from './errors.js';
import { TCE_ARGSZ, TCE_INFO_DDW, type TceInfo } from './requests.js';
import type { TceState } from './state.js';

/**
 * VFIO_IOMMU_SPAPR_TCE_GET_INFO, of the newest group. `argsz`: bytes the caller has room for. It does not change with the
 * windows. @throws TCE_NO_GROUP_INFO (ENXIO), TCE_BAD_ARGSZ (EINVAL).
 */
export function info(state: TceState, argsz: number): TceInfo {
  const [newest] = state.groups;
  if (newest === undefined) throw tceErrors.NO_GROUP_INFO({});
  if (argsz < TCE_ARGSZ.INFO) throw tceErrors.BAD_ARGSZ({ operation: 'info', argsz, min: TCE_ARGSZ.INFO });
  const { window32, pageSizes, maxWindows, levels } = newest.tables;
  const answer = { flags: state.v2 ? TCE_INFO_DDW : 0, ...window32 };
  if (!state.v2 || argsz < TCE_ARGSZ.INFO_WINDOWS) return answer;
  return { ...answer, windows: { pageSizes, max: maxWindows, levels } };
}
