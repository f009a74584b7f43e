import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asIovaFrame, frameRange } from '@pinion/core';
import { CONFIG, type EngineName, G2V, miStoreDword, PVINFO, REGION, xyColorBlt } from '@pinion/gvt';
import { type Context, ExeclistGuest, FRAME } from './execlist-guest.js';
import { POISON } from './fake-guest.js';

const PAGE = 4096;
const COLOR = 0x11223344;
/** Pages of the surface; behind them stand the same 64 guest frames again and again. */
const SURFACE = 1500;
const FRAMES = 64;
const [TOP, THIRD, DIRECTORY, FIRST_TABLE] = [FRAME.TABLES, FRAME.TABLES + 1, FRAME.TABLES + 2, FRAME.TABLES + 4];
const rect = { x1: 0, y1: 0, x2: 1024, y2: SURFACE };
const fill = xyColorBlt({ target: { address: 0, pitch: PAGE }, rect, color: COLOR });

/** A guest whose context has a fill of 1500 pages of its own address space before it, and a store behind that. */
function start(name: EngineName = 'bcs') {
  const guest = new ExeclistGuest({ pages: 2048 });
  for (let page = 0; page < SURFACE; page++) {
    const table = FIRST_TABLE + Math.floor(page / 512);
    guest.poke(DIRECTORY, Math.floor(page / 512) * 8, [(table * PAGE) | 3, 0]);
    guest.poke(table, (page % 512) * 8, [((FRAME.PAGES + (page % FRAMES)) * PAGE) | 3, 0]);
  }
  const context = guest.context(name);
  guest.emit(context, fill, miStoreDword(guest.at(FRAME.DATA), 9));
  guest.start(context);
  return { guest, context };
}

/** Lets the engine work until some of the surface is there and the end is not. */
function halfWay(guest: ExeclistGuest): void {
  for (let steps = 0; guest.peek(FRAME.PAGES + 40, 0) !== COLOR; steps++) {
    assert.ok(guest.clock.step() && steps < 1000, 'the fill never comes to its 40th page');
  }
  assert.equal(guest.peek(FRAME.DATA, 0), 0, 'the job is not over');
}

const done = (guest: ExeclistGuest, context: Context): void => {
  guest.clock.drain();
  assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.state(context, 5)], [9, context.tail]);
};

describe('while an engine works behind a shadow', () => {
  test('nothing happens: every page is filled, and given back with the context', () => {
    const { guest, context } = start();
    halfWay(guest);
    assert.equal(guest.device.ppgtt.stats.mapped, SURFACE);
    done(guest, context);
    for (let frame = 0; frame < FRAMES; frame++) assert.equal(guest.peek(FRAME.PAGES + frame, 4092), COLOR);
    assert.deepEqual([guest.device.faults, guest.device.ppgtt.stats.mms], [[], 0]);
    guest.finish();
  });

  test('its pages go away: it touches them no more, and the rest is faults', () => {
    const { guest, context } = start();
    halfWay(guest);
    const range = frameRange(asIovaFrame(FRAME.PAGES), FRAMES);
    const given = guest.pins.hostPages(range);
    guest.unmap(FRAME.PAGES, FRAMES);
    assert.equal(guest.device.ppgtt.stats.mapped, 0);
    done(guest, context);
    assert.ok(given.every((page) => page.every((byte) => byte === POISON)));
    const { source, table, level, write } = guest.device.faults[0] ?? {};
    assert.deepEqual([source, table, level, write], ['bcs', 'ppgtt', 1, true]);
    guest.finish();
  });

  test('some of its pages go away: the others are filled', () => {
    const { guest, context } = start();
    halfWay(guest);
    guest.unmap(FRAME.PAGES, 8);
    for (let frame = 8; frame < FRAMES; frame++) guest.poke(FRAME.PAGES + frame, 4092, [0]);
    done(guest, context);
    for (let frame = 8; frame < FRAMES; frame++) assert.equal(guest.peek(FRAME.PAGES + frame, 4092), COLOR);
    guest.finish();
  });

  for (const [what, frame, level] of [
    ['root', TOP, 4],
    ['third level', THIRD, 4],
    ['directory', DIRECTORY, 3],
    ['page table', FIRST_TABLE + 2, 2],
  ] as const) {
    test(`a page of its tables goes away: ${what}`, () => {
      const { guest, context } = start();
      halfWay(guest);
      guest.unmap(frame, 1);
      done(guest, context);
      assert.deepEqual([...new Set(guest.device.faults.map((fault) => fault.level))], [level]);
      guest.finish();
    });
  }

  test('the guest rewrites its tables unseen: the job ends on what it began with, the next one sees the change', () => {
    const { guest, context } = start();
    halfWay(guest);
    for (let page = 0; page < SURFACE; page++)
      guest.poke(FIRST_TABLE + Math.floor(page / 512), (page % 512) * 8, [(1024 + (page % 512)) * PAGE + 3, 0]);
    done(guest, context);
    assert.equal(guest.peek(1024, 0), 0);
    guest.execute(context, xyColorBlt({ target: { address: 0, pitch: PAGE }, rect: { ...rect, y2: 3 }, color: 5 }));
    assert.deepEqual([guest.peek(1024, 0), guest.peek(1026, 4092), guest.peek(1027, 0)], [5, 5, 0]);
    assert.deepEqual(guest.device.faults, []);
    guest.finish();
  });

  test('the guest takes the announcement of the table back: the job keeps it to its end', () => {
    const { guest, context } = start();
    guest.write32(PVINFO.PDP, TOP * PAGE);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
    halfWay(guest);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_DESTROY);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_DESTROY);
    assert.equal(guest.device.ppgtt.stats.mms, 1);
    done(guest, context);
    assert.deepEqual([guest.device.ppgtt.stats.mms, guest.device.faults], [0, []]);
    guest.finish();
  });

  const ends: readonly (readonly [what: string, end: (guest: ExeclistGuest) => void])[] = [
    ['the device is reset', (guest) => guest.device.reset()],
    ['the engines are reset', (guest) => guest.write32(0x941c, 1)],
    ['its guest is killed', (guest) => guest.device.close()],
  ];
  for (const [what, end] of ends) {
    test(`${what}: nothing is touched any more, and no shadow is left`, () => {
      const { guest } = start();
      halfWay(guest);
      end(guest);
      for (let frame = 0; frame < FRAMES; frame++) guest.poke(FRAME.PAGES + frame, 4092, [1]);
      guest.clock.drain();
      for (let frame = 0; frame < FRAMES; frame++) assert.equal(guest.peek(FRAME.PAGES + frame, 4092), 1);
      const { tables, mapped } = guest.device.ppgtt.stats;
      assert.deepEqual([tables, mapped, guest.peek(FRAME.DATA, 0)], [0, 0, 0]);
      guest.finish();
    });
  }
});

describe('shadows through the life of the device', () => {
  /** A guest that has announced its tables. */
  const announced = () => {
    const guest = new ExeclistGuest({ pages: 2048 });
    guest.write32(PVINFO.PDP, TOP * PAGE);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
    const counts = () => {
      const { mms, shadowed, tables, mapped } = guest.device.ppgtt.stats;
      return { mms, shadowed, tables, mapped };
    };
    return { guest, counts };
  };
  const FULL = { mms: 1, shadowed: 1, tables: 4, mapped: 64 };

  test('a resume from D3hot keeps them, and the guest need not look at PVINFO again', () => {
    const { guest, counts } = announced();
    assert.deepEqual(counts(), FULL);
    guest.write32(CONFIG.PMCSR, 3, REGION.CONFIG);
    guest.device.reset();
    assert.deepEqual([counts(), guest.device.stats.tableEntries], [FULL, 0]);
    guest.write32(0x2229c, 0x80008000);
    assert.equal(guest.device.failsafe, undefined);
    guest.write32(PVINFO.PDP, TOP * PAGE);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_DESTROY);
    assert.deepEqual(counts(), { mms: 0, shadowed: 0, tables: 0, mapped: 0 });
    guest.finish();
    assert.ok(guest.log.warnings.every((line) => !line.includes('left over')));
  });

  test('memory that goes away in D3hot is scrubbed all the same', () => {
    const { guest, counts } = announced();
    guest.write32(CONFIG.PMCSR, 3, REGION.CONFIG);
    guest.unmap(FRAME.PAGES, 64);
    guest.device.reset();
    assert.deepEqual(counts(), { ...FULL, mapped: 0 });
    guest.finish();
  });

  test('a reset of the device ends them, and the guest has to look at PVINFO', () => {
    const { guest, counts } = announced();
    guest.device.reset();
    assert.deepEqual(counts(), { mms: 0, shadowed: 0, tables: 0, mapped: 0 });
    guest.write32(0x2229c, 0x80008000);
    assert.match(guest.device.failsafe ?? '', /PVINFO/);
    guest.finish();
  });

  test('a reset of all engines makes them anew at the next dispatch', () => {
    const { guest, counts } = announced();
    guest.write32(0x941c, 1);
    assert.deepEqual(counts(), { mms: 1, shadowed: 0, tables: 0, mapped: 0 });
    guest.finish();
  });

  test('quirk cache-destroyed-first: every page of a killed guest is a leftover', () => {
    const found: number[] = [];
    const onLeftovers = ({ leftovers }: { leftovers: readonly unknown[] }) => found.push(leftovers.length);
    const guest = new ExeclistGuest({ pages: 2048, quirks: ['cache-destroyed-first'], onLeftovers });
    guest.write32(PVINFO.PDP, TOP * PAGE);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
    const { cacheEntries } = guest.device.stats;
    guest.device.close();
    assert.deepEqual([found, guest.pins.pages, guest.device.ppgtt.stats.tables], [[cacheEntries], 0, 0]);
  });
});
