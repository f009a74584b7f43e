import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  CSB,
  ENGINES,
  EXECLIST_STATUS,
  INTERRUPT_BANKS,
  miBatchBufferEnd,
  miBatchBufferStart,
  miStoreDword,
  miUserInterrupt,
  RING,
} from '@pinion/gvt';
import { ExeclistGuest, engineOf, FRAME } from './execlist-guest.js';

const BCS = engineOf('bcs');
const RCS = engineOf('rcs');
const PPGTT_START = 1 << 8;
const status = (guest: ExeclistGuest, engine = BCS): readonly [number, number] => [
  guest.read32(engine.base + RING.EXECLIST_STATUS),
  guest.read32(engine.base + RING.EXECLIST_STATUS + 4),
];
const RUNS_0 = EXECLIST_STATUS.VALID_0 | EXECLIST_STATUS.ACTIVE_0 | EXECLIST_STATUS.WRITE_POINTER;
const RUNS_1 = EXECLIST_STATUS.VALID_1 | EXECLIST_STATUS.ACTIVE_1 | EXECLIST_STATUS.CURRENT;

describe('context status', () => {
  test('of one context: idle to active, then complete and idle', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 7));
    guest.start(a);
    assert.deepEqual([guest.csb(BCS), status(guest), guest.irqs.length], [[[0x1, 0]], [RUNS_0, a.id], 1]);
    guest.clock.drain();
    assert.deepEqual(guest.csb(BCS), [
      [0x1, 0],
      [0x18, a.id],
    ]);
    assert.deepEqual([status(guest), guest.irqs.length, guest.peek(FRAME.DATA, 0)], [[0, 0], 2, 7]);
    guest.finish();
  });

  test('of two: the first one completes and the element switches', () => {
    const guest = new ExeclistGuest();
    const [a, b] = [guest.context('bcs'), guest.context('bcs')];
    for (const [at, context] of [a, b].entries())
      guest.emit(context, miStoreDword(guest.at(FRAME.DATA, at * 4), at + 1));
    guest.start(a, b);
    guest.clock.drain();
    assert.deepEqual(guest.csb(BCS), [
      [0x1, 0],
      [0x14, a.id],
      [0x18, b.id],
    ]);
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(FRAME.DATA, 4)], [1, 2]);
    guest.finish();
  });

  test('a second submission waits in the other slot, and comes in with the first one out, at one interrupt', () => {
    const guest = new ExeclistGuest();
    const [a, c] = [guest.context('bcs'), guest.context('bcs')];
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
    guest.emit(c, miStoreDword(guest.at(FRAME.DATA, 4), 2));
    guest.start(a);
    guest.start(c);
    assert.deepEqual([guest.csb(BCS), status(guest)], [[[0x1, 0]], [RUNS_0 | EXECLIST_STATUS.QUEUE_FULL, a.id]]);
    const seen: unknown[] = [];
    guest.device.setIrqSink(() => seen.push([guest.csb(BCS).slice(1), status(guest)]));
    guest.clock.drain();
    assert.deepEqual(seen, [
      [
        [
          [0x18, a.id],
          [0x1, 0],
        ],
        [RUNS_1, c.id],
      ],
      [
        [
          [0x18, a.id],
          [0x1, 0],
          [0x18, c.id],
        ],
        [0, 0],
      ],
    ]);
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(FRAME.DATA, 4)], [1, 2]);
    guest.finish();
  });

  test('a third one has no slot: the write fails, nothing is changed', () => {
    const guest = new ExeclistGuest();
    const [a, c, d] = [guest.context('bcs'), guest.context('bcs'), guest.context('bcs')];
    for (const context of [a, c, d]) guest.emit(context, miStoreDword(guest.at(FRAME.DATA, context.id * 4), 1));
    guest.start(a);
    guest.start(c);
    assert.throws(() => guest.start(d), { name: 'GVT_REGION_FAULT', errno: 'EFAULT' });
    assert.match(guest.log.warnings.join(), /submission to bcs refused/);
    guest.clock.drain();
    assert.deepEqual(
      [a, c, d].map(({ id }) => guest.peek(FRAME.DATA, id * 4)),
      [1, 1, 0],
    );
    guest.start(d);
    guest.clock.drain();
    assert.equal(guest.peek(FRAME.DATA, d.id * 4), 1);
    guest.finish();
  });

  test('the running context again: lite restore; it goes on where it ended and leaves once', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
    guest.start(a);
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA, 4), 2));
    guest.start(a);
    assert.deepEqual(
      [guest.csb(BCS).at(-1), status(guest)],
      [
        [0x8002, a.id],
        [RUNS_1, a.id],
      ],
    );
    guest.clock.drain();
    assert.deepEqual(guest.csb(BCS), [
      [0x1, 0],
      [0x8002, a.id],
      [0x18, a.id],
    ]);
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(FRAME.DATA, 4)], [1, 2]);
    assert.equal(guest.state(a, 5), a.tail);
    guest.finish();
  });

  test('of {A,B} while B runs: B again is a lite restore', () => {
    const guest = new ExeclistGuest();
    const [a, b] = [guest.context('bcs'), guest.context('bcs')];
    for (const context of [a, b]) guest.emit(context, miStoreDword(guest.at(FRAME.DATA, context.id * 4), 1));
    let again = false;
    guest.device.setIrqSink(() => {
      if (again || guest.csb(BCS).at(-1)?.[0] !== (CSB.COMPLETE | CSB.ELEMENT_SWITCH)) return;
      again = true;
      guest.emit(b, miStoreDword(guest.at(FRAME.DATA, b.id * 4), 2));
      guest.start(b);
    });
    guest.start(a, b);
    guest.clock.drain();
    assert.deepEqual(guest.csb(BCS), [
      [0x1, 0],
      [0x14, a.id],
      [0x8002, b.id],
      [0x18, b.id],
    ]);
    assert.equal(guest.peek(FRAME.DATA, b.id * 4), 2);
    guest.finish();
  });

  test('of {A,B}, then {B}: it waits, so B leaves and comes in again', () => {
    const guest = new ExeclistGuest();
    const [a, b] = [guest.context('bcs'), guest.context('bcs')];
    for (const context of [a, b]) guest.emit(context, miStoreDword(guest.at(FRAME.DATA, context.id * 4), 1));
    guest.start(a, b);
    guest.emit(b, miStoreDword(guest.at(FRAME.DATA, b.id * 4), 2));
    guest.start(b);
    guest.clock.drain();
    assert.deepEqual(guest.csb(BCS), [
      [0x1, 0],
      [0x14, a.id],
      [0x18, b.id],
      [0x1, 0],
      [0x18, b.id],
    ]);
    assert.deepEqual([guest.peek(FRAME.DATA, b.id * 4), status(guest)], [2, [0, 0]]);
    guest.finish();
  });

  test('the same context twice in one submission is refused', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
    assert.throws(() => guest.start(a, a), { name: 'GVT_REGION_FAULT' });
    guest.clock.drain();
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.csb(BCS)], [0, []]);
    guest.finish();
  });

  test('the buffer has six entries: pointer 7 at first, then 0 to 5 and round; the mirror is the buffer', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    const pointer = () => guest.read32(BCS.base + RING.CSB_POINTER) & 7;
    assert.equal(pointer(), 7);
    const pointers: number[] = [];
    guest.device.setIrqSink(() => pointers.push(pointer()));
    for (let round = 0; round < 4; round++) guest.execute(a, miStoreDword(guest.at(FRAME.DATA), round));
    assert.deepEqual(pointers, [0, 1, 2, 3, 4, 5, 0, 1]);
    const frame = FRAME.HWSP + ENGINES.indexOf(BCS);
    for (let dword = 0; dword < 12; dword++)
      assert.equal(guest.peek(frame, 0x40 + dword * 4), guest.read32(BCS.base + RING.CSB + dword * 4));
    assert.equal(guest.peek(frame, 0x7c), 1);
    guest.finish();
  });

  test('the pointer register: the guest moves only the read pointer, through its mask', () => {
    const guest = new ExeclistGuest();
    const at = BCS.base + RING.CSB_POINTER;
    guest.write32(at, 0xffff0000);
    assert.equal(guest.read32(at), 7);
    guest.write32(at, 0x00000505);
    assert.equal(guest.read32(at), 7);
    guest.write32(at, 0x07000507);
    assert.equal(guest.read32(at), 0x507);
    guest.finish();
  });

  test('without a status page only the registers tell', () => {
    const guest = new ExeclistGuest();
    guest.write32(BCS.base + RING.HWS_PGA, 0x1000);
    const a = guest.context('bcs');
    guest.execute(a, miStoreDword(guest.at(FRAME.DATA), 1));
    assert.deepEqual([guest.csb(BCS), guest.read32(BCS.base + RING.CSB)], [[], 1]);
    assert.equal(guest.read32(BCS.base + RING.CSB_POINTER) & 7, 1);
    assert.equal(guest.device.stats.faults, 0);
    guest.finish();
  });
});

describe('every engine', () => {
  for (const engine of ENGINES) {
    test(`${engine.name} runs contexts and tells by its own interrupt`, () => {
      const guest = new ExeclistGuest();
      const context = guest.context(engine.name);
      guest.execute(context, miStoreDword(guest.at(FRAME.DATA), 5), miUserInterrupt());
      assert.equal(guest.peek(FRAME.DATA, 0), 5);
      const bank = { rcs: 'gt0', bcs: 'gt0', vcs: 'gt1', vcs2: 'gt1', vecs: 'gt3' } as const;
      const shift = engine.name === 'bcs' || engine.name === 'vcs2' ? 16 : 0;
      assert.equal(guest.read32(INTERRUPT_BANKS[bank[engine.name]] + 8), 0x101 * 2 ** shift);
      assert.deepEqual(guest.csb(engine), [
        [0x1, 0],
        [0x18, context.id],
      ]);
      assert.equal(guest.device.submission.idle, true);
      guest.finish();
    });
  }

  test('works beside the others', () => {
    const guest = new ExeclistGuest();
    const contexts = ENGINES.map(({ name }) => guest.context(name));
    for (const context of contexts) {
      guest.emit(context, miStoreDword(guest.at(FRAME.DATA, context.id * 4), context.id));
      guest.start(context);
    }
    assert.ok(ENGINES.every(({ name }) => guest.device.submission.state(name) === 'running'));
    guest.clock.drain();
    for (const { id } of contexts) assert.equal(guest.peek(FRAME.DATA, id * 4), id);
    guest.finish();
  });
});

describe('a context image', () => {
  test('gets the new head and the time; the registers get head and tail', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.execute(a, miStoreDword(guest.at(FRAME.DATA), 1));
    assert.deepEqual([guest.state(a, 5), guest.state(a, 35) > 0], [16, true]);
    assert.deepEqual([guest.read32(BCS.base + RING.HEAD), guest.read32(BCS.base + RING.TAIL)], [16, 16]);
    guest.finish();
  });

  test('a ring that wraps', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    const size = 4 * 4096;
    guest.setState(a, { 5: size - 8 });
    a.tail = size - 8;
    guest.execute(a, miStoreDword(guest.at(FRAME.DATA), 1), miStoreDword(guest.at(FRAME.DATA, 4), 2));
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(FRAME.DATA, 4), guest.state(a, 5)], [1, 2, 24]);
    guest.finish();
  });

  test('of the render engine is saved when it starts and put back when it is done, from its third page on', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('rcs');
    for (let page = 0; page < 22; page++) guest.poke(a.frame + page, 4000, [page + 1]);
    guest.emit(a, miStoreDword(guest.at(a.frame + 21, 4000), 0x99), miStoreDword(guest.at(a.frame + 1, 4000), 0x77));
    guest.start(a);
    guest.clock.drain();
    assert.deepEqual(
      [1, 2, 20, 21].map((page) => guest.peek(a.frame + page, 4000)),
      [0x77, 3, 21, 22],
    );
    guest.finish();
  });

  test('the render engine runs the indirect and the per-context batch before the ring', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('rcs');
    const indirect = [miStoreDword(guest.at(FRAME.DATA), 1), miStoreDword(guest.at(FRAME.DATA, 4), 1)].flat();
    guest.poke(FRAME.BATCH, 0, indirect);
    guest.poke(FRAME.BATCH + 1, 0, [miStoreDword(guest.at(FRAME.DATA, 4), 2), miBatchBufferEnd()].flat());
    guest.setState(a, { 27: guest.at(FRAME.BATCH) | 1, 25: guest.at(FRAME.BATCH + 1) | 1 });
    guest.execute(a, [0x7a000004, 0x01004000, guest.at(FRAME.DATA, 8), 0, 3, 4]);
    assert.deepEqual(
      [0, 4, 8, 12].map((at) => guest.peek(FRAME.DATA, at)),
      [1, 2, 3, 4],
    );
    assert.deepEqual(guest.csb(RCS).at(-1), [0x18, a.id]);
    guest.finish();
  });
});

describe('address spaces', () => {
  test('a batch of the own address space sees what the own tables say; a ring command chooses by its bit', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    const own = (address: number, value: number) => [0x10000002, address, 0, value];
    guest.poke(FRAME.PAGES + 3, 0, [own(0x5004, 8), miBatchBufferEnd()].flat());
    const [header = 0, low = 0] = miBatchBufferStart(0x3000);
    guest.execute(a, own(0x5000, 7), [header | PPGTT_START, low, 0], miStoreDword(guest.at(FRAME.DATA), 9));
    assert.deepEqual(
      [guest.peek(FRAME.PAGES + 5, 0), guest.peek(FRAME.PAGES + 5, 4), guest.peek(FRAME.DATA, 0)],
      [7, 8, 9],
    );
    assert.deepEqual(guest.device.faults, []);
    guest.finish();
  });

  test('where they lead nowhere it is a fault, and the job goes on', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.execute(a, [0x10000002, 0x40000, 0, 7], miStoreDword(guest.at(FRAME.DATA), 9));
    assert.equal(guest.peek(FRAME.DATA, 0), 9);
    assert.deepEqual(
      guest.device.faults.map(({ source, address, write, table }) => [source, address, write, table]),
      [['bcs', 0x40000, true, 'ppgtt']],
    );
    guest.finish();
  });
});
