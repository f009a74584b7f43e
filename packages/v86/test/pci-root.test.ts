import assert from 'node:assert/strict';
import test from 'node:test';
import { type Capability, dwordBar, memoryBar, msi, msix, PciDevice } from '@pinion/pci';
import { PciRoot } from '@pinion/v86';
import fc from 'fast-check';

/** A bus without a CPU, and what it did to the CPU's pins. */
function makeBus() {
  const pins: string[] = [];
  const warnings: string[] = [];
  const root = new PciRoot(
    {
      setIrq: (line, up) => void pins.push(`${line} ${up ? 'up' : 'down'}`),
      deliverMessage: (vector) => void pins.push(`vector ${vector}`),
    },
    { info: () => {}, warn: (message) => void warnings.push(message) },
  );
  const dword = (value: number): Uint8Array => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
    return bytes;
  };
  const number = (bytes: Uint8Array | undefined): number | undefined =>
    bytes?.reduceRight((value, byte) => value * 256 + byte, 0);
  const select = (slot: number, offset: number, more = 0): void =>
    root.portOut(0xcf8, dword(0x8000_0000 | more | (slot << 11) | offset));
  return {
    root,
    pins,
    warnings,
    number,
    select,
    read(slot: number, offset: number): number | undefined {
      select(slot, offset);
      return number(root.portIn(0xcfc, 4));
    },
    write(slot: number, offset: number, value: number): void {
      select(slot, offset);
      root.portOut(0xcfc, dword(value));
    },
  };
}

/** A function with one window of memory and one of ports. `fail` makes its registers throw. */
function makeFunction(
  name: string,
  capabilities: readonly Capability[] = [],
  handler = memoryBar(new Uint8Array(4096)),
) {
  const memory = new Uint8Array(4096);
  const pci = new PciDevice({
    name,
    identity: { vendor: 0x1de5, device: 0x00aa, classCode: 0xff0000, interruptPin: 'A' },
    bars: [
      { index: 0, kind: 'memory32', size: 4096, handler: capabilities.length > 0 ? handler : memoryBar(memory) },
      { index: 2, kind: 'io', size: 16, handler: memoryBar(new Uint8Array(16).fill(0x77)) },
      { index: 4, kind: 'memory64', size: 4096, handler: memoryBar(new Uint8Array(4096).fill(0x44)) },
    ],
    capabilities,
  });
  const ops = pci.ops();
  const state = { fail: false };
  const access = <T>(action: () => T): T => {
    if (state.fail) throw new RangeError('broken');
    return action();
  };
  return {
    pci,
    memory,
    state,
    bus: {
      name,
      regions: ops.regions ?? [],
      read: (region: number, offset: number, length: number) =>
        access(() => {
          const bytes = new Uint8Array(length);
          ops.readRegion(region, offset, bytes);
          return bytes;
        }),
      write: (region: number, offset: number, bytes: Uint8Array) =>
        access(() => ops.writeRegion(region, offset, bytes)),
      deliverTo: (receive: (interrupt: { index: number; vector: number }) => void) =>
        ops.setIrqSink((index, vector) => receive({ index, vector })),
    },
  };
}

const ONES = 0xffff_ffff;

test('nobody there: every register of every slot, other buses, other functions, mechanism off', () => {
  const { root, number, select, read } = makeBus();
  root.plug(makeFunction('a').bus);
  assert.deepEqual([read(0, 0), read(1, 0), read(2, 0)], [0x1237_8086, 0x00aa_1de5, ONES]);
  for (const more of [0x1_0000, 0x100, 0x700]) {
    select(1, 0, more);
    assert.equal(number(root.portIn(0xcfc, 4)), ONES);
  }
  root.portOut(0xcf8, Uint8Array.of(0, 8, 0, 0));
  assert.equal(number(root.portIn(0xcfc, 4)), ONES, 'not enabled');
});

test('the address register is written and read whole; parts of it, and the reset port in it, do nothing', () => {
  const { root, number, select } = makeBus();
  select(3, 0x40);
  root.portOut(0xcf9, Uint8Array.of(6));
  root.portOut(0xcf8, Uint8Array.of(1, 2));
  assert.equal(number(root.portIn(0xcf8, 4)), 0x8000_1840);
  assert.deepEqual([number(root.portIn(0xcf9, 1)), number(root.portIn(0xcfa, 2))], [0xff, 0xffff]);
});

test('configuration in bytes and words, at the end of the space, and read-only in the bridge', () => {
  const { root, number, select, read, write } = makeBus();
  root.plug(makeFunction('a').bus);
  select(1, 0);
  assert.deepEqual([number(root.portIn(0xcfd, 1)), number(root.portIn(0xcfe, 2))], [0x1d, 0x00aa]);
  select(1, 0xfc);
  assert.equal(number(root.portIn(0xcff, 4)), 0xffff_ff00, 'one byte of the space, then nothing');
  root.portOut(0xcff, Uint8Array.of(1, 2, 3, 4));
  write(0, 0, 0);
  write(31, 0, 0);
  assert.equal(read(0, 0), 0x1237_8086);
});

test('windows open and close with the command register, move, and are cut at their end', () => {
  const { root, number, write } = makeBus();
  const { bus, memory } = makeFunction('a');
  root.plug(bus);
  memory.fill(0x11);
  write(1, 0x10, 0xc000_0000);
  write(1, 0x18, 0xc000);
  assert.equal(root.load('memory', 0xc000_0000, 4), undefined);
  write(1, 4, 1);
  assert.equal(number(root.load('io', 0xc00f, 1)), 0x77);
  assert.equal(number(root.load('io', 0xc00e, 4)), 0xffff_7777);
  assert.equal(root.load('memory', 0xc000_0000, 4), undefined);
  write(1, 4, 2);
  assert.deepEqual([root.load('io', 0xc00f, 1), number(root.load('memory', 0xc000_0ffd, 4))], [undefined, 0xff11_1111]);
  assert.equal(root.store('memory', 0xc000_0ffe, Uint8Array.of(1, 2, 3, 4)), true);
  assert.deepEqual([...memory.subarray(0xffc)], [0x11, 0x11, 1, 2]);
  assert.equal(root.store('memory', 0xc000_1000, Uint8Array.of(1)), false);
  write(1, 0x10, 0xd000_0000);
  assert.equal(root.load('memory', 0xc000_0000, 1), undefined);
  assert.equal(number(root.load('memory', 0xd000_0000, 1)), 0x11);
});

test('a 64-bit window answers below 4 GiB only; one that would run over the end, or has no address, does not', () => {
  const { root, number, write } = makeBus();
  root.plug(makeFunction('a').bus);
  write(1, 4, 2);
  write(1, 0x20, 0xe100_0000);
  assert.equal(number(root.load('memory', 0xe100_0000, 1)), 0x44);
  write(1, 0x24, 1);
  assert.equal(root.load('memory', 0xe100_0000, 1), undefined);
  assert.equal(root.load('memory', 0, 1), undefined, 'BAR 0 has no address yet');
  write(1, 0x10, 0xffff_f000);
  assert.equal(number(root.load('memory', 0xffff_ffff, 4)), 0xffff_ff00);
});

test('a function comes back to its slot; a replaced one does not take its successor away; 32 do not fit', () => {
  const { root, read } = makeBus();
  const unplugs = Array.from({ length: 31 }, (_, n) => root.plug(makeFunction(`f${n}`).bus));
  assert.throws(() => root.plug(makeFunction('one too many').bus), { name: 'V86_NO_SLOT', errno: 'ENOSPC' });
  unplugs[4]?.();
  assert.deepEqual([read(5, 0), root.slotOf('f4')], [ONES, 5]);
  root.plug(makeFunction('f4').bus);
  unplugs[4]?.();
  assert.equal(read(5, 0), 0x00aa_1de5);
});

test('the pin: a line is up as long as anybody on it is, and goes down when STATUS says so', () => {
  const { root, pins, write, read } = makeBus();
  const functions = [1, 2, 3].map((n) => makeFunction(`f${n}`));
  const unplugs = functions.map(({ bus }) => root.plug(bus));
  const [first, , third] = functions;
  first?.pci.setIntx(true);
  third?.pci.setIntx(true);
  assert.deepEqual(pins.splice(0), ['11 up'], 'slots 1 and 3 share line 11');
  first?.pci.setIntx(false);
  assert.deepEqual([read(1, 0x3c), pins.splice(0)], [0x0000_010b, []]);
  write(1, 0x3c, 0x0b);
  assert.deepEqual(pins.splice(0), [], 'slot 3 still holds it');
  write(3, 4, 0x400);
  assert.deepEqual(pins.splice(0), ['11 down'], 'the pin was disabled');
  write(3, 4, 0);
  assert.deepEqual(pins.splice(0), ['11 up'], 'and enabled while the device still asks');
  unplugs[2]?.();
  assert.deepEqual(pins.splice(0), ['11 down'], 'it was taken out');
  third?.pci.setIntx(true);
  assert.deepEqual(pins, []);
});

const messages: readonly (readonly [
  what: string,
  address: number,
  data: number,
  result: readonly string[],
  warning: RegExp,
])[] = [
  ['a good one', 0xfee0_0000, 0x51, ['vector 81'], /^$/],
  ['lowest priority', 0xfee0_100c, 0x151, ['vector 81'], /^$/],
  ['an address of memory', 0x0010_0000, 0x51, [], /f: message 0 is lost: its address 0x100000 is no local APIC's/],
  ['an NMI', 0xfee0_0000, 0x402, [], /delivery mode 4/],
  ['a vector of exceptions', 0xfee0_0000, 0x0e, [], /vector 14 is reserved/],
];
for (const [what, address, data, result, warning] of messages) {
  test(`MSI and MSI-X messages: ${what}`, () => {
    for (const kind of ['msi', 'msix'] as const) {
      const { root, pins, warnings, write } = makeBus();
      const place = { vectors: 1, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 2048 } };
      const { pci, bus } = makeFunction(
        'f',
        [kind === 'msi' ? msi() : msix(place)],
        dwordBar({ read: () => 0, write: () => {} }),
      );
      root.plug(bus);
      write(1, 0x10, 0xc000_0000);
      write(1, 4, 6);
      if (kind === 'msi') {
        write(1, 0x44, address);
        write(1, 0x4c, data);
        write(1, 0x40, 0x0081_0005);
      } else {
        for (const [n, value] of [address, 0, data, 0].entries()) {
          const bytes = new Uint8Array(4);
          new DataView(bytes.buffer).setUint32(0, value, true);
          root.store('memory', 0xc000_0000 + n * 4, bytes);
        }
        write(1, 0x40, 0x8000_0011);
      }
      pci.signal(0);
      assert.deepEqual([pins, warnings.length], [result, result.length === 0 ? 1 : 0], kind);
      assert.match(warnings.join(), warning);
    }
  });
}

test('a device that throws is logged and reads as ones; nothing gets out of the bus', () => {
  const { root, warnings, write, read, number } = makeBus();
  const { bus, state } = makeFunction('f');
  root.plug(bus);
  write(1, 0x10, 0xc000_0000);
  write(1, 4, 2);
  state.fail = true;
  assert.deepEqual([read(1, 0), number(root.load('memory', 0xc000_0000, 4))], [ONES, ONES]);
  assert.equal(root.store('memory', 0xc000_0000, Uint8Array.of(1)), true);
  assert.deepEqual(warnings, ['f: a read failed', 'f: a write failed'], 'each is said once');
});

test('whatever software writes into configuration: accesses answer, windows stay inside 32 bits', () => {
  const step = fc.record({ slot: fc.nat(3), offset: fc.nat(255), value: fc.nat(0xffff_ffff), at: fc.nat(0xffff_ffff) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { root, pins, write, read } = makeBus();
      for (const name of ['a', 'b']) root.plug(makeFunction(name, [msi()]).bus);
      for (const { slot, offset, value, at } of steps) {
        write(slot, offset & 0xfc, value);
        assert.equal(typeof read(slot, offset & 0xfc), 'number');
        assert.ok((root.load('memory', at, 4)?.length ?? 4) === 4);
        assert.ok((root.load('io', at & 0xffff, 2)?.length ?? 2) === 2);
      }
      assert.deepEqual(pins, []);
      assert.equal(read(0, 0), 0x1237_8086);
    }),
    { numRuns: 60 },
  );
});
