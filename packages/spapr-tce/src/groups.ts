import type { BackendGroup } from '@pinion/core';
import { tceErrors } from './errors.js';
import { hasDynamicWindows, type TceTableGroup } from './hardware.js';
import type { TceState } from './state.js';

/**
 * Attaches a group, in the kernel's order of checks, and puts it behind the windows that exist; a failure leaves everything as it was.
 * @throws TCE_EMULATED (EINVAL), TCE_NO_TABLES (ENODEV), TCE_ONE_GROUP, TCE_ATTACHED (EBUSY), TCE_INCOMPATIBLE (EPERM),
 * TCE_NO_DYNAMIC_WINDOWS (EINVAL), TCE_FOREIGN_TABLE (EPERM). Source: tce_iommu_attach_group().
 */
export function attachGroup(state: TceState, group: BackendGroup): void {
  if (group.type === 'emulated') throw tceErrors.EMULATED({ group: group.name });
  const tables = state.findTables(group);
  if (tables === undefined) throw tceErrors.NO_TABLES({ group: group.name });
  checkCompany(state, group, tables);
  if (state.v2 && !hasDynamicWindows(tables) && !state.quirks.has('accepts-fixed-windows')) {
    throw tceErrors.NO_DYNAMIC_WINDOWS({ group: group.name });
  }
  takeOwnership(state, tables);
  if (state.groups.length === 0) state.defaultPending = true;
  state.groups.unshift({ group, tables });
}

function checkCompany(state: TceState, group: BackendGroup, tables: TceTableGroup): void {
  if (!state.v2 && state.groups.length > 0) throw tceErrors.ONE_GROUP({ group: group.name });
  for (const other of state.groups) {
    if (other.group === group) throw tceErrors.ATTACHED({ group: group.name });
    if (other.tables.platform !== tables.platform) {
      throw tceErrors.INCOMPATIBLE({ group: group.name, other: other.group.name });
    }
  }
}

function takeOwnership(state: TceState, tables: TceTableGroup): void {
  tables.takeOwnership();
  try {
    for (const window of state.windows) if (window !== undefined) tables.setWindow(window.slot, window.table);
  } catch (cause) {
    leave(state, tables);
    throw cause;
  }
}

/** A group leaves: it stands behind no window any more. The windows stay. Source: tce_iommu_detach_group(). */
export function detachGroup(state: TceState, group: BackendGroup): void {
  const index = state.groups.findIndex((attached) => attached.group === group);
  const [attached] = index < 0 ? [] : state.groups.splice(index, 1);
  if (attached !== undefined) leave(state, attached.tables);
}

function leave(state: TceState, tables: TceTableGroup): void {
  for (const window of state.windows) if (window !== undefined) tables.unsetWindow(window.slot);
  tables.releaseOwnership();
}
