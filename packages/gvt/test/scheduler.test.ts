import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  createGvtDriver,
  type GvtOptions,
  INTERRUPT,
  MODE,
  miStoreDword,
  miUserInterrupt,
  RING,
  xyColorBlt,
} from '@pinion/gvt';
import { type Context, ExeclistGuest, engineOf, FRAME } from './execlist-guest.js';
import { ManualClock } from './fake-guest.js';

const BCS = engineOf('bcs');
/** Bytes per millisecond: a slow GPU, on which one job below (a fill of a page, and two commands) takes two milliseconds. */
const SPEED = (4096 + 2 * 64) / 2;
const SECOND = 1000;

/** Guests of one GPU. */
function guestsOf(types: readonly string[], options: GvtOptions = {}): ExeclistGuest[] {
  const driver = createGvtDriver({ apertureMb: 1024, engineBytesPerMs: SPEED, ...options });
  const clock = new ManualClock();
  return types.map((type, at) => new ExeclistGuest({ driver, clock, type, name: `vgpu${at}` }));
}

/** Keeps an engine of a guest busy with fills of two milliseconds each. Counts them. */
class Load {
  readonly guest: ExeclistGuest;
  readonly #context: Context;
  done = 0;
  on = true;

  constructor(guest: ExeclistGuest, name = 'bcs') {
    this.guest = guest;
    this.#context = guest.context(name);
    guest.device.setIrqSink(() => this.#next());
    this.#submit();
  }

  #next(): void {
    const [low] = this.guest.csb(this.#context.engine).at(-1) ?? [0];
    if (low !== 0x18) return;
    this.done += 1;
    if (this.on) this.#submit();
  }

  #submit(): void {
    const rect = { x1: 0, y1: 0, x2: 1024, y2: 1 };
    this.guest.emit(this.#context, xyColorBlt({ target: { address: 0, pitch: 4096 }, rect, color: this.done }));
    this.guest.start(this.#context);
  }
}

/** Part of the work that each load got in a time, percent. */
function shares(loads: readonly Load[], clock: ManualClock, time: number): number[] {
  const before = loads.map(({ done }) => done);
  clock.advance(time);
  const got = loads.map(({ done }, at) => done - (before[at] ?? 0));
  const all = got.reduce((sum, one) => sum + one, 0);
  return got.map((one) => (one * 100) / all);
}

function finish(guests: readonly ExeclistGuest[], loads: readonly Load[]): void {
  for (const load of loads) load.on = false;
  guests[0]?.clock.drain();
  for (const guest of guests) guest.finish();
}

describe('one GPU, several guests', () => {
  const cases: readonly (readonly [types: readonly string[], shares: readonly number[]])[] = [
    [
      ['V5_8', 'V5_8'],
      [50, 50],
    ],
    [
      ['V5_8', 'V5_4'],
      [33.3, 66.7],
    ],
    [
      ['V5_8', 'V5_2'],
      [20, 80],
    ],
    [
      ['V5_8', 'V5_8', 'V5_4'],
      [25, 25, 50],
    ],
  ];
  for (const [types, expected] of cases) {
    test(`${types.join(' and ')} get ${expected.join(' and ')} percent`, () => {
      const guests = guestsOf(types);
      const loads = guests.map((guest) => new Load(guest));
      const clock = guests[0]?.clock ?? new ManualClock();
      clock.advance(3 * SECOND); // the first two seconds are those of who started last
      const got = shares(loads, clock, 4 * SECOND);
      for (const [at, percent] of got.entries()) {
        const wanted = expected[at] ?? 0;
        assert.ok(Math.abs(percent - wanted) < wanted / 10, `${got.join(' ')} instead of ${expected.join(' ')}`);
      }
      finish(guests, loads);
    });
  }

  test('engines are shared together: two engines of one guest do not double its share', () => {
    const guests = guestsOf(['V5_8', 'V5_8']);
    const [first, second] = guests;
    assert.ok(first && second);
    const loads = [new Load(first), new Load(second)];
    const render = first.context('rcs');
    for (let at = 0; at < 8; at++) first.emit(render, miStoreDword(first.at(FRAME.DATA), at));
    first.start(render);
    first.clock.advance(3 * SECOND);
    const got = shares(loads, first.clock, 4 * SECOND);
    assert.ok(Math.abs((got[0] ?? 0) - 50) < 5, got.join(' '));
    finish(guests, loads);
  });

  test('engine time is what a guest had of the engines', () => {
    const guests = guestsOf(['V5_8', 'V5_2']);
    const loads = guests.map((guest) => new Load(guest));
    guests[0]?.clock.advance(4 * SECOND);
    const [first = 0, second = 0] = guests.map(({ device }) => device.submission.engineTime);
    assert.ok(first + second > 3.6 * SECOND && first + second <= 4 * SECOND + 1, `${first} ${second}`);
    for (const [at, { done }] of loads.entries()) {
      const time = [first, second][at] ?? 0;
      assert.ok(done * 2 <= time + 2 && done * 2 > time * 0.9, `${done} jobs in ${time} ms`);
    }
    finish(guests, loads);
  });

  test('who just started goes first for two seconds', () => {
    const guests = guestsOf(['V5_2', 'V5_8']);
    const [old, fresh] = guests;
    assert.ok(old && fresh);
    // why: both took part in scheduling when they enabled execlists; the later one is in front
    const loads = [new Load(old), new Load(fresh)];
    old.clock.advance(1900);
    assert.ok((loads[0]?.done ?? 0) <= 1 && (loads[1]?.done ?? 0) > 900, loads.map(({ done }) => done).join(' '));
    finish(guests, loads);
  });

  test("a share that is not used is nobody else's; alone, a guest has all", () => {
    const guests = guestsOf(['V5_8', 'V5_2']);
    const [small, idle] = guests;
    assert.ok(small && idle);
    const load = new Load(small);
    small.clock.advance(3 * SECOND);
    const before = load.done;
    small.clock.advance(5 * SECOND);
    const limited = (load.done - before) / 5;
    assert.ok(limited > 75 && limited < 125, `${limited} jobs of two milliseconds per second`);
    idle.finish = () => {};
    idle.device.close();
    small.clock.advance(2 * SECOND);
    const alone = load.done;
    small.clock.advance(SECOND);
    assert.ok(load.done - alone > 450, `${load.done - alone}`);
    finish([small], [load]);
  });

  test('a switch waits until the engines have finished what they run', () => {
    const guests = guestsOf(['V5_8', 'V5_8'], { engineBytesPerMs: SPEED / 150 });
    const loads = guests.map((guest) => new Load(guest));
    const clock = guests[0]?.clock ?? new ManualClock();
    clock.advance(20 * SECOND);
    const total = loads.reduce((sum, { done }) => sum + done, 0);
    assert.ok(total >= 60 && total <= 67, `${total} jobs of 300 ms in 20 s`);
    assert.ok(
      loads.every(({ done }) => done > 20),
      loads.map(({ done }) => done).join(' '),
    );
    finish(guests, loads);
  });

  test('with nothing to do the clock has nothing to do', () => {
    const guests = guestsOf(['V5_8', 'V5_4']);
    const loads = guests.map((guest) => new Load(guest));
    guests[0]?.clock.advance(SECOND);
    for (const load of loads) load.on = false;
    guests[0]?.clock.drain();
    assert.equal(guests[0]?.clock.waiting, 0);
    assert.ok(guests.every(({ device }) => device.submission.idle));
    finish(guests, []);
  });

  test('closing one while it runs hands the engines to the other at once', () => {
    const guests = guestsOf(['V5_8', 'V5_8']);
    const [first, second] = guests;
    assert.ok(first && second);
    const loads = [new Load(first), new Load(second)];
    first.clock.advance(3 * SECOND);
    second.device.close();
    const before = loads.map(({ done }) => done);
    first.clock.advance(2 * SECOND);
    assert.equal(loads[1]?.done, before[1]);
    assert.ok((loads[0]?.done ?? 0) - (before[0] ?? 0) > 500);
    assert.equal(second.pins.pages, 0);
    finish([first], loads.slice(0, 1));
  });

  test('a guest that hangs costs the other the hang time, no more', () => {
    const guests = guestsOf(['V5_8', 'V5_8'], { engineHangMs: 500 });
    const [bad, good] = guests;
    assert.ok(bad && good);
    const context = bad.context('bcs');
    bad.poke(FRAME.PAGES, 0, [0x0e00c002, 5, 0x1000, 0]);
    bad.emit(context, [0x18800101, 0, 0]);
    bad.start(context);
    bad.clock.advance(1);
    const load = new Load(good);
    bad.clock.advance(SECOND);
    assert.deepEqual([bad.device.engine, bad.device.engineError?.errno], ['halted', 'EIO']);
    assert.ok(load.done > 200, `${load.done}`);
    finish(guests, [load]);
  });
});

describe('a guest that never stops', () => {
  /** Fills in the ring of the registers, and one more from each interrupt: the ring is never empty. */
  function flood(guest: ExeclistGuest): () => number {
    guest.write32(BCS.base + RING.MODE, MODE.EXECLIST << 16);
    guest.startRing(guest.at(250), 250, 4);
    let done = 0;
    const rect = { x1: 0, y1: 0, x2: 1024, y2: 1 };
    const fill = xyColorBlt({ target: { address: guest.at(100), pitch: 4096 }, rect, color: 1 });
    const feed = () => guest.submit(fill, miUserInterrupt());
    guest.device.setIrqSink(() => {
      done += 1;
      guest.write32(INTERRUPT.IIR, 0xffffffff);
      feed();
    });
    for (let at = 0; at < 8; at++) feed();
    return () => done;
  }

  test('in ring mode gets its share and no more', () => {
    const guests = guestsOf(['V5_8', 'V5_8']);
    const [greedy, good] = guests;
    assert.ok(greedy && good);
    const flooded = flood(greedy);
    const load = new Load(good);
    greedy.clock.advance(3 * SECOND);
    const before = [flooded(), load.done] as const;
    greedy.clock.advance(2 * SECOND);
    const share = (load.done - before[1]) / (flooded() - before[0] + load.done - before[1]);
    assert.ok(share > 0.4 && share < 0.6, `${share}`);
    greedy.device.setIrqSink(undefined);
    finish(guests, [load]);
  });

  test('with a submission of many long batches is stopped when its time is over', () => {
    const guests = guestsOf(['V5_8', 'V5_8'], { engineHangMs: 500 });
    const [greedy, good] = guests;
    assert.ok(greedy && good);
    const context = greedy.context('bcs');
    const rect = { x1: 0, y1: 0, x2: 1024, y2: 8 };
    greedy.emit(
      context,
      ...new Array<number[]>(100).fill(xyColorBlt({ target: { address: 0, pitch: 4096 }, rect, color: 1 })),
    );
    greedy.start(context);
    greedy.clock.advance(1);
    const load = new Load(good);
    greedy.clock.advance(SECOND);
    assert.deepEqual([greedy.device.engine, greedy.device.engineError?.name], ['halted', 'GVT_ENGINE_HUNG']);
    assert.ok(load.done > 200, `${load.done}`);
    finish(guests, [load]);
  });
});

describe('limits', () => {
  for (const [option, value] of [
    ['engineBytesPerMs', 0],
    ['engineBytesPerMs', -1],
    ['engineBytesPerMs', Number.NaN],
    ['engineHangMs', 0],
  ] as const) {
    test(`${option} of ${value} is refused`, () => {
      assert.throws(() => createGvtDriver({ [option]: value }), { name: 'GVT_BAD_LIMIT', errno: 'EINVAL' });
    });
  }

  test('work takes the time that it takes', () => {
    const [guest] = guestsOf(['V5_8']);
    assert.ok(guest);
    const load = new Load(guest);
    load.on = false;
    guest.clock.advance(1.9);
    assert.equal(load.done, 0);
    guest.clock.advance(0.2);
    assert.deepEqual([load.done, guest.csb(BCS).length], [1, 2]);
    finish([guest], [load]);
  });
});
