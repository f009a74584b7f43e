import {
  asIovaFrame,
  asPfn,
  type BackendGroup,
  type FrameRange,
  type IommuDomain,
  type IommuGroup,
  rangesOverlap,
  type Task,
} from '@pinion/core';
import { type1Errors } from './errors.js';
import { binding, cutToAperture, exclude, type IovaRanges, WHOLE_SPACE } from './iova-ranges.js';
import type { Mapping } from './mapping.js';
import { copyTranslations, pinAndMap, unmapPages, unpinMapped } from './page-runs.js';
import { removeAllMappings } from './remove.js';
import type { DomainSlot, Type1State } from './state.js';

/** A passthrough group with its hardware. */
interface HardGroup {
  readonly group: BackendGroup;
  readonly iommu: IommuGroup;
}

/** The domain made for a group that joins, and whether the group sits behind it right now. */
interface FreshDomain {
  readonly domain: IommuDomain;
  attached: boolean;
}

/**
 * Attaches a group, in the kernel's order of checks; a failure leaves everything as it was.
 * @throws TYPE1_VADDR_INVALID (EBUSY), TYPE1_ATTACHED, TYPE1_NO_IOMMU, TYPE1_NO_NESTING, TYPE1_APERTURE, TYPE1_RESERVED,
 * TYPE1_NO_RANGES (EINVAL), TYPE1_UNSAFE_INTERRUPTS (EPERM), and what pinning and the hardware throw.
 * Source: vfio_iommu_type1_attach_group().
 */
export function attachGroup(state: Type1State, group: BackendGroup, caller: Task): void {
  if (state.invalidVaddrs > 0) throw type1Errors.VADDR_INVALID({ operation: 'attach', count: state.invalidVaddrs });
  if (isAttached(state, group)) throw type1Errors.ATTACHED({ group: group.name });
  if (group.type === 'emulated') {
    state.emulated.unshift(group);
    return;
  }
  if (group.iommu === undefined) throw type1Errors.NO_IOMMU({ group: group.name });
  if (state.nesting) throw type1Errors.NO_NESTING({ group: group.name });
  attachHard(state, { group, iommu: group.iommu }, caller);
}

const isAttached = (state: Type1State, group: BackendGroup): boolean =>
  state.emulated.includes(group) || state.domains.some((slot) => slot.groups.includes(group));

function attachHard(state: Type1State, hard: HardGroup, caller: Task): void {
  const { group, iommu } = hard;
  const fresh: FreshDomain = { domain: iommu.allocDomain(), attached: false };
  try {
    iommu.attach(fresh.domain);
    fresh.attached = true;
    const ranges = checkFit(state, hard, fresh.domain);
    if (!joinExisting(state, hard, fresh)) {
      replay(state, fresh.domain, caller);
      state.domains.unshift({ domain: fresh.domain, groups: [group] });
    }
    state.ranges = ranges;
  } catch (cause) {
    if (fresh.attached) iommu.detach(fresh.domain);
    fresh.domain.free();
    throw cause;
  }
  state.updatePageSizes();
  state.unscoped.add(group);
}

/** Whether the group's hardware can serve what the container maps. @returns the IOVA ranges with this group. */
function checkFit(state: Type1State, { group, iommu }: HardGroup, domain: IommuDomain): IovaRanges {
  checkAperture(state, group, domain.aperture);
  for (const { range } of binding(iommu.reserved)) {
    const mapping = state.mappings.overlapping(range);
    if (mapping !== undefined) throw type1Errors.RESERVED({ group: group.name, reserved: range, mapping });
  }
  const ranges = exclude(cutToAperture(state.ranges, domain.aperture), iommu.reserved);
  if (ranges.length === 0) throw type1Errors.NO_RANGES({ group: group.name });
  if (!iommu.isolatedInterrupts && !state.parameters().allowUnsafeInterrupts) {
    throw type1Errors.UNSAFE_INTERRUPTS({ group: group.name });
  }
  return ranges;
}

/** Source: vfio_iommu_aper_conflict(). */
function checkAperture(state: Type1State, group: BackendGroup, aperture: FrameRange): void {
  const { ranges, quirks } = state;
  if (ranges.length === 0 && quirks.has('aperture-check-needs-ranges')) return;
  const window = windowOf(ranges);
  if (!rangesOverlap(window, aperture)) throw type1Errors.APERTURE({ group: group.name, aperture });
  const mapping = mappingBelow(state, window, aperture) ?? mappingAbove(state, window, aperture);
  if (mapping !== undefined) throw type1Errors.APERTURE({ group: group.name, aperture, mapping });
}

const windowOf = (ranges: IovaRanges): FrameRange => ({
  first: ranges[0]?.first ?? WHOLE_SPACE.first,
  last: ranges[ranges.length - 1]?.last ?? WHOLE_SPACE.last,
});

function mappingBelow(state: Type1State, window: FrameRange, aperture: FrameRange): Mapping | undefined {
  if (aperture.first <= window.first) return undefined;
  return state.mappings.overlapping({ first: window.first, last: asIovaFrame(aperture.first - 1) });
}

function mappingAbove(state: Type1State, window: FrameRange, aperture: FrameRange): Mapping | undefined {
  if (aperture.last >= window.last) return undefined;
  if (window.last === WHOLE_SPACE.last && state.quirks.has('aperture-check-wraps')) return undefined;
  return state.mappings.overlapping({ first: asIovaFrame(aperture.last + 1), last: window.last });
}

/**
 * Groups whose hardware is alike share a domain: nothing to replay, nothing to charge. @returns whether one took the group.
 * @throws what the hardware throws if the group cannot even go back behind its own.
 */
function joinExisting(state: Type1State, { group, iommu }: HardGroup, fresh: FreshDomain): boolean {
  const { domain } = fresh;
  for (const slot of state.domains) {
    if (slot.domain.hardware !== domain.hardware || slot.domain.coherent !== domain.coherent) continue;
    iommu.detach(domain);
    fresh.attached = false;
    if (tryAttach(iommu, slot.domain)) {
      slot.groups.unshift(group);
      domain.free();
      return true;
    }
    iommu.attach(domain);
    fresh.attached = true;
  }
  return false;
}

function tryAttach(iommu: IommuGroup, domain: IommuDomain): boolean {
  try {
    iommu.attach(domain);
    return true;
  } catch {
    return false; // why: a domain that does not take this group is no failure, the group's own one stays
  }
}

/**
 * Maps everything into a new domain: translations are copied from the first domain if there is one, otherwise pages are
 * pinned and charged now. All or nothing. Source: vfio_iommu_replay().
 */
function replay(state: Type1State, domain: IommuDomain, caller: Task): void {
  const done: Mapping[] = [];
  try {
    for (const mapping of state.mappings.all()) {
      replayOne(state, mapping, domain, caller);
      done.push(mapping);
    }
  } catch (cause) {
    for (const mapping of done.reverse()) {
      if (mapping.iommuMapped) domain.unmap(mapping.first, mapping.pages);
      else unpinMapped(state, mapping, mapping.pages, [domain]);
    }
    throw cause;
  }
  for (const mapping of done) mapping.iommuMapped = true;
}

function replayOne(state: Type1State, mapping: Mapping, domain: IommuDomain, caller: Task): void {
  if (state.neverWalked(mapping)) return;
  const first = state.domains[0]?.domain;
  if (mapping.iommuMapped && first !== undefined) {
    try {
      copyTranslations(state, mapping, first, domain);
    } catch (cause) {
      domain.unmap(mapping.first, mapping.pages);
      throw cause;
    }
    return;
  }
  pinAndMap(state, mapping, replaySource(state, mapping, caller), [domain]);
}

/** Whose memory a replay pins. The kernel takes the attacher's; ours is the one that mapped. */
function replaySource(state: Type1State, mapping: Mapping, caller: Task): { mm: Mapping['mm']; task: Task } {
  if (!state.quirks.has('replay-from-attacher')) {
    if (mapping.mm.alive) return { mm: mapping.mm, task: mapping.task };
    throw type1Errors.OWNER_GONE({ operation: 'attach', range: mapping, mm: mapping.mm.name });
  }
  if (caller.mm === null) throw type1Errors.NO_MEMORY_OF_CALLER({ operation: 'attach', task: caller.name });
  return { mm: caller.mm, task: caller };
}

/**
 * Detaches a group. The last group of all drops every mapping; the last passthrough group leaves the pinned pages charged.
 * Source: vfio_iommu_type1_detach_group().
 */
export function detachGroup(state: Type1State, group: BackendGroup): void {
  const emulated = state.emulated.indexOf(group);
  if (emulated >= 0) {
    state.emulated.splice(emulated, 1);
    if (state.emulated.length === 0 && state.domains.length === 0) removeAllMappings(state);
    return;
  }
  const slot = state.domains.find((candidate) => candidate.groups.includes(group));
  if (slot === undefined) return;
  group.iommu?.detach(slot.domain);
  slot.groups.splice(slot.groups.indexOf(group), 1);
  if (slot.groups.length === 0) dropDomain(state, slot);
  state.ranges = rangesOfAll(state);
  if (!state.unscoped.delete(group) || !state.tracking) return;
  for (const mapping of state.mappings.all()) mapping.dirty?.markAll();
}

function dropDomain(state: Type1State, slot: DomainSlot): void {
  if (state.domains.length === 1) {
    if (state.emulated.length === 0) removeAllMappings(state);
    else for (const mapping of state.mappings.all()) reaccount(state, mapping, slot);
  } else {
    for (const mapping of state.mappings.all()) slot.domain.unmap(mapping.first, mapping.pages);
  }
  state.domains.splice(state.domains.indexOf(slot), 1);
  slot.domain.free();
  state.updatePageSizes();
}

/** Pages the IOMMU held go, pages drivers pinned stay and are charged from now on. Source: vfio_iommu_unmap_unpin_reaccount(). */
function reaccount(state: Type1State, mapping: Mapping, slot: DomainSlot): void {
  const put = unmapPages(state, mapping, mapping.pages, [slot.domain]);
  mapping.iommuMapped = false;
  let pinned = 0;
  const count = (pfn: number): void => {
    if (state.host.memory.pageClass(asPfn(pfn)) === 'normal') pinned += 1;
  };
  mapping.pins?.forEach(0, mapping.pages - 1, (_page, pfn) => {
    count(pfn);
  });
  mapping.oddPins?.each((_offset, pfn) => {
    count(pfn);
  });
  state.locked.settle(mapping, pinned - put);
}

/** Apertures of all domains together, less all reserved regions. Without domains: everything, as one range. */
function rangesOfAll(state: Type1State): IovaRanges {
  let ranges: IovaRanges = [WHOLE_SPACE];
  for (const slot of state.domains) {
    ranges = cutToAperture(ranges, slot.domain.aperture);
    for (const group of slot.groups) ranges = exclude(ranges, group.iommu?.reserved ?? []);
  }
  return ranges;
}
