import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asIovaFrame, frameRange } from '@pinion/core';
import { ENGINES, GDRST, GDRST_FULL, MODE, miStoreDword, miUserInterrupt, PVINFO, RING, xyColorBlt } from '@pinion/gvt';
import { type Context, ExeclistGuest, engineOf, FRAME, OWN_PAGES } from './execlist-guest.js';
import { FakeGuest, POISON } from './fake-guest.js';

const BCS = engineOf('bcs');
const HWSP = FRAME.HWSP + ENGINES.indexOf(BCS);

/** Work for several slices, then a store and an interrupt. */
function begin(): { readonly guest: ExeclistGuest; readonly context: Context } {
  const guest = new ExeclistGuest();
  const context = guest.context('bcs');
  const rect = { x1: 0, y1: 0, x2: 1024, y2: OWN_PAGES };
  const fill = xyColorBlt({ target: { address: 0, pitch: 4096 }, rect, color: 0x11223344 });
  guest.emit(context, ...new Array<number[]>(48).fill(fill), miStoreDword(guest.at(FRAME.DATA), 1), miUserInterrupt());
  return { guest, context };
}

test('a guest that answers its submission by a reset has nothing running', () => {
  const { guest, context } = begin();
  let told = 0;
  guest.device.setIrqSink(() => {
    told += 1;
    if (told === 1) guest.write32(GDRST, GDRST_FULL);
  });
  guest.start(context);
  assert.deepEqual([guest.device.submission.idle, guest.device.ppgtt.stats.mms], [true, 0]);
  guest.clock.drain();
  assert.deepEqual([told, guest.peek(FRAME.PAGES, 0), guest.peek(FRAME.DATA, 0)], [1, 0, 0]);
  guest.finish();
});

type Act = (guest: ExeclistGuest, context: Context) => void;

/** Where a submission may be when something happens to it. */
const PHASES: readonly (readonly [phase: string, reach: (guest: ExeclistGuest, act: () => void) => void])[] = [
  ['queued', (_guest, act) => act()],
  [
    'in its first slice',
    (guest, act) => {
      guest.firstSlice();
      act();
    },
  ],
  [
    'in its second slice',
    (guest, act) => {
      guest.firstSlice();
      guest.clock.step();
      act();
    },
  ],
  [
    'just before its end is told',
    (guest, act) => {
      let told = 0;
      guest.device.setIrqSink(() => {
        told += 1;
        if (told === 1) act();
      });
      guest.clock.drain();
    },
  ],
  [
    'done',
    (guest, act) => {
      guest.clock.drain();
      act();
    },
  ],
];

describe('guest memory goes away while a submission is', () => {
  const targets: readonly (readonly [what: string, first: (context: Context) => number, count: number])[] = [
    ['the pages that it draws to', () => FRAME.PAGES, OWN_PAGES],
    ['one page of them', () => FRAME.PAGES + 7, 1],
    ['its own tables', () => FRAME.TABLES, 4],
    ['the last one of its tables', () => FRAME.TABLES + 3, 1],
    ['its ring', ({ frame }) => frame + 22, 4],
    ['its image', ({ frame }) => frame, 22],
    ['the status page', () => HWSP, 1],
    ['the page it stores to', () => FRAME.DATA, 1],
    ['everything', () => 0, 1024],
  ];
  for (const [phase, reach] of PHASES) {
    for (const [what, first, count] of targets) {
      test(`${phase}: ${what}`, () => {
        const { guest, context } = begin();
        guest.start(context);
        let given: readonly Uint8Array[] = [];
        reach(guest, () => {
          given = guest.pins.hostPages(frameRange(asIovaFrame(first(context)), count));
          guest.unmap(first(context), count);
        });
        guest.clock.drain();
        assert.ok(given.length === count && given.every((page) => page.every((byte) => byte === POISON)));
        assert.ok(guest.device.submission.idle);
        guest.finish();
      });
    }
  }

  test('what remains is drawn: only the page that went stays as it is', () => {
    const { guest, context } = begin();
    guest.start(context);
    guest.firstSlice();
    guest.unmap(FRAME.PAGES + 7, 1);
    for (const page of [6, 8]) guest.pins.page(FRAME.PAGES + page).fill(0);
    guest.clock.drain();
    assert.deepEqual([guest.peek(FRAME.PAGES + 6, 0), guest.peek(FRAME.PAGES + 8, 4092)], [0x11223344, 0x11223344]);
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.csb(BCS).at(-1)?.[0]], [1, 0x18]);
    assert.ok(guest.device.faults.every(({ address }) => Math.floor(address / 4096) === 7));
    guest.finish();
  });
});

describe('the device is taken away while a submission is', () => {
  const ends: readonly (readonly [what: string, act: Act])[] = [
    ['closed', ({ device }) => device.close()],
    ['reset', ({ device }) => device.reset()],
    ['reset through GDRST, the engine', (guest) => guest.write32(GDRST, 1 << BCS.resetBit)],
    ['reset through GDRST, all', (guest) => guest.write32(GDRST, GDRST_FULL)],
    ['switched to ring mode', (guest) => guest.write32(BCS.base + RING.MODE, MODE.EXECLIST << 16)],
  ];
  for (const [phase, reach] of PHASES) {
    for (const [what, act] of ends) {
      test(`${phase}: ${what}`, () => {
        const { guest, context } = begin();
        guest.start(context);
        let before = 0;
        reach(guest, () => {
          before = guest.peek(FRAME.DATA, 0);
          act(guest, context);
          assert.ok(guest.device.submission.idle);
        });
        const irqs = guest.irqs.length;
        guest.clock.drain();
        assert.equal(guest.peek(FRAME.DATA, 0), before, 'nothing runs any more');
        if (phase !== 'just before its end is told') assert.equal(guest.irqs.length, irqs);
        guest.finish();
      });
    }
  }

  test('GDRST of another engine leaves it alone', () => {
    const { guest, context } = begin();
    guest.start(context);
    guest.firstSlice();
    guest.write32(GDRST, 1 << engineOf('rcs').resetBit);
    guest.clock.drain();
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.csb(BCS).at(-1)], [1, [0x18, context.id]]);
    guest.finish();
  });

  test('a driver that asks for the reset first sees the engine ready', () => {
    const guest = new ExeclistGuest();
    const at = BCS.base + RING.RESET_CTL;
    guest.write32(at, 0x00010001);
    assert.equal(guest.read32(at) & 3, 3);
    guest.write32(at, 0x00010000);
    assert.equal(guest.read32(at), 0);
    guest.finish();
  });

  test('opened again it starts anew', () => {
    const { guest, context } = begin();
    guest.start(context);
    guest.firstSlice();
    guest.device.close();
    guest.device.open();
    assert.deepEqual([guest.read32(BCS.base + RING.MODE), guest.read32(BCS.base + RING.CSB_POINTER)], [0, 0x707]);
    assert.throws(() => guest.start(context), { name: 'GVT_REGION_FAULT' });
    guest.finish();
  });
});

describe('a guest that does not know where it runs', () => {
  const modes: readonly (readonly [what: string, looked: boolean, value: number, failsafe: boolean])[] = [
    ['execlists, after PVINFO', true, 0x80008000, false],
    ['execlists, without a look at PVINFO', false, 0x80008000, true],
    ['per-process tables, without a look at PVINFO', false, 0x02000200, true],
    ['GuC submission', true, 0x00010001, true],
    ['legacy submission', true, 0x00040004, true],
    ['nothing, without a look at PVINFO', false, 0x80000000, false],
    ['a bit whose mask is not set', false, 0x00008000, false],
  ];
  for (const [what, looked, value, failsafe] of modes) {
    test(`RING_MODE with ${what}`, () => {
      const guest = new FakeGuest();
      if (looked) guest.read32(PVINFO.MAGIC_LOW);
      guest.write32(BCS.base + RING.MODE, value);
      assert.equal(
        guest.log.warnings.some((line) => /emulates nothing any more/.test(line)),
        failsafe,
      );
      guest.finish();
    });
  }
});

describe('an engine that waits', () => {
  const wait = (compare: number, value: number): number[] => [0x0e008002 | (compare << 12), value, 0x1000, 0];
  const table: readonly (readonly [compare: number, what: string, goesOn: readonly number[]])[] = [
    [0, 'greater', [6]],
    [1, 'greater or equal', [5, 6]],
    [2, 'less', [4]],
    [3, 'less or equal', [4, 5]],
    [4, 'equal', [5]],
    [5, 'not equal', [4, 6]],
  ];
  for (const [compare, what, goesOn] of table) {
    test(`for memory ${what} than 5`, () => {
      for (const value of [4, 5, 6]) {
        const guest = new ExeclistGuest();
        const context = guest.context('bcs');
        guest.poke(FRAME.PAGES + 1, 0, [value]);
        guest.poke(FRAME.PAGES, 0, [...wait(compare, 5), 0x10000002, 0x2000, 0, 9, 0x05000000]);
        guest.emit(context, [0x18800101, 0, 0]);
        guest.start(context);
        guest.clock.advance(50);
        assert.deepEqual(guest.peek(FRAME.PAGES + 2, 0), goesOn.includes(value) ? 9 : 0);
        guest.poke(FRAME.PAGES + 1, 0, [goesOn[0] ?? 0]);
        guest.clock.advance(2);
        assert.deepEqual([guest.peek(FRAME.PAGES + 2, 0), guest.csb(BCS).at(-1)?.[0]], [9, 0x18]);
        guest.finish();
      }
    });
  }

  test('MI_MODE says whether it is idle', () => {
    const guest = new ExeclistGuest();
    const context = guest.context('bcs');
    const idle = () => guest.read32(BCS.base + RING.MI_MODE) & (1 << 9);
    guest.poke(FRAME.PAGES, 0, [...wait(4, 5), 0x05000000]);
    guest.emit(context, [0x18800101, 0, 0]);
    assert.equal(idle(), 1 << 9);
    guest.start(context);
    guest.clock.advance(5);
    assert.equal(idle(), 0);
    guest.poke(FRAME.PAGES + 1, 0, [5]);
    guest.clock.advance(5);
    assert.equal(idle(), 1 << 9);
    guest.finish();
  });

  test('two engines meet through memory', () => {
    const guest = new ExeclistGuest();
    const [waiter, other] = [guest.context('bcs'), guest.context('rcs')];
    guest.poke(FRAME.PAGES, 0, [...wait(4, 5), 0x10000002, 0x2000, 0, 9, 0x05000000]);
    guest.emit(waiter, [0x18800101, 0, 0]);
    guest.start(waiter);
    guest.clock.advance(20);
    guest.emit(other, [0x10000002, 0x1000, 0, 5]);
    guest.start(other);
    guest.clock.advance(20);
    assert.deepEqual([guest.peek(FRAME.PAGES + 2, 0), guest.device.submission.idle], [9, true]);
    guest.finish();
  });
});
