import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COMMAND, CONFIG, msi, msix, PciDevice, REGION, STATUS } from '@pinion/pci';
import { bar, identity, Port } from './port.js';

const CAP = 0x40;
const MASTER = COMMAND.MEMORY | COMMAND.BUS_MASTER;

function open(capabilities: ConstructorParameters<typeof PciDevice>[0]['capabilities'] = []): {
  pci: PciDevice;
  port: Port;
} {
  const pci = new PciDevice({ identity, bars: [bar(0, 'memory32', 0x4000)], capabilities });
  const port = new Port(pci.ops());
  port.setConfig(CONFIG.COMMAND, MASTER, 2);
  return { pci, port };
}

describe('the pin', () => {
  test('is heard when it goes up and whenever the device says it is up; STATUS follows the level', () => {
    const { pci, port } = open();
    pci.setIntx(true);
    port.setConfig(CONFIG.COMMAND, MASTER, 2);
    assert.deepEqual([port.took(), port.config(CONFIG.STATUS, 2) & STATUS.INTERRUPT], [['0:0'], STATUS.INTERRUPT]);
    pci.setIntx(true);
    assert.deepEqual(port.took(), ['0:0']);
    pci.setIntx(false);
    assert.deepEqual([port.took(), port.config(CONFIG.STATUS, 2) & STATUS.INTERRUPT], [[], 0]);
    pci.setIntx(true);
    assert.deepEqual(port.took(), ['0:0']);
  });

  test('disabled: silent, but STATUS tells; enabled again: heard if still up', () => {
    const { pci, port } = open();
    port.setConfig(CONFIG.COMMAND, COMMAND.INTX_DISABLE, 2);
    pci.setIntx(true);
    assert.deepEqual(
      [port.took(), port.config(CONFIG.STATUS, 2), pci.interrupts.intxDue],
      [[], STATUS.INTERRUPT, false],
    );
    port.setConfig(CONFIG.COMMAND, 0, 2);
    assert.deepEqual([port.took(), pci.interrupts.intxDue], [['0:0'], true]);
  });

  test('a listener that makes the device look again is not called from inside itself', () => {
    const { pci, port } = open();
    let calls = 0;
    port.ops.setIrqSink?.(() => {
      calls += 1;
      pci.setIntx(true);
    });
    pci.setIntx(true);
    assert.equal(calls, 1);
  });

  test('whoever begins to listen hears a line that is up', () => {
    const { pci, port } = open();
    port.ops.setIrqSink?.(undefined);
    pci.setIntx(true);
    assert.deepEqual(port.took(), []);
    port.ops.setIrqSink?.((index, vector) => port.irqs.push(`${index}:${vector}`));
    assert.deepEqual(port.took(), ['0:0']);
  });

  test('a reset lowers it', async () => {
    const { pci, port } = open();
    pci.setIntx(true);
    await port.ops.reset?.();
    assert.deepEqual([port.config(CONFIG.STATUS, 2), pci.interrupts.asserted], [0, false]);
  });
});

describe('MSI', () => {
  const enable = (port: Port, bits = 1): void => port.setConfig(CAP + 2, bits, 2);

  test('off: the device is told to use the pin', () => {
    const { pci } = open([msi({ vectors: 4 })]);
    assert.equal(pci.signal(0), false);
  });

  test('on: messages go out and the pin is silent', () => {
    const { pci, port } = open([msi({ vectors: 4 })]);
    enable(port, 0x21);
    pci.setIntx(true);
    for (const vector of [0, 3]) assert.equal(pci.signal(vector), true);
    assert.deepEqual(port.took(), ['1:0', '1:3']);
    assert.throws(() => pci.signal(4), { name: 'PCI_BAD_VECTOR', errno: 'EINVAL' });
  });

  test('fewer enabled than asked for: vectors are folded, and so is the data', () => {
    const { pci, port } = open([msi({ vectors: 4 })]);
    port.setConfig(CAP + 4, 0xfee0_1003);
    port.setConfig(CAP + 8, 0x1);
    port.setConfig(CAP + 12, 0x4041, 2);
    enable(port, 0x11);
    pci.signal(3);
    assert.deepEqual([port.took(), pci.message(3)], [['1:1'], { address: 0x1_fee0_1000n, data: 0x4041 }]);
  });

  test('more enabled than there are: as many as there are', () => {
    const { pci, port } = open([msi({ vectors: 2, wide: false })]);
    enable(port, 0x71);
    pci.signal(1);
    assert.deepEqual([port.took(), pci.message(1)], [['1:1'], { address: 0n, data: 1 }]);
  });

  test('masked: pending, visible, and sent when unmasked', () => {
    const { pci, port } = open([msi({ vectors: 4, maskable: true })]);
    enable(port, 0x21);
    port.setConfig(CAP + 16, 0b0110);
    for (const vector of [0, 1, 2]) pci.signal(vector);
    assert.deepEqual([port.took(), port.config(CAP + 20)], [['1:0'], 0b0110]);
    port.setConfig(CAP + 16, 0b0100);
    assert.deepEqual([port.took(), port.config(CAP + 20)], [['1:1'], 0b0100]);
  });

  test('no bus master: nothing leaves until it is one', () => {
    const { pci, port } = open([msi()]);
    enable(port);
    port.setConfig(CONFIG.COMMAND, 0, 2);
    pci.signal(0);
    assert.deepEqual(port.took(), []);
    port.setConfig(CONFIG.COMMAND, MASTER, 2);
    assert.deepEqual(port.took(), ['1:0']);
  });

  for (const vectors of [0, 3, 33, 64, -1]) {
    test(`${vectors} vectors are refused`, () => assert.throws(() => msi({ vectors }), { name: 'PCI_BAD_CAPABILITY' }));
  }
});

describe('MSI-X', () => {
  const TABLE = 0x2000;
  const PBA = 0x3000;
  const parts = [msix({ vectors: 70, table: { bar: 0, offset: TABLE }, pba: { bar: 0, offset: PBA } })];
  const control = (port: Port, bits: number): void => port.setConfig(CAP + 2, bits, 2);

  test('a table that its owner uses: masked at first, entry by entry', () => {
    const { pci, port } = open(parts);
    control(port, 0xc000);
    port.put(0, TABLE + 69 * 16, 0xfee0_0000);
    port.put(0, TABLE + 69 * 16 + 8, 0x41);
    control(port, 0x8000);
    for (const vector of [0, 69]) pci.signal(vector);
    assert.deepEqual([port.took(), port.get64(0, PBA), port.get64(0, PBA + 8)], [[], 1n, 0x20n]);
    port.put(0, TABLE + 69 * 16 + 12, 0);
    assert.deepEqual([port.took(), port.get64(0, PBA + 8)], [['2:69'], 0n]);
    assert.deepEqual(pci.message(69), { address: 0xfee0_0000n, data: 0x41 });
    port.put(0, TABLE + 12, 0xffff_fffe);
    assert.deepEqual([port.took(), port.get(0, TABLE + 12)], [['2:0'], 0], 'reserved bits stay zero');
  });

  test('a table that nobody wrote belongs to the VMM: messages go out', () => {
    const { pci, port } = open(parts);
    control(port, 0x8000);
    pci.signal(5);
    assert.deepEqual([port.took(), port.get64(0, PBA)], [['2:5'], 0n]);
  });

  test('function mask: pending until it is cleared', () => {
    const { pci, port } = open(parts);
    control(port, 0xc000);
    pci.signal(1);
    pci.signal(1);
    assert.deepEqual([port.took(), port.get64(0, PBA)], [[], 2n]);
    control(port, 0x8000);
    assert.deepEqual([port.took(), port.get64(0, PBA)], [['2:1'], 0n]);
  });

  test('MSI-X beats MSI', () => {
    const { pci, port } = open([...parts, msi()]);
    port.setConfig(0x4e, 1, 2);
    control(port, 0x8000);
    pci.signal(7);
    assert.deepEqual(port.took(), ['2:7']);
  });

  test('the pending bits cannot be written, the table not in pieces; the rest of the BAR is the device’s', () => {
    const { pci, port } = open(parts);
    control(port, 0xc000);
    pci.signal(0);
    port.put(0, PBA, 0, 8);
    port.put(0, TABLE, 0xff, 1);
    port.put(0, TABLE + 2, 0xffff_ffff, 4);
    port.put(0, TABLE - 4, 0x1111_1111_2222_2222n, 8);
    assert.deepEqual([port.get64(0, PBA), port.get(0, TABLE - 4)], [1n, 0x2222_2222]);
    assert.equal(port.get64(0, TABLE), 0x1111_1111n, 'the half that covers a whole register arrives');
    assert.equal(port.get(0, TABLE + 70 * 16), 0x5a5a_5a5a);
  });

  const wrong: readonly (readonly [what: string, place: Parameters<typeof msix>[0]])[] = [
    ['no vectors', { vectors: 0, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x100 } }],
    ['too many vectors', { vectors: 2049, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x100 } }],
    ['an unaligned table', { vectors: 1, table: { bar: 0, offset: 4 }, pba: { bar: 0, offset: 0x100 } }],
    ['an unaligned pending array', { vectors: 1, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x101 } }],
    ['no such BAR', { vectors: 1, table: { bar: 1, offset: 0 }, pba: { bar: 0, offset: 0x100 } }],
    ['a table over the end', { vectors: 2, table: { bar: 0, offset: 0x3ff0 }, pba: { bar: 0, offset: 0 } }],
    ['a pending array over the end', { vectors: 1, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x4000 } }],
    ['both in one place', { vectors: 2, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x18 } }],
  ];
  for (const [what, place] of wrong) {
    test(`${what}: refused`, () =>
      assert.throws(() => open([msix(place)]), { name: 'PCI_BAD_CAPABILITY', errno: 'EINVAL' }));
  }

  test('the request and error interrupts', () => {
    const { pci, port } = open(parts);
    port.ops.request?.(1);
    pci.interrupts.raise(3);
    assert.deepEqual(port.took(), ['4:0', '3:0']);
    assert.equal(port.ops.regions?.at(-1)?.index, REGION.CONFIG);
  });
});
