/**
 * A whole backend from nothing, for mediated devices: no IOMMU, and instead of RLIMIT_MEMLOCK a quota of pinned pages per
 * owner. Change what `fault` does; what must stay true is in core's README, and minimal.test.ts checks it.
 */
import * as core from '@pinion/core';

const shown = (list: readonly number[]): string => list.map((frame) => core.hex(core.frameAddress(frame))).join(', ');
const errors = core.catalogue('MINIMAL', {
  NO_IOMMU: ['EPERM', (d: { group: string }) => `group ${d.group} wants an IOMMU; this backend has none, use type1`],
  BAD_REQUEST: ['EINVAL', (d: { what: string }) => d.what],
  OVERLAP: ['EEXIST', (d: { range: core.FrameRange }) => `map: ${core.formatRange(d.range)} is mapped already`],
  RIGHTS: ['EPERM', (d: { frame: number }) => `pin: iova ${shown([d.frame])} is not mapped with these rights`],
  OWNER_GONE: ['ENODEV', (d: { mm: string }) => `pin: the memory ${d.mm} is gone`],
  SPENT: ['ENOMEM', (d: { quota: number; mm: string }) => `${d.mm} has spent its quota of ${d.quota} pinned pages`],
  KEPT: ['EBUSY', (d: { who: string }) => `unmap: still pinned after ${ROUNDS} rounds of dmaUnmap, by ${d.who}`],
});
const bad = (what: string): unknown => errors.BAD_REQUEST({ what });
const ROUNDS = 11; // rounds of callbacks that a mapping gets before its pins count as leaked
interface Mapping {
  readonly range: core.FrameRange;
  readonly vaddr: number;
  readonly mm: core.AddressSpace;
  readonly prot: core.Prot;
  readonly pins: Map<number, { readonly pfn: core.Pfn; references: number }>;
}

/** The frames of a request. @throws MINIMAL_BAD_REQUEST (EINVAL). */
function framesOf({ flags, iova, size, argsz = 32 }: core.UnmapRequest, known: number, minArgsz: number) {
  if (argsz < minArgsz || core.unknownFlags(flags, known) !== 0) throw bad(`argsz ${argsz}, flags ${flags}`);
  if (size <= 0n || core.pageOffset(iova | size) !== 0) throw bad(`${size} bytes at ${iova} are no whole pages`);
  if (iova < 0n || iova + size > core.ADDRESS_SPACE_SIZE) throw bad(`${size} bytes at ${iova} leave the address space`);
  return core.frameRange(core.iovaFrame(iova), Number(size >> 12n));
}
function unmapRange(request: core.UnmapRequest): core.FrameRange {
  if (request.flags !== core.UNMAP_FLAG.ALL) return framesOf(request, 0, core.MIN_ARGSZ.UNMAP);
  if (request.iova === 0n && request.size === 0n) return core.frameRange(core.asIovaFrame(0), core.LAST_FRAME + 1);
  throw bad('unmap: ALL takes no range');
}

function openMinimal(host: core.BackendHost, quota: number): core.IommuBackend {
  const mappings: Mapping[] = []; // ascending
  const devices: core.BackendDevice[] = []; // newest first
  const rounds = new core.Mutex(); // one round at a time, and nobody comes or goes during one
  const homeOf = (frame: number) => mappings.find(({ range }) => core.rangeHolds(range, frame));
  const pinnedBy = (mm: core.AddressSpace): number =>
    mappings.reduce((sum, mapping) => sum + (mapping.mm === mm ? mapping.pins.size : 0), 0);
  function fault({ mm, vaddr, range, prot }: Mapping, frame: number): core.Pfn {
    if (!mm.alive) throw errors.OWNER_GONE({ mm: mm.name });
    if (pinnedBy(mm) >= quota) throw errors.SPENT({ quota, mm: mm.name });
    const pfn = mm.pinPage(core.asVaddrFrame(vaddr + frame - range.first), (prot & core.PROT_WRITE) !== 0);
    if (host.memory.pageClass(pfn) === 'device') throw bad(`pin: iova ${shown([frame])} leads to device memory`);
    return pfn;
  }
  function pin(frame: number, prot: core.Prot): core.Pfn {
    const home = homeOf(frame);
    if (home === undefined) throw bad(`pin: iova ${shown([frame])} is not mapped`);
    if ((home.prot & prot) !== prot) throw errors.RIGHTS({ frame });
    const { pfn, references } = home.pins.get(frame) ?? { pfn: fault(home, frame), references: 0 };
    home.pins.set(frame, { pfn, references: references + 1 });
    return pfn;
  }
  function unpin(first: number, count: number): void {
    for (let frame = first; frame < first + count; frame += 1) {
      const pins = homeOf(frame)?.pins;
      const held = pins?.get(frame);
      if (held === undefined || --held.references > 0) continue;
      pins?.delete(frame);
      host.memory.unpinPage(held.pfn, true);
    }
  }
  /** One round: the whole mapping, to every device, whatever one of them does. */
  const announce = ({ range, pins }: Mapping): Promise<void> =>
    rounds.run(async () => {
      const failures: unknown[] = [];
      for (const device of pins.size > 0 ? [...devices] : [])
        await device.dmaUnmap(range).catch((failure: unknown) => failures.push(failure));
      if (failures.length > 0) throw failures[0];
    });
  const leak = ({ range }: Mapping): unknown => {
    const guilty = devices.filter((device) => device.pinnedFrames(range).length > 0);
    return errors.KEPT({
      who: guilty.map((d) => `${d.driver} ${d.name} (${shown(d.pinnedFrames(range))})`).join('; '),
    });
  };
  const remove = (mapping: Mapping): void => {
    mappings.splice(mappings.indexOf(mapping), 1);
    mapping.mm.drop();
    host.unmapped(mapping.range);
  };
  return {
    get stats() {
      const sum = (of: (mapping: Mapping) => number): number => mappings.reduce((all, one) => all + of(one), 0);
      const mappedBytes = core.pagesToBytes(sum(({ range }) => core.frameCount(range)));
      return { mappings: mappings.length, mappedBytes, pinnedPages: sum(({ pins }) => pins.size), lockedPages: 0 };
    },
    attachGroup({ name, type }) {
      if (type !== 'emulated') throw errors.NO_IOMMU({ group: name });
    },
    detachGroup() {},
    release: () => [...mappings].forEach(remove),
    map(request, { mm }) {
      const { flags: prot, vaddr } = request;
      const range = framesOf(request, core.PROT_RW, core.MIN_ARGSZ.MAP);
      if (prot === 0 || core.pageOffset(vaddr) !== 0 || mm === null) throw bad('map: no rights, page or process');
      if (mappings.some((other) => core.rangesOverlap(other.range, range))) throw errors.OVERLAP({ range });
      mm.grab(); // who it is must be known when its process is gone
      mappings.push({ range, vaddr: core.vaddrFrame(vaddr), mm, prot, pins: new Map() });
      mappings.sort((a, b) => a.range.first - b.range.first);
      host.mapped(range, prot);
    },
    async unmap(request) {
      const { first, last } = unmapRange(request);
      const next = () => mappings.find(({ range }) => first <= range.first && range.last <= last);
      let pages = 0;
      for (let mapping = next(); mapping !== undefined; mapping = next()) {
        for (let round = 0; mapping.pins.size > 0 && round < ROUNDS; round += 1) await announce(mapping);
        if (mapping.pins.size > 0) throw leak(mapping);
        if (!mappings.includes(mapping)) continue; // another unmap was faster
        pages += core.frameCount(mapping.range);
        remove(mapping);
      }
      return { size: core.pagesToBytes(pages) };
    },
    info(argsz = 24) {
      if (argsz < core.MIN_ARGSZ.INFO) throw bad(`info: argsz ${argsz}`);
      return { argsz: 24, flags: core.INFO_FLAG.PGSIZES, pgsizes: 4096n, capabilities: [] };
    },
    registerDevice: (device) => rounds.run(() => void devices.unshift(device)),
    unregisterDevice: (device) => rounds.run(() => void devices.splice(devices.indexOf(device), 1)),
    pinPages(_group, first, _offset, count, prot, out) {
      let done = 0;
      try {
        for (; done < count; done += 1) out[done] = pin(first + done, prot);
      } catch (cause) {
        unpin(first, done); // all or nothing
        throw cause;
      }
    },
    unpinPages: (first, _offset, count) => unpin(first, count),
  };
}

/** The backend as a plugin: `quota` pages for each owner. It answers to type1v2's number, so guests need not know. */
export function minimal(quota: number): core.Plugin {
  const checkExtension = (extension: number): number => (extension === core.EXTENSION.TYPE1v2_IOMMU ? 1 : 0);
  const open = (_type: number, host: core.BackendHost): core.IommuBackend => openMinimal(host, quota);
  const register = (scope: core.PluginScope): void => scope.backend({ name: 'minimal', checkExtension, open });
  return core.definePlugin({ name: 'minimal', core: '^0.1', register });
}
