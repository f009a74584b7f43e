import {
  type BackendDevice,
  type FrameRange,
  MIN_ARGSZ,
  Mutex,
  pagesToBytes,
  UNMAP_FLAG,
  type UnmapRequest,
  type UnmapResult,
  unknownFlags,
} from '@pinion/core';
import { checkBitmap, checkBitmapPage, copyBits } from './dirty.js';
import { type Culprit, type1Errors } from './errors.js';
import { WHOLE_SPACE } from './iova-ranges.js';
import type { Mapping } from './mapping.js';
import { removeMapping } from './remove.js';
import { checkBisect, checkNumbers, framesOf, misaligned, wrapError, wraps } from './request-range.js';
import type { Type1State } from './state.js';

/** Rounds of callbacks one mapping gets before its pins count as leaked. Source: BUG_ON(++retries > 10). */
export const MAX_ROUNDS = 11;

const KNOWN = UNMAP_FLAG.GET_DIRTY_BITMAP | UNMAP_FLAG.ALL | UNMAP_FLAG.VADDR;

/** How far one unmap got with the mapping it is waiting for. */
interface Progress {
  waitingFor: Mapping | undefined;
  rounds: number;
  pages: number;
}

/**
 * VFIO_IOMMU_UNMAP_DMA and the `dmaUnmap` protocol.
 *
 * Mappings go in ascending order. One that drivers have pinned pages of is first announced, as a whole, to every open
 * device with the duty, newest first, the backend unlocked; then everything is looked up afresh. A mapping that is still pinned after
 * 11 rounds is a leak: TYPE1_PIN_LEAK (EBUSY) names who holds which frames, the mapping stays, mappings before it are gone.
 * A duty that throws or does not settle ends the unmap with its error, after all devices of the round were called.
 *
 * Errors in the kernel's order: TYPE1_BAD_ARGSZ, TYPE1_BAD_FLAGS, TYPE1_BAD_BITMAP (EINVAL), TYPE1_BITMAP_FAULT (EFAULT),
 * TYPE1_VADDR_WITH_MDEV (EBUSY), TYPE1_BAD_ALIGNMENT, TYPE1_BAD_ALL, TYPE1_WRAPS, TYPE1_TRACKING_OFF, TYPE1_BISECTS (EINVAL).
 * @returns bytes that are gone: 0 for a hole; with type1 (v1) perhaps more than asked. Source: vfio_dma_do_unmap().
 */
export async function unmap(state: Type1State, request: UnmapRequest, rounds: CallbackRounds): Promise<UnmapResult> {
  const frames = checkRequest(state, request);
  if (request.flags & UNMAP_FLAG.VADDR) return { size: invalidateVaddrs(state, request, frames) };
  const progress: Progress = { waitingFor: undefined, rounds: 0, pages: 0 };
  for (let pinned = removeUnpinned(state, request, frames, progress); pinned !== undefined; ) {
    await announce(state, pinned, progress, rounds);
    pinned = removeUnpinned(state, request, frames, progress);
  }
  return { size: pagesToBytes(progress.pages) };
}

function checkRequest(state: Type1State, request: UnmapRequest): FrameRange {
  const { flags, iova, size } = request;
  checkNumbers('unmap', { iova, size });
  checkHead(request);
  if (flags & UNMAP_FLAG.VADDR && state.emulated.length > 0) throw type1Errors.VADDR_WITH_MDEV({});
  const unaligned = (): unknown => type1Errors.BAD_ALIGNMENT({ operation: 'unmap', iova, size, page: state.minPage });
  if (flags & UNMAP_FLAG.ALL) {
    if (iova !== 0n || size !== 0n) throw misaligned(state, iova) ? unaligned() : type1Errors.BAD_ALL({ iova, size });
    return WHOLE_SPACE;
  }
  const wrapped = wraps(iova, size);
  if (wrapped && size !== 0n && state.quirks.has('wrap-is-eoverflow')) throw wrapError(state, 'unmap', request);
  if (size === 0n || misaligned(state, iova, size)) throw unaligned();
  if (wrapped) throw wrapError(state, 'unmap', request);
  if (request.bitmap !== undefined && flags & UNMAP_FLAG.GET_DIRTY_BITMAP) {
    if (!state.tracking) throw type1Errors.TRACKING_OFF({});
    checkBitmapPage(state, request.bitmap);
  }
  const frames = framesOf(request);
  if (state.v2) checkBisect(state, 'unmap', request, frames);
  return frames;
}

/** What is checked before the container's state is looked at. */
function checkHead(request: UnmapRequest): void {
  const { flags } = request;
  const dirty = (flags & UNMAP_FLAG.GET_DIRTY_BITMAP) !== 0;
  const argsz = request.argsz ?? MIN_ARGSZ.UNMAP_BITMAP;
  const need = (min: number): void => {
    if (argsz < min) throw type1Errors.BAD_ARGSZ({ operation: 'unmap', argsz, min });
  };
  const bad = (problem: string): unknown => type1Errors.BAD_FLAGS({ operation: 'unmap', flags, problem });
  need(MIN_ARGSZ.UNMAP);
  if (unknownFlags(flags, KNOWN) !== 0) throw bad('unknown bits are set');
  if (!dirty) return;
  if (flags & (UNMAP_FLAG.ALL | UNMAP_FLAG.VADDR)) throw bad('GET_DIRTY_BITMAP goes alone');
  need(MIN_ARGSZ.UNMAP_BITMAP);
  checkBitmap(request.bitmap, request.size);
}

/** The first mapping a request touches. type1 (v1) stops at once if that one begins before the request. */
function firstInside(state: Type1State, request: UnmapRequest, frames: FrameRange): Mapping | undefined {
  const mapping = state.mappings.firstInside(frames, (request.flags & UNMAP_FLAG.ALL) !== 0);
  return mapping !== undefined && !state.v2 && frames.first > mapping.first ? undefined : mapping;
}

/** Removes mappings up to the first that is pinned. @returns that one, undefined when all are gone. */
function removeUnpinned(
  state: Type1State,
  request: UnmapRequest,
  frames: FrameRange,
  progress: Progress,
): Mapping | undefined {
  if (progress.waitingFor !== undefined && !stillWhole(state, request, frames)) return undefined;
  let mapping = firstInside(state, request, frames);
  while (mapping !== undefined && mapping.pinnedPages === 0) {
    if (request.bitmap !== undefined && request.flags & UNMAP_FLAG.GET_DIRTY_BITMAP) {
      copyBits(state, mapping, { data: request.bitmap.data, base: frames.first });
    }
    const following = state.mappings.nextInside(mapping, frames);
    progress.pages += removeMapping(state, mapping);
    mapping = following;
  }
  return mapping;
}

/** During a round the map may have changed: a mapping made meanwhile may be cut by the request. */
function stillWhole(state: Type1State, request: UnmapRequest, frames: FrameRange): boolean {
  if (!state.v2 || request.flags & UNMAP_FLAG.ALL) return true;
  try {
    checkBisect(state, 'unmap', request, frames);
    return true;
  } catch (cause) {
    if (state.quirks.has('late-bisect-succeeds')) return false;
    throw cause;
  }
}

async function announce(
  state: Type1State,
  mapping: Mapping,
  progress: Progress,
  rounds: CallbackRounds,
): Promise<void> {
  if (progress.waitingFor !== mapping) {
    progress.waitingFor = mapping;
    progress.rounds = 0;
  }
  const range: FrameRange = { first: mapping.first, last: mapping.last };
  if (progress.rounds >= MAX_ROUNDS || state.devices.length === 0) {
    throw type1Errors.PIN_LEAK({
      range,
      rounds: progress.rounds,
      pages: mapping.pinnedPages,
      culprits: culprits(state.devices, range),
    });
  }
  progress.rounds += 1;
  // why: while this one waited its turn, another unmap may have seen to it that the pins are gone
  await rounds.run(range, () => mapping.pinnedPages > 0);
}

const culprits = (devices: readonly BackendDevice[], range: FrameRange): readonly Culprit[] =>
  devices
    .map((device) => ({ device: device.name, driver: device.driver, frames: device.pinnedFrames(range) }))
    .filter((culprit) => culprit.frames.length > 0);

/** VADDR: the mappings stay, but nobody can pin or copy through them until they get a new vaddr. All or nothing. */
function invalidateVaddrs(state: Type1State, request: UnmapRequest, frames: FrameRange): bigint {
  const touched: Mapping[] = [];
  let next = firstInside(state, request, frames);
  while (next !== undefined) {
    if (next.vaddrInvalid) {
      throw type1Errors.VADDR_MISMATCH({ range: next, problem: 'its vaddr was taken away already' });
    }
    touched.push(next);
    next = state.mappings.nextInside(next, frames);
  }
  let pages = 0;
  for (const mapping of touched) {
    mapping.vaddrInvalid = true;
    pages += mapping.pages;
  }
  state.invalidVaddrs += touched.length;
  return pagesToBytes(pages);
}

/**
 * The devices with the duty, and the rounds of callbacks over them: one round at a time, and nobody comes or goes during
 * one. Source: vfio_iommu.device_list and device_list_lock.
 */
export class CallbackRounds {
  readonly #devices: BackendDevice[];
  readonly #lock = new Mutex();

  /** `devices`: newest first; kept up to date here. */
  constructor(devices: BackendDevice[]) {
    this.#devices = devices;
  }

  register(device: BackendDevice): Promise<void> {
    return this.#lock.run(() => {
      if (device.hasDmaUnmap) this.#devices.unshift(device);
    });
  }

  unregister(device: BackendDevice): Promise<void> {
    return this.#lock.run(() => {
      const index = this.#devices.indexOf(device);
      if (index >= 0) this.#devices.splice(index, 1);
    });
  }

  /**
   * Calls every device, newest first, unless the round is not `wanted` any more when its turn comes.
   * @throws the first failure, after all were called.
   */
  run(range: FrameRange, wanted: () => boolean): Promise<void> {
    return this.#lock.run(async () => {
      if (!wanted()) return;
      const failures: unknown[] = [];
      for (const device of [...this.#devices]) {
        await device.dmaUnmap(range).catch((failure: unknown) => failures.push(failure));
      }
      if (failures.length > 0) throw failures[0];
    });
  }
}
