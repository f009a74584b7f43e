import {
  asIovaFrame,
  asPfn,
  asVaddrFrame,
  type BackendGroup,
  frameAddress,
  type IovaFrame,
  LAST_FRAME,
  type Pfn,
  PIN_PAGES_MAX,
  PROT_WRITE,
  type Prot,
} from '@pinion/core';
import { markDirty } from './dirty.js';
import { type1Errors } from './errors.js';
import type { Mapping } from './mapping.js';
import { putPage } from './page-runs.js';
import type { Type1State } from './state.js';

/** What is asked, for one call. */
export interface PinRequest {
  readonly group: BackendGroup;
  readonly first: IovaFrame;
  /** Where in the first page the caller pointed, 0..4095; dropped unless the quirk unaligned-pins keeps it. */
  readonly offset: number;
  readonly count: number;
  readonly prot: Prot;
}

/**
 * Pins pages for a driver. A page that is pinned already is handed out again, without a look at the memory. New pages are
 * faulted in with the mapping's rights (not the pin's), and charged only while no domain has everything pinned. All or nothing.
 *
 * @throws TYPE1_NOT_V2 (EACCES), TYPE1_VADDR_INVALID (EBUSY), TYPE1_NO_DUTY (EINVAL); per page TYPE1_NOT_MAPPED (EINVAL), TYPE1_PROT
 * (EPERM), TYPE1_OWNER_GONE (ENODEV), EFAULT and the like of the memory, TYPE1_MEMLOCK (ENOMEM), TYPE1_DEVICE_PAGE (EINVAL),
 * and what the pin table refuses.
 * Source: vfio_iommu_type1_pin_pages().
 */
export function pinPages(state: Type1State, request: PinRequest, out: Float64Array): void {
  const offset = state.quirks.has('unaligned-pins') ? request.offset : 0;
  checkCall(state, request, offset);
  let done = 0;
  try {
    for (; done < request.count; done += 1) {
      out[done] = pinOne(state, asIovaFrame(request.first + done), offset, request.prot);
    }
  } catch (cause) {
    for (let page = 0; page < done; page += 1) unpinOne(state, asIovaFrame(request.first + page), offset);
    out.fill(0, 0, done);
    throw cause;
  }
  if (state.tracking && !state.quirks.has('failed-pin-dirties')) markCall(state, request);
  state.unscoped.delete(request.group);
}

function checkCall(state: Type1State, request: PinRequest, offset: number): void {
  if (!state.v2) throw type1Errors.NOT_V2({ operation: 'pin' });
  const last = request.first + request.count - 1;
  if (last > LAST_FRAME || (last === LAST_FRAME && offset > 0)) {
    const range = { iova: frameAddress(request.first), size: frameAddress(request.count) };
    if (state.quirks.has('wrap-is-eoverflow')) throw type1Errors.TOO_LARGE({ operation: 'pin', ...range });
  }
  if (state.invalidVaddrs > 0) {
    state.host.warn('vaddr-invalid', 'a driver pins while mappings have no vaddr');
    throw type1Errors.VADDR_INVALID({ operation: 'pin', count: state.invalidVaddrs });
  }
  if (state.devices.length === 0) throw type1Errors.NO_DUTY({ group: request.group.name });
}

function markCall(state: Type1State, request: PinRequest): void {
  for (let page = 0; page < request.count; page += 1) {
    const frame = asIovaFrame(request.first + page);
    const mapping = state.mappings.find(frame);
    if (mapping !== undefined) markDirty(state, mapping, frame - mapping.first, frame - mapping.first);
  }
}

/** The mapping that a page-sized access at frame+offset touches: with an offset, it reaches into the next page. */
function mappingAt(state: Type1State, frame: IovaFrame, offset: number): Mapping | undefined {
  if (offset === 0 || frame === LAST_FRAME) return state.mappings.find(frame);
  return state.mappings.overlapping({ first: frame, last: asIovaFrame(frame + 1) });
}

/** For messages only: making a bigint costs as much as pinning a page. */
const addressOf = (frame: IovaFrame, offset: number): bigint => frameAddress(frame) + BigInt(offset);

function pinOne(state: Type1State, frame: IovaFrame, offset: number, prot: Prot): Pfn {
  const mapping = frame > LAST_FRAME ? undefined : mappingAt(state, frame, offset);
  if (mapping === undefined) throw type1Errors.NOT_MAPPED({ operation: 'pin', iova: addressOf(frame, offset) });
  if ((mapping.prot & prot) !== prot) {
    const iova = addressOf(frame, offset);
    throw type1Errors.PROT({ operation: 'pin', iova, wanted: prot, granted: mapping.prot });
  }
  const page = frame - mapping.first;
  const known =
    offset === 0 ? (mapping.pins?.acquire(page) ?? -1) : (mapping.oddPins?.acquire(page * 4096 + offset) ?? -1);
  if (known >= 0) return asPfn(known);
  const pfn = takePage(state, mapping, page);
  try {
    if (offset === 0) state.pinsOf(mapping).insert(page, pfn);
    else state.oddPinsOf(mapping).insert(page * 4096 + offset, pfn);
  } catch (cause) {
    givePage(state, mapping, pfn); // why: a table can be too large for its kind, or for the memory there is
    throw cause;
  }
  state.pinnedPages += 1;
  if (state.tracking && state.quirks.has('failed-pin-dirties')) markDirty(state, mapping, page, page);
  return pfn;
}

/** Faults a page in and charges it. Source: vfio_pin_page_external(). */
function takePage(state: Type1State, mapping: Mapping, page: number): Pfn {
  if (!mapping.mm.alive) throw type1Errors.OWNER_GONE({ operation: 'pin', range: mapping, mm: mapping.mm.name });
  const pfn = mapping.mm.pinPage(asVaddrFrame(mapping.vaddr + page), (mapping.prot & PROT_WRITE) !== 0);
  const pageClass = state.host.memory.pageClass(pfn);
  if (pageClass === 'device') throw type1Errors.DEVICE_PAGE({ iova: frameAddress(mapping.first + page) });
  if (pageClass === 'normal' && state.chargesPins) {
    try {
      state.locked.charge(mapping, 1);
    } catch (cause) {
      putPage(state, mapping, pfn);
      throw cause;
    }
  }
  return pfn;
}

/**
 * Drops one reference per page. Never fails: a page that is not pinned is skipped, an address without a mapping is warned
 * about. Source: vfio_iommu_type1_unpin_pages().
 */
export function unpinPages(state: Type1State, first: IovaFrame, offset: number, count: number): void {
  const warn = (problem: string): void =>
    state.host.warn('bad-unpin', `unpin of ${count} page(s) at frame ${first}: ${problem}`);
  const refused = !state.v2 ? 'this container is type1, nothing can be pinned' : badCount(count);
  if (refused !== undefined) {
    warn(refused);
    return;
  }
  const kept = state.quirks.has('unaligned-pins') ? offset : 0;
  for (let page = 0; page < count; page += 1) {
    if (unpinOne(state, asIovaFrame(first + page), kept)) continue;
    warn('part of it is not mapped');
    if (state.quirks.has('unpin-stops-at-hole')) return;
  }
}

const badCount = (count: number): string | undefined =>
  count > 0 && count <= PIN_PAGES_MAX ? undefined : 'the count is not between 1 and 512';

/** @returns false where nothing is mapped. */
function unpinOne(state: Type1State, frame: IovaFrame, offset: number): boolean {
  const mapping = frame > LAST_FRAME ? undefined : mappingAt(state, frame, offset);
  if (mapping === undefined) return false;
  const pfn = dropReference(mapping, frame - mapping.first, offset);
  if (pfn < 0) return true;
  state.pinnedPages -= 1;
  givePage(state, mapping, asPfn(pfn));
  return true;
}

/** Undoes `takePage`. */
function givePage(state: Type1State, mapping: Mapping, pfn: Pfn): void {
  const put = putPage(state, mapping, pfn);
  if (state.chargesPins) state.locked.settle(mapping, -put);
}

/** @returns the host frame when this was its last reference, else -1. */
function dropReference(mapping: Mapping, page: number, offset: number): number {
  if (offset !== 0) return mapping.oddPins?.release(page * 4096 + offset) ?? -1;
  const pins = mapping.pins;
  return pins !== undefined && pins.release(page) === 0 ? pins.releasedPfn : -1;
}
