/** A mediated device with one register pair: a page to count in, and a bell that counts. */
import { defineDriver, definePlugin, iovaFrame, type PinnedPages, PROT_RW, rangesOverlap } from '@pinion/core';

/** Register 0: guest address of the counter, 8 bytes. Register 8: the bell, any write. */
const ADDRESS = 0;

const driver = defineDriver({
  name: 'counter',
  deviceApi: 'vfio-pci',
  types: [{ id: 'bell', prettyName: 'A bell that counts in guest memory' }],
  maxInstances: 8,
  pins: true,
  create({ pins }) {
    let page: PinnedPages | undefined;
    const drop = (): void => {
      page?.unpin();
      page = undefined;
    };
    return {
      regions: [{ index: 0, name: 'bar0', size: 16, readable: false, writable: true }],
      writeRegion(_index, offset, bytes) {
        if (offset === ADDRESS) {
          drop();
          const iova = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0, true);
          page = pins.pin(iovaFrame(iova), 1, PROT_RW);
          return;
        }
        const [view] = page?.views() ?? [];
        if (view !== undefined) view[0] = (view[0] ?? 0) + 1;
      },
      dmaUnmap(range) {
        if (page !== undefined && rangesOverlap(page.range, range)) drop();
      },
      close: drop,
      reset: drop,
    };
  },
});

export const counter = definePlugin({ name: 'counter', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
