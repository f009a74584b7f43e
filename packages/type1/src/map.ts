import {
  type FrameRange,
  frameAddress,
  MAP_FLAG,
  type MapRequest,
  MIN_ARGSZ,
  type Task,
  unknownFlags,
  vaddrFrame,
} from '@pinion/core';
import { DirtyBits, MAX_DIRTY_PAGES } from './dirty-bits.js';
import { type1Errors } from './errors.js';
import { rangesAllow } from './iova-ranges.js';
import { Mapping } from './mapping.js';
import { pinAndMap } from './page-runs.js';
import { takeOut } from './remove.js';
import { checkNumbers, framesOf, misaligned, wrapError, wraps } from './request-range.js';
import type { Type1State } from './state.js';

const PROT_FLAGS = MAP_FLAG.READ | MAP_FLAG.WRITE;

/**
 * VFIO_IOMMU_MAP_DMA. Without a passthrough group nothing is touched but the list of mappings: no page, no charge, and the
 * memory need not even be there yet. With one, every page is pinned, charged and mapped into every domain. All or nothing.
 *
 * Errors in the kernel's order: TYPE1_BAD_ARGSZ, TYPE1_BAD_FLAGS, TYPE1_BAD_ALIGNMENT, TYPE1_WRAPS (EINVAL); with the VADDR flag
 * TYPE1_VADDR_NOT_MAPPED (ENOENT), TYPE1_VADDR_MISMATCH (EINVAL), TYPE1_MEMLOCK (ENOMEM); else TYPE1_OVERLAP (EEXIST),
 * TYPE1_ENTRY_LIMIT (ENOSPC), TYPE1_OUTSIDE_RANGES (EINVAL), then memory: EFAULT, ENOMEM, EOPNOTSUPP, and the domain's errno.
 * Source: vfio_iommu_type1_map_dma(), vfio_dma_do_map().
 */
export function map(state: Type1State, request: MapRequest, caller: Task): void {
  checkRequest(state, request);
  const range = framesOf(request);
  const mm = caller.mm;
  if (mm === null) throw type1Errors.NO_MEMORY_OF_CALLER({ operation: 'map', task: caller.name });
  if (request.flags & MAP_FLAG.VADDR) {
    updateVaddr(state, { range, request, caller });
    return;
  }
  checkRoom(state, range);
  const vaddr = vaddrFrame(request.vaddr);
  const { first, last } = range;
  const mapping = new Mapping({ first, last, vaddr, prot: request.flags & PROT_FLAGS, task: caller, mm });
  try {
    if (state.domains.length > 0)
      pinAndMap(
        state,
        mapping,
        { mm, task: caller },
        state.domains.map((slot) => slot.domain),
      );
  } catch (cause) {
    mm.drop();
    throw cause;
  }
  mapping.iommuMapped = state.domains.length > 0;
  state.mappings.insert(mapping);
  if (state.tracking) startTracking(state, mapping);
  state.host.mapped(range, mapping.prot);
}

function checkRequest(state: Type1State, request: MapRequest): void {
  const { iova, size, vaddr, flags } = request;
  checkNumbers('map', { iova, size, vaddr });
  const argsz = request.argsz ?? MIN_ARGSZ.MAP;
  if (argsz < MIN_ARGSZ.MAP) throw type1Errors.BAD_ARGSZ({ operation: 'map', argsz, min: MIN_ARGSZ.MAP });
  checkFlags(flags);
  const wrapped = wraps(iova, size) || wraps(vaddr, size);
  // 7.3 looks at the ends before the alignment, but a size of 0 is EINVAL everywhere.
  if (size !== 0n && wrapped && state.quirks.has('wrap-is-eoverflow')) throw wrapError(state, 'map', request);
  if (size === 0n || misaligned(state, iova, size, vaddr)) {
    throw type1Errors.BAD_ALIGNMENT({ operation: 'map', iova, size, page: state.minPage });
  }
  if (wrapped) throw wrapError(state, 'map', request);
}

function checkFlags(flags: number): void {
  const bad = (problem: string): unknown => type1Errors.BAD_FLAGS({ operation: 'map', flags, problem });
  if (unknownFlags(flags, PROT_FLAGS | MAP_FLAG.VADDR) !== 0) throw bad('unknown bits are set');
  const prot = (flags & PROT_FLAGS) !== 0;
  const vaddr = (flags & MAP_FLAG.VADDR) !== 0;
  if (prot && vaddr) throw bad('VADDR goes alone');
  if (!prot && !vaddr) throw bad('neither READ nor WRITE');
}

function checkRoom(state: Type1State, range: FrameRange): void {
  const other = state.mappings.overlapping(range);
  if (other !== undefined) throw type1Errors.OVERLAP({ range, other });
  if (state.entriesLeft <= 0) throw type1Errors.ENTRY_LIMIT({ limit: state.entryLimit });
  if (!rangesAllow(state.ranges, range)) throw type1Errors.OUTSIDE_RANGES({ range });
}

/** A mapping made while dirty pages are tracked gets its bits; one too large for them is taken back. */
function startTracking(state: Type1State, mapping: Mapping): void {
  const bits = mapping.pages / state.minPagePages;
  if (bits <= MAX_DIRTY_PAGES) {
    mapping.dirty = new DirtyBits(bits);
    return;
  }
  takeOut(state, mapping);
  throw type1Errors.TOO_MANY_BITS({ range: { first: mapping.first, last: mapping.last } });
}

/** Gives a mapping whose vaddr was taken away a new one, perhaps in another address space, which is charged instead. */
function updateVaddr(state: Type1State, update: { range: FrameRange; request: MapRequest; caller: Task }): void {
  const { range, request, caller } = update;
  const mapping = state.mappings.overlapping(range);
  if (mapping === undefined) throw type1Errors.VADDR_NOT_MAPPED({ range });
  const mismatch = (problem: string): unknown => type1Errors.VADDR_MISMATCH({ range, problem });
  if (!mapping.vaddrInvalid) throw mismatch('the mapping has a valid vaddr; take it away first');
  if (mapping.first !== range.first || mapping.last !== range.last) {
    throw mismatch(
      `the mapping begins at ${frameAddress(mapping.first)} and has ${mapping.pages} pages; give it whole`,
    );
  }
  changeOwner(state, mapping, caller);
  mapping.vaddr = vaddrFrame(request.vaddr);
  mapping.vaddrInvalid = false;
  state.invalidVaddrs -= 1;
}

/** Source: vfio_change_dma_owner(). @throws TYPE1_MEMLOCK (ENOMEM). */
function changeOwner(state: Type1State, mapping: Mapping, caller: Task): void {
  const mm = caller.mm;
  if (mm === null || mm === mapping.mm) return;
  state.locked.move(mapping, { mm, task: caller });
  mm.grab();
  mapping.mm.drop();
  mapping.mm = mm;
  mapping.task = caller;
  mapping.lockCap = caller.ipcLock;
}
