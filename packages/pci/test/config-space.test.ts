import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  COMMAND,
  CONFIG,
  express,
  msi,
  msix,
  PciDevice,
  powerManagement,
  REGION,
  serialNumber,
  vendorSpecific,
} from '@pinion/pci';
import { bar, identity, Port, toHex } from './port.js';

const open = (spec: Partial<ConstructorParameters<typeof PciDevice>[0]> = {}): { pci: PciDevice; port: Port } => {
  const pci = new PciDevice({ identity, ...spec });
  return { pci, port: new Port(pci.ops()) };
};

describe('configuration header', () => {
  test('golden: a function with one BAR of each kind and every capability', () => {
    const { port } = open({
      bars: [bar(0, 'memory64', 0x4000), bar(2, 'io', 0x40), bar(4, 'memory32', 0x1000, true)],
      capabilities: [
        powerManagement(),
        msi({ vectors: 4, maskable: true }),
        msix({ vectors: 3, table: { bar: 0, offset: 0x2000 }, pba: { bar: 0, offset: 0x3000 } }),
        vendorSpecific(Uint8Array.of(0xaa, 0xbb)),
        express(),
        serialNumber(0x1122_3344_5566_7788n),
      ],
    });
    // PCI 3.0 figure 6-1: vendor, device, command, status, revision and class, latency and header type; the six BARs.
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0, 16)), '34127856000010000902080100000000');
    assert.equal(toHex(port.bytes(REGION.CONFIG, 16, 24)), '040000000000000001000000000000000800000000000000');
    // subsystem, no ROM, capability pointer, pin A
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x2c, 20)), '3412785600000000400000000000000000010000');
    // PM at 0x40, MSI at 0x48 (24 bytes), MSI-X at 0x60 (12), vendor at 0x6c (5), PCI Express at 0x74 (60)
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x40, 8)), '0148030008000000');
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x48, 24)), `05608401${'00'.repeat(20)}`);
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x60, 12)), '116c02000020000000300000');
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x6c, 8)), '097405aabb000000');
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x74, 20)), '1000020000800010000000001100000000001100');
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0x100, 12)), '030001008877665544332211');
    assert.equal(port.ops.regions?.find(({ index }) => index === REGION.CONFIG)?.size, 4096);
  });

  test('regions and interrupts as VFIO counts them', () => {
    const { port } = open({
      bars: [bar(2, 'io', 0x40)],
      rom: new Uint8Array(3000),
      capabilities: [msi({ vectors: 2 })],
    });
    assert.deepEqual(
      port.ops.regions?.map(({ index, size, writable }) => [index, size, writable]),
      [
        [2, 0x40, true],
        [6, 4096, false],
        [7, 256, true],
      ],
    );
    assert.deepEqual(
      port.ops.irqs?.map(({ index, count }) => [index, count]),
      [
        [0, 1],
        [1, 2],
        [4, 1],
      ],
    );
  });

  test('identity, class and capability pointer cannot be written; all six BARs take a write, used or not', () => {
    const { port } = open({ bars: [bar(0, 'memory32', 16)] });
    const before = toHex(port.bytes(REGION.CONFIG, 0, 256));
    for (const offset of [0x00, 0x08, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x2c, 0x30, 0x34])
      port.setConfig(offset, 0xffff_ffff);
    assert.equal(toHex(port.bytes(REGION.CONFIG, 0, 256)), before);
  });

  const commands: readonly (readonly [what: string, spec: Parameters<typeof open>[0], writable: number])[] = [
    ['no BAR', {}, 0x544],
    ['memory only', { bars: [bar(0, 'memory32', 16)] }, 0x546],
    ['I/O only', { bars: [bar(0, 'io', 4)] }, 0x545],
    ['a ROM', { rom: new Uint8Array(1) }, 0x546],
    ['no pin', { identity: { vendor: 1, device: 2, classCode: 0 } }, 0x144],
  ];
  for (const [what, spec, writable] of commands) {
    test(`command register with ${what}`, () => {
      const { port } = open(spec);
      port.setConfig(CONFIG.COMMAND, 0xffff, 2);
      assert.equal(port.config(CONFIG.COMMAND, 2), writable);
    });
  }

  test('status: error bits go out where a one is written, the others stay', () => {
    const { pci, port } = open({ capabilities: [powerManagement()] });
    pci.config.set16(CONFIG.STATUS, 0xf918);
    port.setConfig(CONFIG.COMMAND, 0x8000_0000);
    assert.equal(port.config(CONFIG.STATUS, 2), 0x7918);
    port.setConfig(CONFIG.STATUS, 0xffff, 2);
    assert.equal(port.config(CONFIG.STATUS, 2), 0x0018);
  });

  test('reads and writes of any length, also over the end', () => {
    const { port } = open();
    assert.equal(toHex(port.bytes(REGION.CONFIG, 1, 2)), '1278');
    assert.equal(toHex(port.bytes(REGION.CONFIG, 254, 4)), '0000ffff');
    port.put(REGION.CONFIG, 254, 0xffff_ffff);
    assert.equal(port.bytes(REGION.CONFIG, 0, 256).length, 256);
  });
});

describe('decoding', () => {
  const ones = 0xffff_ffff;
  const bars = () => [bar(0, 'memory32', 0x1000), bar(2, 'io', 0x40)];

  const states: readonly (readonly [command: number, memory: number, io: number])[] = [
    [0, ones, ones],
    [COMMAND.MEMORY, 0x5a5a_5a5a, ones],
    [COMMAND.IO, ones, 0x5a5a_5a5a],
    [COMMAND.IO | COMMAND.MEMORY, 0x5a5a_5a5a, 0x5a5a_5a5a],
    [COMMAND.BUS_MASTER, ones, ones],
  ];
  for (const [command, memory, io] of states) {
    test(`command 0x${command.toString(16)}: what is off reads as ones and takes no writes`, () => {
      const { port } = open({ bars: bars() });
      port.setConfig(CONFIG.COMMAND, command, 2);
      assert.deepEqual([port.get(0, 0x10), port.get(2, 0x10)], [memory, io]);
      port.put(0, 0x10, 1);
      port.put(2, 0x10, 1);
      port.setConfig(CONFIG.COMMAND, COMMAND.IO | COMMAND.MEMORY, 2);
      assert.deepEqual(
        [port.get(0, 0x10), port.get(2, 0x10)],
        [memory === ones ? 0x5a5a_5a5a : 1, io === ones ? 0x5a5a_5a5a : 1],
      );
    });
  }

  test('in D3hot only configuration answers, and state survives it', () => {
    const { pci, port } = open({ bars: bars(), capabilities: [powerManagement()] });
    port.setConfig(CONFIG.COMMAND, COMMAND.MEMORY | COMMAND.BUS_MASTER, 2);
    port.put(0, 0, 7);
    port.setConfig(0x44, 3, 2);
    assert.deepEqual([port.get(0, 0), pci.busMaster, port.config(0)], [ones, false, 0x5678_1234]);
    port.setConfig(0x44, 0, 2);
    assert.deepEqual([port.get(0, 0), pci.busMaster], [7, true]);
  });

  test('a ROM answers when memory and the ROM are on, and is never written', () => {
    const { port } = open({ rom: Uint8Array.of(0x55, 0xaa) });
    const reads = [port.get(REGION.ROM, 0, 2)];
    port.setConfig(CONFIG.ROM, 0xfffff801);
    reads.push(port.get(REGION.ROM, 0, 2));
    port.setConfig(CONFIG.COMMAND, COMMAND.MEMORY, 2);
    port.put(REGION.ROM, 0, 0);
    reads.push(port.get(REGION.ROM, 0, 2), port.get(REGION.ROM, 2046, 2));
    port.setConfig(CONFIG.ROM, 0);
    reads.push(port.get(REGION.ROM, 0, 2));
    assert.deepEqual(reads, [0xffff, 0xffff, 0xaa55, 0, 0xffff]);
  });

  test('windows: what answers, with the addresses software gave', () => {
    const { pci, port } = open({ bars: [bar(0, 'memory64', 0x4000), bar(2, 'io', 0x40)] });
    port.setConfig(CONFIG.BAR0, 0xfeb0_1234);
    port.setConfig(CONFIG.BAR0 + 4, 0x12);
    port.setConfig(CONFIG.BAR0 + 8, 0xc041);
    assert.deepEqual(pci.windows, []);
    port.setConfig(CONFIG.COMMAND, COMMAND.IO | COMMAND.MEMORY, 2);
    assert.deepEqual(pci.windows, [
      { index: 0, kind: 'memory64', size: 0x4000, address: 0x12_feb0_0000n },
      { index: 2, kind: 'io', size: 0x40, address: 0xc040n },
    ]);
  });
});

describe('reset', () => {
  const build = (causes: string[], settle: () => Promise<void> = async () => {}) =>
    open({
      bars: [bar(0, 'memory32', 0x1000)],
      capabilities: [express()],
      reset: (cause) => {
        causes.push(cause);
        return settle();
      },
    });
  const DEVICE_CONTROL = 0x48;

  test('function level reset: everything as at power-on; the bit reads as zero', async () => {
    const causes: string[] = [];
    let end = (): void => {};
    const { port } = build(causes, () => new Promise((resolve) => (end = resolve)));
    port.setConfig(CONFIG.COMMAND, 0x546, 2);
    port.setConfig(CONFIG.BAR0, 0xfeb0_0000);
    port.setConfig(DEVICE_CONTROL, 0x8000 | 0x2810, 2);
    assert.deepEqual(causes, ['flr']);
    assert.deepEqual(
      [port.config(CONFIG.COMMAND, 2), port.config(CONFIG.BAR0), port.config(DEVICE_CONTROL, 2)],
      [0, 0, 0],
    );
    port.setConfig(CONFIG.COMMAND, COMMAND.MEMORY, 2);
    assert.equal(port.get(0, 0), 0xffff_ffff, 'registers wait for the end of the reset');
    end();
    await new Promise(setImmediate);
    assert.equal(port.get(0, 0), 0x5a5a_5a5a);
  });

  test('VFIO_DEVICE_RESET keeps configuration, the last close does not', async () => {
    const causes: string[] = [];
    const { port } = build(causes);
    port.setConfig(CONFIG.BAR0, 0xfeb0_0000);
    await port.ops.reset?.();
    assert.equal(port.config(CONFIG.BAR0), 0xfeb0_0000);
    await port.ops.close?.();
    assert.equal(port.config(CONFIG.BAR0), 0);
    assert.deepEqual(causes, ['device', 'close']);
  });

  test('a reset that fails is the caller’s error, or a line in the log', async () => {
    const warned: string[] = [];
    const { port } = open({
      capabilities: [express()],
      reset: () => Promise.reject(new RangeError('stuck')),
      log: { info: () => {}, warn: (message) => warned.push(message) },
    });
    await assert.rejects(async () => port.ops.reset?.(), /stuck/);
    port.setConfig(DEVICE_CONTROL, 0x8000, 2);
    await new Promise(setImmediate);
    assert.deepEqual(warned, ['pci: function level reset failed']);
  });

  test('without the capability nothing resets', () => {
    const causes: string[] = [];
    const { port } = open({ capabilities: [express({ flr: false })], reset: (cause) => void causes.push(cause) });
    port.setConfig(DEVICE_CONTROL, 0xffff, 2);
    assert.deepEqual([causes, port.config(DEVICE_CONTROL, 2)], [[], 0x7fff]);
  });
});
