import {
  asVaddrFrame,
  isErrno,
  MAP_FLAG,
  type MapRequest,
  PROT_WRITE,
  type Prot,
  type Task,
  unknownFlags,
  type VaddrFrame,
  vaddrFrame,
} from '@pinion/core';
import { tceErrors } from './errors.js';
import { ENTRY_BYTES } from './hardware.js';
import { pinForDevice } from './regions.js';
import { TCE_ARGSZ } from './requests.js';
import type { TceState } from './state.js';
import type { Target, Window } from './window.js';
import { makeDefaultWindow } from './windows.js';

/** A checked mapping: entries of a window, and the memory they shall lead to. */
interface Job {
  readonly window: Window;
  readonly index: number;
  readonly count: number;
  readonly vaddr: bigint;
  readonly prot: Prot;
}

const BYTES_OF_VIEW_PAGE = 4096n;

/**
 * VFIO_IOMMU_MAP_DMA: lets the window's entries lead to memory, whatever they led to before. v1 pins each page; v2 takes
 * memory that is registered. The first call creates the default window, whether or not the rest of the request is sound.
 * All or nothing. @returns 0; +1 where a quirk takes an unaligned iova for neither success nor failure.
 * @throws TCE_NOT_ENABLED (EPERM), TCE_BAD_ARGSZ, TCE_BAD_FLAGS (EINVAL), what `makeDefaultWindow` throws, TCE_NO_WINDOW
 * (ENXIO), TCE_UNALIGNED, TCE_NO_RIGHTS, TCE_NOT_REGISTERED, TCE_TORN_DOWN (EINVAL), TCE_MAP_FAULT (EFAULT), and as `pinPage`.
 * Source: tce_iommu_ioctl(), tce_iommu_build(), tce_iommu_build_v2(), also for the order of checks.
 */
export function map(state: TceState, request: MapRequest, caller: Task): number {
  if (!state.enabled) throw tceErrors.NOT_ENABLED({ operation: 'map', v2: state.v2 });
  checkHeader(request);
  makeDefaultWindow(state, 'map', caller);
  const job = checkJob(state, request);
  if (job === 'unaligned') return 1;
  build(state, job);
  if (job.count > 0)
    state.host.mapped(job.window.framesOf(job.index, Math.min(job.count, job.window.table.entries)), job.prot);
  return 0;
}

function checkHeader({ argsz = TCE_ARGSZ.MAP, flags }: MapRequest): void {
  if (argsz < TCE_ARGSZ.MAP) throw tceErrors.BAD_ARGSZ({ operation: 'map', argsz, min: TCE_ARGSZ.MAP });
  const unknown = unknownFlags(flags, MAP_FLAG.READ | MAP_FLAG.WRITE);
  if (unknown !== 0) throw tceErrors.BAD_FLAGS({ operation: 'map', flags: unknown });
}

function checkJob(state: TceState, { iova, size, vaddr, flags }: MapRequest): Job | 'unaligned' {
  const window = state.windowAt(iova);
  if (window === undefined) throw tceErrors.NO_WINDOW({ operation: 'map', iova, size });
  checkAligned(window, 'map', { size, vaddr });
  if (flags === 0) throw tceErrors.NO_RIGHTS({ iova, size });
  if (isUnaligned(state, window, 'map', iova)) return 'unaligned';
  checkEnd(state, window, 'map', { iova, size });
  const count = Number(size >> BigInt(window.table.pageShift));
  return { window, index: window.indexOf(iova), count, vaddr, prot: flags };
}

/** @throws TCE_UNALIGNED (EINVAL). */
export function checkAligned(window: Window, operation: string, values: Readonly<Record<string, bigint>>): void {
  const { pageSize } = window;
  for (const [what, value] of Object.entries(values)) {
    if ((value & (pageSize - 1n)) !== 0n) throw tceErrors.UNALIGNED({ operation, what, value, pageSize });
  }
}

/** Whether the iova lies inside a page and nobody says so. @throws TCE_UNALIGNED (EINVAL) by default. */
export function isUnaligned(state: TceState, window: Window, operation: string, iova: bigint): boolean {
  if (!state.quirks.has('unaligned-iova-is-1')) checkAligned(window, operation, { iova });
  return (iova & (window.pageSize - 1n)) !== 0n;
}

/** @throws TCE_NO_WINDOW (ENXIO) for a range that goes on behind its window. */
export function checkEnd(
  state: TceState,
  window: Window,
  operation: string,
  range: { readonly iova: bigint; readonly size: bigint },
): void {
  if (range.iova + range.size <= window.end || state.quirks.has('first-page-bounds')) return;
  throw tceErrors.NO_WINDOW({ operation, ...range });
}

function build(state: TceState, job: Job): void {
  const targets: Target[] = [];
  try {
    for (let entry = 0; entry < job.count; entry += 1) targets.push(findTarget(state, job, entry));
  } catch (cause) {
    for (const target of targets) if (target.region === undefined) state.letGo(target);
    if (state.quirks.has('failed-map-clears')) state.clear(job.window, job.index, targets.length);
    throw cause;
  }
  commit(state, job, targets);
}

/** What an entry shall lead to. v1 has pinned it then. */
function findTarget(state: TceState, job: Job, entry: number): Target {
  const { window, prot } = job;
  const page = pageAt(job, entry);
  const target = state.v2 ? findRegistered(state, job, page) : pinTarget(state, page, prot);
  if (job.index + entry < window.table.entries) return target;
  throw pastTheEnd(state, job, target, job.index + entry);
}

/** Addresses wrap at 2^64 as the kernel's do; nothing is mapped that high. */
const pageAt = ({ window, vaddr }: Job, entry: number): VaddrFrame =>
  vaddrFrame((vaddr + BigInt(entry) * window.pageSize) & 0xffff_ffff_ffff_ffffn);

function pinTarget(state: TceState, page: VaddrFrame, prot: Prot): Target {
  const { owner, host, quirks } = state;
  if (owner === undefined) throw tceErrors.NO_OWNER({ operation: 'map' });
  const write = (prot & PROT_WRITE) !== 0 || quirks.has('read-map-pins-for-write');
  try {
    return { page, prot, pfn: pinForDevice(owner, page, write, host.memory) };
  } catch (cause) {
    throw isErrno(cause, 'EFAULT') ? tceErrors.MAP_FAULT({ vaddr: BigInt(page) << 12n }, cause) : cause;
  }
}

function findRegistered(state: TceState, { window, prot }: Job, page: VaddrFrame): Target {
  const { owner, regions } = state;
  const region = owner && regions.lookup(owner, page, window.pagesPerEntry);
  if (region === undefined || window.table.pageShift > region.pageShift) {
    throw tceErrors.NOT_REGISTERED({ vaddr: BigInt(page) << 12n, size: window.pageSize });
  }
  return { page, prot, pfn: region.frameAt(page), region };
}

/**
 * What happens behind the last entry (under a quirk). v1: the firmware says no. v2: its list of what entries lead to is read
 * behind its end; in the last page of the list this finds nothing and one use of the memory is never given back, farther
 * out it stops the kernel, and is refused here.
 */
function pastTheEnd(state: TceState, { window }: Job, target: Target, index: number): unknown {
  const { entries } = window.table;
  if (target.region === undefined) {
    state.letGo(target);
    return tceErrors.FIRMWARE({ index, entries });
  }
  const view = (BigInt(entries) * ENTRY_BYTES + BYTES_OF_VIEW_PAGE - 1n) & ~(BYTES_OF_VIEW_PAGE - 1n);
  if (BigInt(index) * ENTRY_BYTES >= view) {
    const iova = window.table.start + BigInt(index) * window.pageSize;
    return tceErrors.NO_WINDOW({ operation: 'map', iova, size: window.pageSize });
  }
  target.region.uses += 1;
  return tceErrors.FIRMWARE({ index, entries });
}

/** Writes the entries; what they led to is let go when all are written. */
function commit(state: TceState, job: Job, targets: readonly Target[]): void {
  const { window, index } = job;
  const replaced: { readonly at: number; readonly target: Target; readonly old: Target | undefined }[] = [];
  for (const [entry, target] of targets.entries()) {
    if (target.region?.closed === true) {
      if (state.quirks.has('torn-down-map-is-partial')) break;
      for (const { at, old } of replaced.reverse()) restore(state, window, at, old);
      throw tceErrors.TORN_DOWN({ vaddr: BigInt(target.page) << 12n, size: window.pageSize });
    }
    const at = index + entry;
    use(target, window);
    replaced.push({ at, target, old: window.put(at, target) });
  }
  for (const { old } of replaced) if (old !== undefined) state.letGo(old);
}

function use({ region, page, prot }: Target, window: Window): void {
  if (region === undefined) return;
  region.uses += 1;
  if ((prot & PROT_WRITE) !== 0) region.markDirty(asVaddrFrame(page), window.pagesPerEntry);
}

function restore(state: TceState, window: Window, at: number, old: Target | undefined): void {
  const taken = window.take(at);
  if (taken !== undefined) state.letGo(taken);
  if (old !== undefined) window.put(at, old);
}
