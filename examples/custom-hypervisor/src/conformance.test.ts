/** The suites of hypervisor backends, and of vendor drivers over a vGPU on this one: what to run after changing it. */
import { asGfn, EXTENSION, frameAddress, silentLog } from '@pinion/core';
import { GTT_OFFSET, GvtDevice, gvt, NO_QUIRKS, REGION, SIZE_2M } from '@pinion/gvt';
import {
  type DriverSeat,
  describeHypervisorBackend,
  describeVendorDriver,
  type VendorDriverRig,
} from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { GrantTable, grantHypervisor } from './grant-hypervisor.js';

const PAGE = 4096;

function vgpuOf({ ops }: DriverSeat): GvtDevice {
  if (ops instanceof GvtDevice) return ops;
  throw new TypeError('the driver makes vGPUs');
}

/** One GPU on one hypervisor, made anew for every case. */
function start(): VendorDriverRig {
  const grants = new GrantTable(2048);
  return {
    plugin: gvt({ hypervisor: grantHypervisor(grants) }),
    driver: 'gvt',
    type: 'V5_4',
    parent: () => 'gpu',
    pinSomething(seat, frames) {
      for (const [index, frame] of frames.entries()) {
        const entry = GTT_OFFSET + (vgpuOf(seat).resources.low.base / PAGE + index) * 8;
        const value = BigUint64Array.of(frameAddress(frame) | 3n);
        seat.file.writeRegion(REGION.BAR0, entry, new Uint8Array(value.buffer));
      }
    },
    isIdle: (seat) => vgpuOf(seat).stats.cacheEntries === 0,
    wide: {
      pages: SIZE_2M / PAGE,
      pin: (seat, first) => void vgpuOf(seat).backend.dmaMapGuestPage(asGfn(first), SIZE_2M),
    },
  };
}

describeHypervisorBackend({
  name: 'grants',
  backend: () => type1(),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  capabilities: new Set(['counts', 'large-pages', 'dma-pin']),
  make: ({ name: device, pins, dma }) =>
    grantHypervisor(new GrantTable(2048))({ device, pins, dma, log: silentLog, quirks: NO_QUIRKS }),
});

describeVendorDriver({
  name: 'gvt on grants',
  backend: () => type1(),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  capabilities: new Set(['wide', 'reset']),
  start,
});
