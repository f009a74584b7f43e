/** Guests that want more than their share: of the host's memory, of its log, of the thread that serves everybody, of the GPU. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PinionError } from '@pinion/core';
import {
  CONFIG,
  createGvtDriver,
  ENGINES,
  G2V,
  GDRST,
  GDRST_FULL,
  KvmBackend,
  MODE,
  miBatchBufferEnd,
  miStoreDword,
  miUserInterrupt,
  PVINFO,
  REGION,
  RING,
  xyColorBlt,
} from '@pinion/gvt';
import { type Context, ExeclistGuest, engineOf, FRAME, MAPPED } from './execlist-guest.js';
import { FakeGuest, ManualClock } from './fake-guest.js';
import { FakeTables } from './fake-tables.js';

const PAGE = 4096;
const BCS = engineOf('bcs');
const MAX_MMS = 16384;
const MAX_ROOTS = 64;

describe('memory of the host', () => {
  test('announcing root after root ends at 16384 of them; those that are taken back make room', () => {
    const guest = new FakeTables();
    const root = (at: number) => ({ levels: 4, pdps: [PAGE + at] }) as const;
    for (let at = 0; at < MAX_MMS; at++) guest.ppgtt.createByRoot(root(at));
    assert.throws(() => guest.ppgtt.createByRoot(root(MAX_MMS)), { name: 'GVT_TOO_MANY_MMS', errno: 'ENOMEM' });
    assert.throws(() => guest.ppgtt.acquire(root(MAX_MMS)), { name: 'GVT_TOO_MANY_MMS' });
    guest.ppgtt.createByRoot(root(0));
    assert.deepEqual([guest.ppgtt.stats.mms, guest.ppgtt.stats.tables], [MAX_MMS, 4]);
    guest.ppgtt.destroyByRoot(root(1));
    guest.ppgtt.release(guest.ppgtt.acquire(root(MAX_MMS)));
    guest.finish();
  });

  test('a quarter of a million interrupts of one submission are one, and no failure', () => {
    const guest = new ExeclistGuest();
    const context = guest.context('bcs');
    const pages = 192;
    const batch = guest.low.base + MAPPED * PAGE;
    guest.mapPages(batch, FRAME.PAGES, pages);
    const [interrupt = 0] = miUserInterrupt();
    for (let page = 0; page < pages; page++) guest.poke(FRAME.PAGES + page, 0, new Array<number>(1024).fill(interrupt));
    guest.poke(FRAME.PAGES + pages - 1, PAGE - 4, miBatchBufferEnd());
    guest.emit(context, [0x18800001, batch, 0], miStoreDword(guest.at(FRAME.DATA), 7));
    guest.start(context);
    guest.clock.advance(1000);
    const before = guest.irqs.length;
    guest.clock.drain();
    assert.deepEqual(
      [guest.device.engineError, guest.device.engine, guest.peek(FRAME.DATA, 0)],
      [undefined, 'idle', 7],
    );
    assert.ok(before <= 3, `${before} messages`);
    assert.equal(guest.read32(0x44308) & (1 << 16), 1 << 16);
    guest.finish();
  });
});

/** Roots that a ring loads: PDP 0, an LRI of two registers. */
const loadRoot = (pdp: number): number[] => [0x11000003, BCS.base + RING.PDP, pdp, BCS.base + RING.PDP + 4, 0];

describe('address spaces of a submission', () => {
  test('a root that is loaded again and again is taken once', () => {
    const readsOf = (loads: number): number => {
      let reads = 0;
      class CountingBackend extends KvmBackend {
        override readGuest(gpa: bigint, into: Uint8Array): void {
          reads += 1;
          super.readGuest(gpa, into);
        }
      }
      const guest = new ExeclistGuest({ hypervisor: (parts) => new CountingBackend(parts) });
      const context = guest.context('bcs');
      for (let at = 0; at < loads; at++) guest.emit(context, loadRoot((FRAME.TABLES + 2) * PAGE));
      guest.emit(context, miStoreDword(guest.at(FRAME.DATA), 5));
      guest.start(context);
      assert.equal(guest.device.ppgtt.stats.mms, 2);
      guest.clock.drain();
      assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.device.engineError], [5, undefined]);
      guest.finish();
      return reads;
    };
    assert.equal(readsOf(MAX_ROOTS * 2), readsOf(1));
  });

  test('64 different ones are the most; nothing of the submission runs, and nothing is held', () => {
    const guest = new ExeclistGuest();
    const context = guest.context('bcs');
    guest.emit(context, miStoreDword(guest.at(FRAME.DATA), 5));
    for (let at = 0; at <= MAX_ROOTS; at++) guest.emit(context, loadRoot((FRAME.PAGES + at) * PAGE));
    assert.throws(
      () => guest.start(context),
      ({ cause }: Error) =>
        cause instanceof PinionError && cause.name === 'GVT_TOO_MANY_ROOTS' && cause.errno === 'E2BIG',
    );
    guest.clock.drain();
    assert.deepEqual(
      [guest.peek(FRAME.DATA, 0), guest.device.ppgtt.stats.mms, guest.device.failsafe],
      [0, 0, undefined],
    );
    guest.finish();
  });
});

/** How often others may run while the engine does this. */
function slicesOf(guest: FakeGuest, commands: readonly (readonly number[])[]): number {
  guest.startRing(guest.low.base, 100, 8);
  guest.mapPages(guest.low.base + 64 * PAGE, 200, 128);
  guest.submit(...commands);
  let slices = 0;
  while (guest.device.engine === 'running') {
    assert.ok(guest.clock.step());
    slices += 1;
  }
  assert.equal(guest.device.engineError, undefined);
  return slices;
}

describe('the thread that serves everybody', () => {
  test('a column of one byte in 65535 rows is more work than its bytes', () => {
    const guest = new FakeGuest();
    const target = { address: guest.low.base + 64 * PAGE, pitch: 8 };
    const [header = 0, setup = 0, ...rest] = xyColorBlt({ target, rect: { x1: 0, y1: 0, x2: 1, y2: 32767 }, color: 1 });
    const column = [header, setup & ~(3 << 24), ...rest];
    // 32 columns touch 1 MB: less than a slice
    assert.ok(slicesOf(guest, new Array<number[]>(32).fill(column)) >= 16);
    guest.finish();
  });

  test('long commands are more work than short ones', () => {
    const guest = new FakeGuest();
    // 31 loads of 127 registers each; the same register again and again
    const load = [0x11000000 | (2 * 127 - 1), ...new Array<number[]>(127).fill([BCS.base + RING.GPR, 1]).flat()];
    const address = guest.low.base + 64 * PAGE;
    const batch = [...new Array<number[]>(500).fill(load).flat(), ...miBatchBufferEnd()];
    guest.poke(200, 0, batch);
    const calls = new Array<number[]>(16).fill([0x18800001, address, 0]);
    // 8000 commands: as short ones, an eighth of a slice
    assert.ok(slicesOf(guest, calls) >= 4);
    guest.finish();
  });
});

describe('the log', () => {
  /** Does something a hundred times and counts the lines. */
  const lines = (guest: FakeGuest, provoke: () => void): number => {
    const before = guest.log.warnings.length;
    for (let at = 0; at < 100; at++) provoke();
    return guest.log.warnings.length - before;
  };

  test('a bad submission', () => {
    const guest = new ExeclistGuest();
    assert.equal(
      lines(guest, () => assert.throws(() => guest.elsp(BCS, [0, 0]))),
      4,
    );
    guest.finish();
  });

  test('an engine that is halted and reset again', () => {
    const guest = new FakeGuest();
    const provoke = () => {
      guest.write32(GDRST, GDRST_FULL);
      guest.startRing(guest.low.base, 0);
      guest.submit([0x7fffffff, 0]);
      guest.clock.drain();
      assert.equal(guest.device.engine, 'halted');
    };
    assert.equal(lines(guest, provoke), 4);
    guest.device.reset();
    assert.equal(lines(guest, provoke), 4, 'after a reset of the device they are logged again');
    guest.finish();
  });

  test('an announcement that fails, with resets of the engines in between', () => {
    const guest = new FakeGuest();
    const provoke = () => {
      guest.write32(PVINFO.PDP, 0x7ffff000);
      guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
      guest.write32(GDRST, GDRST_FULL);
    };
    assert.ok(lines(guest, provoke) <= 8);
    guest.finish();
  });

  test('messages of several vectors, and services of an OpRegion that is not there', () => {
    const guest = new FakeGuest();
    guest.write32(CONFIG.MSI, 0x0021_0005, REGION.CONFIG);
    guest.write32(0x44304, 0);
    guest.write32(0x4430c, 0xffffffff);
    guest.write32(0x44200, 0x80000000);
    guest.startRing(guest.low.base, 0, 4);
    assert.equal(
      lines(guest, () => guest.run(miUserInterrupt())),
      4,
    );
    assert.equal(
      lines(guest, () => guest.write32(CONFIG.SWSCI, 0x8001, REGION.CONFIG)),
      4,
    );
    guest.finish();
  });
});

describe('time of the engines', () => {
  test('a guest that resets its engines again and again does not go first again and again', () => {
    const driver = createGvtDriver({ apertureMb: 1024, engineBytesPerMs: (PAGE + 2 * 64) / 2 });
    const clock = new ManualClock();
    const [hog, other] = ['hog', 'other'].map((name) => new ExeclistGuest({ driver, clock, name, type: 'V5_8' }));
    assert.ok(hog && other);
    const contexts = new Map<ExeclistGuest, Context>([hog, other].map((guest) => [guest, guest.context('bcs')]));
    const submit = (guest: ExeclistGuest): void => {
      const context = contexts.get(guest);
      assert.ok(context);
      const rect = { x1: 0, y1: 0, x2: 1024, y2: 1 };
      guest.emit(context, xyColorBlt({ target: { address: 0, pitch: PAGE }, rect, color: 1 }));
      guest.start(context);
    };
    const begin = (guest: ExeclistGuest): void => {
      guest.write32(BCS.base + RING.HWS_PGA, guest.at(FRAME.HWSP + ENGINES.indexOf(BCS)));
      guest.write32(BCS.base + RING.MODE, (MODE.EXECLIST << 16) | MODE.EXECLIST);
      submit(guest);
    };
    let on = true;
    for (const guest of [hog, other])
      guest.device.setIrqSink(() => {
        if (on && guest.csb(BCS).at(-1)?.[0] === 0x18) submit(guest);
      });
    submit(hog);
    submit(other);
    clock.advance(5000);
    const before = other.device.submission.engineTime;
    for (let at = 0; at < 8; at++) {
      hog.write32(GDRST, GDRST_FULL);
      begin(hog);
      clock.advance(500);
    }
    const got = other.device.submission.engineTime - before;
    assert.ok(got > 1700, `${got} ms of 4000`);
    on = false;
    clock.drain();
    hog.finish();
    other.finish();
  });
});
