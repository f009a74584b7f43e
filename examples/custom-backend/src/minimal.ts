/** A whole backend from nothing: mappings in a set, pins in a map, a quota instead of RLIMIT_MEMLOCK, no IOMMU. */
import * as core from '@pinion/core';

const errors = core.catalogue('MINIMAL', {
  NO_IOMMU: ['EPERM', (d: { group: string }) => `group ${d.group} wants an IOMMU; this backend has none`],
  NOT_MAPPED: ['EINVAL', (d: { frame: number }) => `frame ${d.frame} is not mapped`],
  SPENT: ['ENOMEM', (d: { quota: number }) => `the quota of ${d.quota} pinned pages is spent; unpin some`],
  KEPT: ['EBUSY', (d: { range: core.FrameRange }) => `${core.formatRange(d.range)} is still pinned after dmaUnmap`],
});

const framesOf = (r: { iova: bigint; size: bigint }) => core.frameRange(core.iovaFrame(r.iova), Number(r.size >> 12n));

function openMinimal(host: core.BackendHost, quota: number): core.IommuBackend {
  const mappings = new Set<{ range: core.FrameRange; vaddr: number; owner: core.Task }>();
  const devices = new Set<core.BackendDevice>();
  const pins = new Map<number, { pfn: core.Pfn; references: number }>();
  const fault = (frame: number): core.Pfn => {
    const home = [...mappings].find(({ range }) => core.rangeHolds(range, frame));
    if (!home?.owner.mm) throw errors.NOT_MAPPED({ frame });
    return home.owner.mm.pinPage(core.asVaddrFrame(home.vaddr + frame - home.range.first), true);
  };
  const unpin = (frame: number): void => {
    const pin = pins.get(frame);
    if (pin === undefined || --pin.references > 0) return;
    pins.delete(frame);
    host.memory.unpinPage(pin.pfn, true);
  };
  return {
    get stats() {
      const pages = [...mappings].reduce((sum, { range }) => sum + core.frameCount(range), 0);
      return { mappings: mappings.size, mappedBytes: core.pagesToBytes(pages), pinnedPages: pins.size, lockedPages: 0 };
    },
    attachGroup(group) {
      if (group.type !== 'emulated') throw errors.NO_IOMMU({ group: group.name });
    },
    detachGroup() {},
    release: () => mappings.clear(),
    map(request, owner) {
      mappings.add({ range: framesOf(request), vaddr: core.vaddrFrame(request.vaddr), owner });
      host.mapped(framesOf(request), request.flags);
    },
    async unmap(request) {
      const { first, last } = framesOf(request);
      let gone = 0;
      for (const mapping of mappings) {
        const { range } = mapping;
        if (range.first < first || range.last > last) continue;
        for (const device of [...devices].reverse()) await device.dmaUnmap(range); // newest first, the whole mapping
        if ([...pins.keys()].some((frame) => core.rangeHolds(range, frame))) throw errors.KEPT({ range });
        mappings.delete(mapping);
        host.unmapped(range);
        gone += core.frameCount(range);
      }
      return { size: core.pagesToBytes(gone) };
    },
    info: () => ({ argsz: 24, flags: core.INFO_FLAG.PGSIZES, pgsizes: 4096n, capabilities: [] }),
    registerDevice: async (device) => void devices.add(device),
    unregisterDevice: async (device) => void devices.delete(device),
    pinPages(_group, first, _offset, count, _prot, out) {
      let done = 0;
      try {
        for (; done < count; done += 1) {
          const frame = first + done;
          if (!pins.has(frame) && pins.size >= quota) throw errors.SPENT({ quota });
          const pin = pins.get(frame) ?? { pfn: fault(frame), references: 0 };
          pin.references += 1;
          pins.set(frame, pin);
          out[done] = pin.pfn;
        }
      } catch (cause) {
        for (let page = 0; page < done; page += 1) unpin(first + page); // all or nothing
        throw cause;
      }
    },
    unpinPages(first, _offset, count) {
      for (let page = 0; page < count; page += 1) unpin(first + page);
    },
  };
}

/** The backend as a plugin. It answers to type1v2's name, so guests need not know. */
export const minimal = (pages: number): core.Plugin =>
  core.definePlugin({
    name: 'minimal',
    core: '^0.1',
    register(scope) {
      const takes = (extension: number): number => (extension === core.EXTENSION.TYPE1v2_IOMMU ? 1 : 0);
      scope.backend({ name: 'minimal', checkExtension: takes, open: (_type, host) => openMinimal(host, pages) });
    },
  });
