import { ADDRESS_SPACE_SIZE, pageOffset, type Task, vaddrFrame } from '@pinion/core';
import type { Payer } from './accounting.js';
import { tceErrors } from './errors.js';
import { PartlyPinned, type Region, type RegionRequest } from './regions.js';
import type { RegisterRequest } from './requests.js';
import type { TceState } from './state.js';

type Memory = Pick<RegisterRequest, 'vaddr' | 'size'>;

/**
 * Registers memory of the owner: pins and charges it, or joins in if it is registered with the same bounds already. Enables a
 * v2 container. @returns 0, or under a quirk the number of pages that could be pinned when not all could.
 * @throws TCE_BAD_MEMORY, TCE_MEMORY_OVERLAP (EINVAL), TCE_EMPTY_MEMORY, TCE_NO_LIST, TCE_MEMLOCK (ENOMEM), TCE_MEMORY_FAULT (EFAULT),
 * TCE_REGISTERED (EBUSY). Source: tce_iommu_register_pages().
 */
export function registerMemory(state: TceState, payer: Payer, memory: Memory): number {
  const request = checkMemory('register', memory);
  if (memory.size > 0n && memory.vaddr + memory.size >= ADDRESS_SPACE_SIZE) {
    throw tceErrors.BAD_MEMORY({ operation: 'register', ...memory });
  }
  if (request.pages === 0) {
    if (state.quirks.has('empty-register-is-enomem')) throw tceErrors.EMPTY_MEMORY({});
    throw tceErrors.BAD_MEMORY({ operation: 'register', ...memory });
  }
  const known = state.regions.find(payer.mm, request);
  if (known !== undefined && state.registered.includes(known)) throw tceErrors.REGISTERED(memory);
  try {
    state.registered.push(known ?? create(state, payer, request));
  } catch (cause) {
    if (cause instanceof PartlyPinned && state.quirks.has('partial-register-counts')) return cause.pages;
    throw cause;
  }
  if (known !== undefined) known.references += 1;
  state.enabled = true;
  return 0;
}

function create(state: TceState, payer: Payer, request: RegionRequest): Region {
  const region = state.regions.create(payer, request, state.host.memory);
  state.charged.add(region);
  return region;
}

/**
 * Takes memory out of the container; the last container's call unpins it and gives the charge back.
 * @throws TCE_NO_OWNER (EPERM), TCE_BAD_MEMORY (EINVAL), TCE_UNKNOWN_MEMORY (ENOENT), TCE_MEMORY_IN_USE (EBUSY).
 * Source: tce_iommu_unregister_pages().
 */
export function unregisterMemory(state: TceState, caller: Task, memory: Memory): void {
  const { mm } = state.payer('unregister', caller);
  const region = state.regions.find(mm, checkMemory('unregister', memory));
  const index = region === undefined ? -1 : state.registered.indexOf(region);
  if (region === undefined || index < 0) throw tceErrors.UNKNOWN_MEMORY(memory);
  const leaks = state.quirks.has('busy-unregister-leaks');
  if (isBusy(region) && !leaks) throw tceErrors.MEMORY_IN_USE({ ...memory, uses: region.uses });
  state.registered.splice(index, 1);
  letGo(state, region);
}

/** The container ends: it lets go of all memory it registered. Entries of other containers keep what they lead to. */
export function unregisterAll(state: TceState): void {
  for (const region of state.registered.splice(0)) letGo(state, region);
}

function letGo(state: TceState, region: Region): void {
  state.charged.delete(region);
  if (isBusy(region) && state.quirks.has('busy-unregister-leaks')) {
    state.host.warn('memory-kept', `memory that ${region.uses} entr(ies) lead to stays registered and charged`);
    return;
  }
  state.regions.drop(region);
}

/** The last container's, but entries still lead to it. */
const isBusy = (region: Region): boolean => region.references === 1 && region.uses > 0;

/** The pages of a request. @throws TCE_BAD_MEMORY (EINVAL). */
function checkMemory(operation: string, memory: Memory): RegionRequest {
  const { vaddr, size } = memory;
  if (pageOffset(vaddr) !== 0 || pageOffset(size) !== 0) throw tceErrors.BAD_MEMORY({ operation, vaddr, size });
  return { first: vaddrFrame(vaddr), pages: Number(size >> 12n) };
}
