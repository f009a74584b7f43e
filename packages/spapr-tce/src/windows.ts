import type { Task } from '@pinion/core';
import { charge, credit, type Payer } from './accounting.js';
import { tceErrors } from './errors.js';
import { DEFAULT_PAGE_SHIFT, type TceTable, type TceTableGroup, WINDOW_SLOTS, type WindowShape } from './hardware.js';
import type { TceState } from './state.js';
import { Window } from './window.js';

/** No page is larger than the address space; a shift comes from whoever calls. */
const MAX_PAGE_SHIFT = 63;

/**
 * Creates the default window if nothing has used the container so far. Its table is charged.
 * @throws as `createWindow`. Source: tce_iommu_create_default_window().
 */
export function makeDefaultWindow(state: TceState, operation: string, caller: Task): void {
  if (!state.defaultPending) return;
  const { window32 } = firstTables(state, operation);
  const shape = { pageShift: DEFAULT_PAGE_SHIFT, size: window32.size, levels: 1 };
  createWindow(state, state.payer(operation, caller), shape);
  state.defaultPending = false;
}

/**
 * Creates a window in the first free slot, on the newest group, and puts all groups behind it.
 * @throws TCE_NO_GROUP (ENODEV), TCE_NO_SLOT (ENOSPC), TCE_BAD_WINDOW (EINVAL), TCE_MEMLOCK (ENOMEM), what the platform
 * throws when it cannot create the table, and TCE_FOREIGN_TABLE (EPERM) when another group cannot use it.
 */
export function createWindow(state: TceState, payer: Payer, shape: WindowShape): Window {
  const slot = state.windows.indexOf(undefined);
  if (slot < 0) throw tceErrors.NO_SLOT({ slots: WINDOW_SLOTS });
  const tables = firstTables(state, 'create');
  if (shape.pageShift > MAX_PAGE_SHIFT || (tables.pageSizes & (1n << BigInt(shape.pageShift))) === 0n) {
    throw tceErrors.BAD_WINDOW({ ...shape, problem: 'the hardware has no pages of this size' });
  }
  const bytes = tables.tableBytes(shape);
  if (bytes === 0n) throw tceErrors.BAD_WINDOW({ ...shape, problem: 'its table would be empty' });
  const pages = Number(bytes >> 12n);
  charge(payer, pages, 'create');
  const table = createTable(state, payer, { tables, slot, shape, pages });
  const window = new Window(slot, table, pages);
  try {
    for (const group of state.groups) group.tables.setWindow(slot, table);
  } catch (cause) {
    for (const group of state.groups) group.tables.unsetWindow(slot);
    credit(payer.mm, pages);
    throw cause;
  }
  state.windows[slot] = window;
  return window;
}

function createTable(
  state: TceState,
  payer: Payer,
  about: { tables: TceTableGroup; slot: number; shape: WindowShape; pages: number },
): TceTable {
  try {
    return about.tables.createTable(about.slot, about.shape);
  } catch (cause) {
    if (!state.quirks.has('refused-create-charges')) credit(payer.mm, about.pages);
    throw cause;
  }
}

/**
 * Takes the window at `start` (bytes) away from all groups and gives back what its entries held.
 * The default window is just not created any more if nothing has used it yet.
 * @throws TCE_UNKNOWN_WINDOW (EINVAL).
 */
export function removeWindow(state: TceState, start: bigint): void {
  if (state.defaultPending && start === 0n) {
    state.defaultPending = false;
    return;
  }
  const window = state.windowAt(start);
  if (window === undefined || (start !== window.table.start && !state.quirks.has('remove-inside-window'))) {
    throw tceErrors.UNKNOWN_WINDOW({ start });
  }
  for (const group of state.groups) group.tables.unsetWindow(window.slot);
  freeWindow(state, window);
}

/** Forgets a window that no group stands behind any more. */
export function freeWindow(state: TceState, window: Window): void {
  const cleared = state.clear(window, 0, window.table.entries);
  if (state.owner !== undefined) credit(state.owner, window.chargedPages);
  state.windows[window.slot] = undefined;
  if (cleared > 0) state.host.unmapped(window.framesOf(0, window.table.entries));
}

/** The newest group's hardware, which answers for the container. @throws TCE_NO_GROUP (ENODEV). */
export function firstTables(state: TceState, operation: string): TceTableGroup {
  const [newest] = state.groups;
  if (newest === undefined) throw tceErrors.NO_GROUP({ operation });
  return newest.tables;
}
