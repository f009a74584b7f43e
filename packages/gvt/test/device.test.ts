import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asPfn } from '@pinion/core';
import {
  BAR0_SIZE,
  CONFIG,
  CONFIG_SIZE,
  createGvtDriver,
  DISPLAY,
  FAULT,
  INTERRUPT,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PLANE_ORDER_RGBX,
  PLANE_TILING,
  PVINFO,
  REGION,
  SIZE_4K,
  xTileOffset,
  xyColorBlt,
  yTileOffset,
} from '@pinion/gvt';
import { FakeGuest, FakePins, KeptLog, ManualClock } from './fake-guest.js';

const MB = 1024 * 1024;
const PAGE = 4096;

describe('regions', () => {
  test('are those of a PCI device; the rest is of size 0', () => {
    const guest = new FakeGuest({ apertureMb: 256 });
    assert.deepEqual(
      guest.device.regions.map(({ index, size, readable }) => [index, size, readable]),
      [
        [0, BAR0_SIZE, true],
        [1, 0, false],
        [2, 256 * MB, true],
        [3, 0, false],
        [4, 0, false],
        [5, 0, false],
        [6, 0, false],
        [7, CONFIG_SIZE, true],
        [8, 0, false],
        [9, 8192, true],
        [10, 4096, true],
      ],
    );
    assert.deepEqual(
      guest.device.irqs.map(({ index, count }) => [index, count]),
      [
        [0, 1],
        [1, 1],
      ],
    );
    guest.finish();
  });

  const outside: readonly (readonly [index: number, offset: number, length: number])[] = [
    [0, BAR0_SIZE, 1],
    [0, BAR0_SIZE - 2, 4],
    [0, -4, 4],
    [0, 0.5, 1],
    [0, Number.NaN, 4],
    [7, CONFIG_SIZE, 1],
    [7, CONFIG_SIZE - 1, 2],
    [2, 512 * MB, 4],
    [1, 0, 1],
    [6, 0, 4],
    [8, 0, 1],
    [11, 0, 1],
    [-1, 0, 1],
  ];
  for (const [index, offset, length] of outside) {
    test(`${length} bytes at ${offset} of region ${index} are refused`, () => {
      const guest = new FakeGuest();
      const error = { name: 'GVT_OUT_OF_REGION', errno: 'EINVAL' };
      assert.throws(() => guest.device.readRegion(index, offset, new Uint8Array(length)), error);
      assert.throws(() => guest.device.writeRegion(index, offset, new Uint8Array(length)), error);
      guest.finish();
    });
  }

  test('between registers and table: zero, ignored, one warning', () => {
    const guest = new FakeGuest();
    guest.write32(2 * MB, 1);
    assert.deepEqual([guest.read32(2 * MB), guest.read32(8 * MB - 4)], [0, 0]);
    assert.equal(guest.log.warnings.length, 1);
    guest.finish();
  });
});

describe('registers', () => {
  test('an unknown one is memory, in any width', () => {
    const guest = new FakeGuest();
    guest.device.writeRegion(REGION.BAR0, 0x5001, new Uint8Array([1, 2, 3, 4, 5]));
    const back = new Uint8Array(8);
    guest.device.readRegion(REGION.BAR0, 0x5000, back);
    assert.deepEqual([...back], [0, 1, 2, 3, 4, 5, 0, 0]);
    guest.finish();
  });

  test('a part of a register with a behaviour is merged with the rest', () => {
    const guest = new FakeGuest();
    guest.device.writeRegion(REGION.BAR0, INTERRUPT.MASTER + 3, new Uint8Array([0x80]));
    assert.equal(guest.read32(INTERRUPT.MASTER), 0x80000000);
    guest.device.writeRegion(REGION.BAR0, INTERRUPT.MASTER, new Uint8Array([0xff, 0xff]));
    assert.equal(guest.read32(INTERRUPT.MASTER), 0x80000000);
    guest.finish();
  });
});

describe('config space', () => {
  const config = (guest: FakeGuest, offset: number) => guest.read32(offset, REGION.CONFIG);
  const write = (guest: FakeGuest, offset: number, bytes: readonly number[]) =>
    guest.device.writeRegion(REGION.CONFIG, offset, Uint8Array.from(bytes));

  test('names a display controller with MSI and power management', () => {
    const guest = new FakeGuest();
    assert.deepEqual([config(guest, 0), config(guest, 8), config(guest, 0x34)], [0x19128086, 0x03800006, 0xac]);
    assert.deepEqual([config(guest, 0xac), config(guest, 0xd0), config(guest, 0x50)], [0xd005, 0x00020001, 0xc0]);
    guest.finish();
  });

  const bars: readonly (readonly [offset: number, sized: number, set: number, got: number])[] = [
    [CONFIG.BAR0, 0xff000004, 0xf1234567, 0xf1000004],
    [CONFIG.BAR0 + 4, 0xffffffff, 0x12, 0x12],
    [CONFIG.BAR2, 0xe000000c, 0xf1234567, 0xe000000c],
    [CONFIG.BAR2 + 4, 0xffffffff, 0x12, 0x12],
    [0x20, 0, 0x12, 0],
    [0x30, 0, 0x12, 0],
  ];
  for (const [offset, sized, set, got] of bars) {
    test(`BAR at 0x${offset.toString(16)} can be sized and set`, () => {
      const guest = new FakeGuest({ apertureMb: 512 });
      guest.write32(offset, 0xffffffff, REGION.CONFIG);
      assert.equal(config(guest, offset), sized);
      guest.write32(offset, set, REGION.CONFIG);
      assert.equal(config(guest, offset), got);
      guest.finish();
    });
  }

  test("keeps what is not the guest's to change", () => {
    const guest = new FakeGuest();
    for (const offset of [0, 8, 0x2c, 0x34, 0x50, 0xac, 0xd0, 0xffc]) {
      const before = config(guest, offset) & (offset === 0xac ? 0xffff : -1);
      guest.write32(offset, 0xffff_ffff, REGION.CONFIG);
      assert.equal(config(guest, offset) & (offset === 0xac ? 0xffff : -1), before);
    }
    guest.write32(CONFIG.COMMAND, 0x0000ffff, REGION.CONFIG);
    assert.equal(config(guest, CONFIG.COMMAND), 0x001007ff);
    guest.finish();
  });

  test('writes of more than 4 bytes are refused', () => {
    const guest = new FakeGuest();
    assert.throws(() => write(guest, 0, [1, 2, 3, 4, 5]), { name: 'GVT_CONFIG_ACCESS', errno: 'EINVAL' });
    guest.finish();
  });
});

describe('the aperture', () => {
  test('is guest memory through the table', () => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base + PAGE, 5, 2);
    guest.poke(5, PAGE - 4, [0x11111111, 0x22222222]);
    const bytes = new Uint8Array(8);
    guest.device.readRegion(REGION.BAR2, guest.low.base + 2 * PAGE - 4, bytes);
    assert.deepEqual([...bytes], [0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22]);
    guest.write32(guest.low.base + PAGE, 7, REGION.BAR2);
    assert.equal(guest.peek(5, 0), 7);
    guest.finish();
  });

  test("without a page: zeros, dropped, recorded - but not as the engine's fault", () => {
    const guest = new FakeGuest();
    guest.write32(guest.low.base, 7, REGION.BAR2);
    assert.equal(guest.read32(guest.low.base, REGION.BAR2), 0);
    assert.deepEqual(guest.device.faults, [
      { source: 'aperture', address: guest.low.base, write: true, table: 'ggtt', level: 1 },
      { source: 'aperture', address: guest.low.base, write: false, table: 'ggtt', level: 1 },
    ]);
    assert.equal(guest.read32(FAULT.REG), 0);
    guest.finish();
  });

  const foreign: readonly (readonly [what: string, (guest: FakeGuest) => number])[] = [
    ['offset 0', () => 0],
    ['one byte before', (g) => g.low.base - 1],
    ['one byte over the end', (g) => g.low.base + g.low.size - 3],
    ['right behind', (g) => g.low.base + g.low.size],
  ];
  for (const [what, offset] of foreign) {
    test(`another's slice is refused: ${what}`, () => {
      const guest = new FakeGuest();
      const error = { name: 'GVT_FOREIGN_APERTURE', errno: 'EINVAL' };
      assert.throws(() => guest.read32(offset(guest), REGION.BAR2), error);
      assert.throws(() => guest.write32(offset(guest), 1, REGION.BAR2), error);
      guest.finish();
    });
  }
});

describe('the screen', () => {
  interface Mode {
    readonly control: number;
    readonly stride: number;
    readonly width: number;
    readonly height: number;
  }
  const show = ({ control, stride, width, height }: Mode): FakeGuest => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base, 0, 64);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    guest.write32(DISPLAY.PIPESRC, ((width - 1) << 16) | (height - 1));
    guest.write32(DISPLAY.PLANE_STRIDE, stride);
    guest.write32(DISPLAY.PLANE_CTL, control);
    guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
    return guest;
  };
  const XRGB = PLANE_ENABLE | PLANE_FORMAT.XRGB8888;
  const small = { control: XRGB, stride: 1, width: 16, height: 16 };
  const pixel = (guest: FakeGuest, x: number, y: number): number[] => {
    const { width, pixels } = guest.device.frame();
    return [...pixels.subarray((y * width + x) * 4, (y * width + x) * 4 + 4)];
  };

  test('is empty while pipe or plane are off', () => {
    const guest = show(small);
    guest.write32(DISPLAY.TRANSCONF, 0);
    assert.deepEqual(guest.device.frame(), { width: 0, height: 0, pixels: new Uint8Array(0) });
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    guest.write32(DISPLAY.PLANE_CTL, PLANE_FORMAT.XRGB8888);
    assert.equal(guest.device.frame().width, 0);
    guest.finish();
  });

  test('shows what the blitter drew', () => {
    const guest = show({ control: XRGB, stride: 4, width: 64, height: 32 });
    guest.startRing(guest.high.base, 100);
    const target = { address: guest.low.base, pitch: 256 };
    guest.run(xyColorBlt({ target, rect: { x1: 3, y1: 4, x2: 5, y2: 6 }, color: 0x80336699 }));
    assert.deepEqual(
      [pixel(guest, 3, 4), pixel(guest, 4, 5)],
      [
        [0x33, 0x66, 0x99, 0xff],
        [0x33, 0x66, 0x99, 0xff],
      ],
    );
    assert.deepEqual(
      [pixel(guest, 5, 5), pixel(guest, 2, 4)],
      [
        [0, 0, 0, 0xff],
        [0, 0, 0, 0xff],
      ],
    );
    assert.deepEqual(guest.device.frame().pixels.length, 64 * 32 * 4);
    guest.finish();
  });

  const modes: readonly (readonly [
    what: string,
    mode: Mode,
    offset: number,
    dword: number,
    expected: readonly number[],
  ])[] = [
    ['linear', { ...small, stride: 2 }, 7 * 128 + 5 * 4, 0x00010203, [1, 2, 3, 255]],
    ['red lowest', { ...small, control: XRGB | PLANE_ORDER_RGBX }, 7 * 64 + 5 * 4, 0x00010203, [3, 2, 1, 255]],
    [
      'X tiles',
      { ...small, control: XRGB | PLANE_TILING.X, stride: 2 },
      xTileOffset(20, 7, 1024),
      0x00010203,
      [1, 2, 3, 255],
    ],
    [
      'Y tiles',
      { ...small, control: XRGB | PLANE_TILING.Y, stride: 2 },
      yTileOffset(20, 7, 256),
      0x00010203,
      [1, 2, 3, 255],
    ],
    [
      '565',
      { ...small, control: PLANE_ENABLE | PLANE_FORMAT.RGB565 },
      7 * 64 + 5 * 2 - 2,
      0xf81f0000,
      [255, 0, 255, 255],
    ],
    [
      '565 green',
      { ...small, control: PLANE_ENABLE | PLANE_FORMAT.RGB565 },
      7 * 64 + 5 * 2 - 2,
      0x07e00000,
      [0, 255, 0, 255],
    ],
  ];
  for (const [what, mode, offset, dword, expected] of modes) {
    test(`reads ${what}`, () => {
      const guest = show(mode);
      const bytes = Uint8Array.of(dword, dword >> 8, dword >> 16, dword >> 24);
      for (const [at, byte] of bytes.entries()) {
        const place = offset + at;
        guest.pins.page(Math.floor(place / PAGE))[place % PAGE] = byte;
      }
      assert.deepEqual(pixel(guest, 5, 7), expected);
      guest.finish();
    });
  }

  const refused: readonly (readonly [
    what: string,
    mode: Partial<Mode>,
    surface: (g: FakeGuest) => number,
    error: string,
  ])[] = [
    ['a planar format', { control: PLANE_ENABLE | (1 << 24) }, (g) => g.low.base, 'GVT_BAD_PLANE'],
    ['Yf tiles', { control: XRGB | (5 << 10) }, (g) => g.low.base, 'GVT_BAD_PLANE'],
    ['a stride below its width', { width: 17 }, (g) => g.low.base, 'GVT_BAD_PLANE'],
    ['a surface inside a page', {}, (g) => g.low.base + 16, 'GVT_PLANE_START'],
    ['a surface elsewhere', {}, () => 0, 'GVT_PLANE_RANGE'],
    ['a surface over the end', { stride: 512 }, (g) => g.low.base + g.low.size - PAGE, 'GVT_PLANE_RANGE'],
    ['more than 36 MB', { stride: 512, height: 8192 }, (g) => g.low.base, 'GVT_PLANE_RANGE'],
  ];
  for (const [what, mode, surface, name] of refused) {
    test(`cannot show ${what}`, () => {
      const guest = show({ ...small, ...mode });
      guest.write32(DISPLAY.PLANE_SURF, surface(guest));
      assert.throws(() => guest.device.frame(), { name, errno: name === 'GVT_BAD_PLANE' ? 'EINVAL' : 'EFAULT' });
      guest.finish();
    });
  }

  test('is black where no page stands', () => {
    const guest = show(small);
    guest.unmap(0, 64);
    assert.deepEqual(pixel(guest, 5, 7), [0, 0, 0, 255]);
    assert.equal(guest.device.faults[0]?.source, 'display');
    guest.finish();
  });
});

describe('life', () => {
  test('close, then open again: everything as new', () => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base, 0, 8);
    guest.write32(0x5000, 1);
    guest.write32(CONFIG.COMMAND, 7, REGION.CONFIG);
    guest.finish();
    guest.device.open();
    assert.deepEqual(
      [guest.read32(0x5000), guest.read32(CONFIG.COMMAND, REGION.CONFIG), guest.readEntry(guest.low.base)],
      [0, 0x00100000, 0n],
    );
    assert.equal(guest.read32(PVINFO.LOW_BASE), guest.low.base);
    guest.mapPages(guest.low.base, 0, 8);
    assert.equal(guest.pins.pages, 8);
    guest.finish();
  });

  test('reset gives all pages back, reports what the table did not hold, and stays open', () => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base, 0, 8);
    guest.device.backend.dmaMapGuestPage(asGfn(20), SIZE_4K);
    guest.device.reset();
    assert.deepEqual([guest.pins.pages, guest.device.stats.cacheEntries, guest.readEntry(guest.low.base)], [0, 0, 0n]);
    assert.match(guest.log.warnings.join(), /1 mappings left over/);
    guest.mapPages(guest.low.base, 0, 8);
    assert.equal(guest.pins.pages, 8);
    guest.finish();
  });

  test('without a handle: map EINVAL, pin ENODEV, unmap nothing', () => {
    const guest = new FakeGuest();
    guest.finish();
    const { backend } = guest.device;
    assert.throws(() => backend.dmaMapGuestPage(asGfn(1), SIZE_4K), { name: 'GVT_NOT_OPEN', errno: 'EINVAL' });
    assert.throws(() => backend.dmaPinGuestPage?.(asPfn(1)), { name: 'GVT_NO_HANDLE', errno: 'ENODEV' });
    backend.dmaUnmapGuestPage(asPfn(1));
    assert.throws(() => backend.injectMsi(0, 0), { name: 'GVT_NO_GUEST', errno: 'ESRCH' });
    assert.deepEqual([guest.pins.pinCalls, guest.irqs], [0, []]);
  });

  test('create takes resources, remove gives them back', () => {
    const driver = createGvtDriver({ apertureMb: 512 });
    const pins = new FakePins();
    const none = () => assert.fail('no copies');
    const context = {
      parent: 'gpu',
      dma: { read: none, write: none },
      clock: new ManualClock(),
      log: new KeptLog(),
      pins,
    };
    driver.create({ ...context, name: 'a', type: 'V5_4' });
    assert.deepEqual(
      ['V5_8', 'V5_4', 'V5_2'].map((type) => driver.available(type)),
      [4, 2, 1],
    );
    driver.create({ ...context, name: 'b', type: 'V5_2' });
    assert.throws(() => driver.create({ ...context, name: 'c', type: 'V5_8' }), {
      name: 'GVT_NO_SPACE',
      errno: 'ENOSPC',
    });
    assert.throws(() => driver.create({ ...context, name: 'c', type: 'V5_1' }), {
      name: 'GVT_UNKNOWN_TYPE',
      errno: 'EINVAL',
    });
    driver.device('b')?.remove();
    assert.deepEqual([driver.available('V5_2'), driver.device('b')], [1, undefined]);
    driver.device('a')?.remove();
    assert.deepEqual([driver.available('V5_8'), driver.available('V5_4')], [6, 3]);
  });

  test('two vGPUs own different slices and cannot reach one another', () => {
    const driver = createGvtDriver();
    const pins = new FakePins();
    const none = () => assert.fail('no copies');
    const context = {
      parent: 'gpu',
      dma: { read: none, write: none },
      clock: new ManualClock(),
      log: new KeptLog(),
      pins,
    };
    for (const name of ['a', 'b']) driver.create({ ...context, name, type: 'V5_8' });
    const [a, b] = [driver.device('a') ?? assert.fail(), driver.device('b') ?? assert.fail()];
    a.open();
    const entry = new Uint8Array(8).fill(3, 0, 1);
    a.writeRegion(REGION.BAR0, 8 * MB + (b.resources.low.base / PAGE) * 8, entry);
    assert.equal(pins.pages, 0);
    a.writeRegion(REGION.BAR0, 8 * MB + (a.resources.low.base / PAGE) * 8, entry);
    assert.equal(pins.pages, 1);
    a.close();
    assert.equal(pins.pages, 0);
  });
});
