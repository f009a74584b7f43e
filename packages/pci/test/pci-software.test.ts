import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CAPABILITY, COMMAND, CONFIG, msix, PciDevice, PciSoftware, powerManagement } from '@pinion/pci';
import { bar, identity, Port } from './port.js';

describe('software on the other side', () => {
  const build = () => {
    const bars = [bar(0, 'memory64', 2 ** 33, true), bar(2, 'io', 64), bar(3, 'memory32', 0x4000)];
    const place = { vectors: 2, table: { bar: 3, offset: 0 }, pba: { bar: 3, offset: 0x1000 } };
    const pci = new PciDevice({ identity, bars, capabilities: [powerManagement(), msix(place)] });
    const port = new Port(pci.ops());
    return { pci, port, software: new PciSoftware(pci.ops()) };
  };

  test('sizes every BAR and leaves registers and decoding as they were', () => {
    const { software, port } = build();
    port.setConfig(CONFIG.BAR0 + 4, 0x77);
    software.enable(COMMAND.MEMORY);
    assert.deepEqual(software.sizeBars(), [
      { index: 0, kind: 'memory64', size: 1n << 33n, prefetchable: true },
      { index: 2, kind: 'io', size: 64n, prefetchable: false },
      { index: 3, kind: 'memory32', size: 0x4000n, prefetchable: false },
    ]);
    assert.deepEqual([port.config(CONFIG.BAR0 + 4), port.config(CONFIG.COMMAND, 2)], [0x76, COMMAND.MEMORY]);
  });

  test('places BARs aligned, and the function agrees', () => {
    const { software, pci } = build();
    const addresses = software.assignBars({ memory: 0xe000_1000n, io: 0xc010n });
    software.enable();
    assert.deepEqual(
      [...addresses].sort(),
      pci.windows.map(({ index, address }) => [index, address]),
    );
    assert.deepEqual(
      [0, 2, 3].map((index) => addresses.get(index)),
      [0x2_0000_0000n, 0xc040n, 0xe000_4000n],
    );
  });

  test('switches MSI-X on', () => {
    const { software, port, pci } = build();
    software.enable();
    assert.equal(software.enableMsix([{ vector: 1, address: 0xfee0_0000n, data: 0x31 }]), 2);
    pci.signal(0);
    pci.signal(1);
    assert.deepEqual([port.took(), pci.message(1)], [['2:1'], { address: 0xfee0_0000n, data: 0x31 }]);
    assert.equal(software.capability(CAPABILITY.EXPRESS), undefined);
    assert.equal(new PciSoftware(new PciDevice({ identity }).ops()).enableMsix([]), 0);
  });
});
