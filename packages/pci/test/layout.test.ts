import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type BarSpec,
  byteBar,
  type Capability,
  CONFIG,
  dwordBar,
  express,
  type Identity,
  memoryBar,
  msi,
  msix,
  overlaid,
  PciDevice,
  powerManagement,
  REGION,
  serialNumber,
  vendorExtended,
  vendorSpecific,
  walkCapabilities,
} from '@pinion/pci';
import fc from 'fast-check';
import { bar, identity, Port } from './port.js';

const make = (spec: Partial<ConstructorParameters<typeof PciDevice>[0]>): Port =>
  new Port(new PciDevice({ identity, ...spec }).ops());

describe('BARs', () => {
  const kinds = fc.constantFrom('memory32' as const, 'memory64' as const, 'io' as const);
  const sizes = { io: [2, 8], memory32: [4, 31], memory64: [4, 52] } as const;
  const anyBar = kinds.chain((kind) =>
    fc.record({
      kind: fc.constant(kind),
      size: fc.integer({ min: sizes[kind][0], max: sizes[kind][1] }).map((exponent) => 2 ** exponent),
      prefetchable: kind === 'io' ? fc.constant(false) : fc.boolean(),
    }),
  );

  test('sizing as software does it gives the size back, whatever is written', () => {
    fc.assert(
      fc.property(
        fc.array(anyBar, { maxLength: 6 }),
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        (wanted, address) => {
          const bars: BarSpec[] = [];
          let next = 0;
          for (const one of wanted) {
            const width = one.kind === 'memory64' ? 2 : 1;
            if (next + width > 6) continue;
            bars.push({ ...one, index: next, handler: memoryBar(new Uint8Array(0)) });
            next += width;
          }
          const port = make({ bars });
          for (const { index, kind, size, prefetchable } of bars) {
            const at = CONFIG.BAR0 + index * 4;
            const width = kind === 'memory64' ? 8 : 4;
            const flags = kind === 'io' ? 0x3n : 0xfn;
            port.put(REGION.CONFIG, at, (1n << 64n) - 1n, width);
            const sized = port.get64(REGION.CONFIG, at, width);
            const space = 1n << BigInt(width * 8);
            assert.equal(space - (sized & (space - 1n - flags)), BigInt(size));
            const bits = { io: 1n, memory32: 0n, memory64: 4n }[kind] | (prefetchable === true ? 8n : 0n);
            assert.equal(sized & flags, bits);
            port.put(REGION.CONFIG, at, address, width);
            const base = port.get64(REGION.CONFIG, at, width) & (space - 1n - flags);
            assert.equal(base, BigInt.asUintN(width * 8, address) & (space - BigInt(size)));
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  const wrong: readonly (readonly [what: string, bars: readonly BarSpec[], name: string])[] = [
    ['an odd size', [bar(0, 'memory32', 24)], 'PCI_BAD_BAR'],
    ['size zero', [bar(0, 'memory32', 0)], 'PCI_BAD_BAR'],
    ['no number', [bar(0, 'memory32', Number.NaN)], 'PCI_BAD_BAR'],
    ['memory below 16 bytes', [bar(0, 'memory32', 8)], 'PCI_BAD_BAR'],
    ['4 GiB in 32 bits', [bar(0, 'memory32', 2 ** 32)], 'PCI_BAD_BAR'],
    ['too much in 64 bits', [bar(0, 'memory64', 2 ** 53)], 'PCI_BAD_BAR'],
    ['I/O below 4 bytes', [bar(0, 'io', 2)], 'PCI_BAD_BAR'],
    ['I/O above 256 bytes', [bar(0, 'io', 512)], 'PCI_BAD_BAR'],
    ['I/O to prefetch', [bar(0, 'io', 16, true)], 'PCI_BAD_BAR'],
    ['index 6', [bar(6, 'memory32', 16)], 'PCI_BAD_BAR'],
    ['index -1', [bar(-1, 'memory32', 16)], 'PCI_BAD_BAR'],
    ['half an index', [bar(0.5, 'memory32', 16)], 'PCI_BAD_BAR'],
    ['64 bits at index 5', [bar(5, 'memory64', 16)], 'PCI_BAD_BAR'],
    ['one index twice', [bar(1, 'memory32', 16), bar(1, 'io', 16)], 'PCI_BAR_TAKEN'],
    ['the upper half taken', [bar(0, 'memory64', 16), bar(1, 'io', 16)], 'PCI_BAR_TAKEN'],
  ];
  for (const [what, bars, name] of wrong) test(`${what}: ${name}`, () => assert.throws(() => make({ bars }), { name }));
});

describe('identity and ROM', () => {
  const base = { vendor: 1, device: 2, classCode: 3 };
  const wrong: readonly (readonly [what: string, identity: Identity])[] = [
    ['vendor ffff is nobody', { ...base, vendor: 0xffff }],
    ['vendor -1', { ...base, vendor: -1 }],
    ['device 65536', { ...base, device: 65_536 }],
    ['class of 4 bytes', { ...base, classCode: 0x100_0000 }],
    ['revision 256', { ...base, revision: 256 }],
    ['half a subsystem', { ...base, subsystem: 0.5 }],
    ['subsystem vendor 65536', { ...base, subsystemVendor: 65_536 }],
  ];
  for (const [what, who] of wrong)
    test(what, () => assert.throws(() => make({ identity: who }), { name: 'PCI_BAD_IDENTITY', errno: 'EINVAL' }));
  for (const size of [0, 2 ** 24 + 1])
    test(`a ROM of ${size} bytes`, () =>
      assert.throws(() => make({ rom: new Uint8Array(size) }), { name: 'PCI_BAD_ROM' }));
});

describe('capabilities', () => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  const anyCapability: fc.Arbitrary<Capability> = fc.oneof(
    fc.constant(powerManagement()),
    fc.record({ vectors: fc.constantFrom(1, 2, 32), wide: fc.boolean(), maskable: fc.boolean() }).map(msi),
    fc.constant(msix({ vectors: 4, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x800 } })),
    fc.boolean().map((flr) => express({ flr })),
    bytes.map(vendorSpecific),
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(serialNumber),
    bytes.map((data) => vendorExtended({ id: 7, revision: 1, data })),
  );

  /** Extended capabilities as software finds them. */
  function walkExtended(port: Port): { id: number; offset: number }[] {
    const found: { id: number; offset: number }[] = [];
    for (let at = 0x100; at !== 0 && found.length < 100; ) {
      const header = port.config(at);
      if (header === 0 || header === 0xffff_ffff) break;
      found.push({ id: header & 0xffff, offset: at });
      at = header >>> 20;
    }
    return found;
  }

  test('both chains end, are aligned, in order, and nothing lies on anything else', () => {
    fc.assert(
      fc.property(fc.array(anyCapability, { maxLength: 8 }), (wanted) => {
        const once = wanted.filter(
          (one, n) => one.name.startsWith('vendor') || wanted.findIndex(({ name }) => name === one.name) === n,
        );
        const plain = once.filter(({ version }) => version === undefined);
        fc.pre(plain.reduce((sum, { body }) => sum + Math.ceil((body.length + 2) / 4) * 4, 0) <= 192);
        const port = make({ bars: [bar(0, 'memory32', 0x1000)], capabilities: once });
        const extended = once.filter(({ version }) => version !== undefined);
        const found = [walkCapabilities((offset) => port.config(offset, 1)), walkExtended(port)];
        const given = [plain, extended];
        for (const [n, chain] of found.entries()) {
          assert.deepEqual(
            chain.map(({ id }) => id),
            given[n]?.map(({ id }) => id),
          );
          for (const [k, { offset }] of chain.entries()) {
            assert.equal(offset % 4, 0);
            const size = (given[n]?.[k]?.body.length ?? 0) + (n === 0 ? 2 : 4);
            assert.ok(offset + size <= (chain[k + 1]?.offset ?? (n === 0 ? 0x100 : 0x1000)));
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  test('writing ones over a whole configuration space leaves the chains alone', () => {
    const capabilities = [powerManagement(), msi({ maskable: true }), express(), serialNumber(1n)];
    const port = make({ capabilities });
    const before = walkCapabilities((offset) => port.config(offset, 1));
    for (let offset = 0x40; offset < 0x100; offset += 4) port.setConfig(offset, 0xffff_7fff);
    for (let offset = 0x100; offset < 0x1000; offset += 4) port.setConfig(offset, 0xffff_ffff);
    assert.deepEqual(
      walkCapabilities((offset) => port.config(offset, 1)),
      before,
    );
    assert.deepEqual(walkExtended(port), [{ id: 3, offset: 0x100 }]);
  });

  test('a walk of a chain that loops ends', () => {
    const loop = new Map([
      [0x34, 0x40],
      [0x40, 1],
      [0x41, 0x48],
      [0x48, 5],
      [0x49, 0x40],
    ]);
    assert.deepEqual(
      walkCapabilities((offset) => loop.get(offset) ?? 0).map(({ offset }) => offset),
      [0x40, 0x48],
    );
  });

  const wrong: readonly (readonly [what: string, capabilities: () => readonly Capability[], name: string])[] = [
    ['one name twice', () => [powerManagement(), powerManagement()], 'PCI_CAPABILITY_TWICE'],
    ['no room', () => [vendorSpecific(new Uint8Array(180)), express()], 'PCI_CONFIG_FULL'],
    [
      'a vendor capability too long for its length byte',
      () => [vendorSpecific(new Uint8Array(253))],
      'PCI_BAD_CAPABILITY',
    ],
    [
      'an extended one too long',
      () => [vendorExtended({ id: 1, revision: 0, data: new Uint8Array(4088) })],
      'PCI_BAD_CAPABILITY',
    ],
    [
      'no room for extended ones',
      () => [vendorExtended({ id: 1, revision: 0, data: new Uint8Array(3832) }), serialNumber(1n)],
      'PCI_CONFIG_FULL',
    ],
  ];
  for (const [what, capabilities, name] of wrong)
    test(`${what}: ${name}`, () => assert.throws(() => make({ capabilities: capabilities() }), { name }));
});

describe('register windows', () => {
  const words: [number, number][] = [];
  const dwords = dwordBar({
    read: (offset) => 0x0403_0201 + offset * 0x0101_0101,
    write: (offset, value) => void words.push([offset, value]),
  });
  const read = (offset: number, length: number): string => {
    const into = new Uint8Array(length);
    dwords.read(offset, into);
    return Buffer.from(into).toString('hex');
  };

  const reads: readonly (readonly [offset: number, length: number, hex: string])[] = [
    [0, 4, '01020304'],
    [0, 8, '0102030405060708'],
    [1, 1, '02'],
    [2, 2, '0304'],
    [3, 6, '04050607080'.concat('9')],
    [6, 1, '07'],
  ];
  for (const [offset, length, hex] of reads)
    test(`read of ${length} at ${offset}`, () => assert.equal(read(offset, length), hex));

  const writes: readonly (readonly [offset: number, length: number, expected: [number, number][]])[] = [
    [0, 4, [[0, 0x0403_0201]]],
    [
      8,
      8,
      [
        [8, 0x0403_0201],
        [12, 0x0807_0605],
      ],
    ],
    [0, 2, []],
    [1, 4, []],
    [2, 7, [[4, 0x0605_0403]]],
  ];
  for (const [offset, length, expected] of writes) {
    test(`write of ${length} at ${offset}`, () => {
      words.length = 0;
      dwords.write(
        offset,
        Uint8Array.from({ length }, (_, n) => n + 1),
      );
      assert.deepEqual(words, expected);
    });
  }

  test('ports: one access for each byte', () => {
    const seen: [number, number][] = [];
    const ports = byteBar({
      read: (offset) => offset + 0x10,
      write: (offset, value) => void seen.push([offset, value]),
    });
    const into = new Uint8Array(3);
    ports.read(4, into);
    ports.write(2, Uint8Array.of(9, 8));
    assert.deepEqual([...into, ...seen.flat()], [0x14, 0x15, 0x16, 2, 9, 3, 8]);
  });

  test('an access over the border of an overlay is cut there, and every byte has one owner', () => {
    fc.assert(
      fc.property(fc.nat(20), fc.integer({ min: 1, max: 16 }), (offset, length) => {
        const of = (letter: number) => ({
          read: (_at: number, into: Uint8Array) => void into.fill(letter),
          write: () => {},
        });
        const whole = overlaid(of(0), [
          { first: 4, size: 4, handler: of(1) },
          { first: 8, size: 2, handler: of(2) },
          { first: 20, size: 8, handler: of(3) },
        ]);
        const into = new Uint8Array(length).fill(9);
        whole.read(offset, into);
        const owner = (at: number): number =>
          at >= 20 && at < 28 ? 3 : at >= 8 && at < 10 ? 2 : at >= 4 && at < 8 ? 1 : 0;
        assert.deepEqual(
          [...into],
          [...into].map((_, n) => owner(offset + n)),
        );
      }),
    );
  });

  test('memory: beyond its end reads as zeros, writes are dropped', () => {
    const memory = new Uint8Array(4);
    const window = memoryBar(memory);
    window.write(2, Uint8Array.of(1, 2, 3));
    window.write(9, Uint8Array.of(1));
    const into = new Uint8Array(4).fill(9);
    window.read(2, into);
    assert.deepEqual([...memory, ...into], [0, 0, 1, 2, 1, 2, 0, 0]);
  });
});
