import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PinionError } from '@pinion/core';
import {
  createGvtDriver,
  ENGINES,
  EXECLIST_STATUS,
  INTERRUPT,
  MASTER_ENABLE,
  miBatchBufferEnd,
  RING,
} from '@pinion/gvt';
import fc from 'fast-check';
import { type Context, ExeclistGuest, engineOf, FRAME } from './execlist-guest.js';
import { ManualClock } from './fake-guest.js';

const BCS = engineOf('bcs');

describe('whatever is submitted, in whatever order', () => {
  /** Reads what is new in the status buffer at each interrupt, as a driver does. */
  class Reader {
    readonly entries: (readonly [number, number])[] = [];
    readonly guest: ExeclistGuest;
    #read = 5;

    constructor(guest: ExeclistGuest) {
      this.guest = guest;
      guest.device.setIrqSink(() => this.#look());
    }

    #look(): void {
      const frame = FRAME.HWSP + ENGINES.indexOf(BCS);
      const write = this.guest.peek(frame, 0x7c);
      while (this.#read !== write) {
        this.#read = (this.#read + 1) % 6;
        this.entries.push([
          this.guest.peek(frame, 0x40 + this.#read * 8),
          this.guest.peek(frame, 0x44 + this.#read * 8),
        ]);
      }
    }
  }

  const step = fc.oneof(
    fc.record({
      kind: fc.constant('submit' as const),
      first: fc.nat(2),
      second: fc.option(fc.nat(2), { nil: undefined }),
    }),
    fc.record({ kind: fc.constant('run' as const), steps: fc.integer({ min: 1, max: 4 }) }),
  );

  test('everything runs once and in order, and the status buffer tells it', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
        const guest = new ExeclistGuest();
        const reader = new Reader(guest);
        const contexts = [0, 1, 2].map(() => guest.context('bcs'));
        const expected = contexts.map(() => 0);
        /** One more store to a context's own dword, of a number that grows. */
        const fill = (index: number): Context | undefined => {
          const context = contexts[index];
          if (context === undefined) return undefined;
          expected[index] = (expected[index] ?? 0) + 1;
          // memory := memory + 1, so that a job that runs twice or never shows
          guest.emit(context, [0x17c00501, guest.at(FRAME.DATA, index * 8), 0]);
          return context;
        };
        for (const one of steps) {
          if (one.kind === 'run') for (let at = 0; at < one.steps; at++) guest.clock.step();
          else if ((guest.read32(BCS.base + RING.EXECLIST_STATUS) & EXECLIST_STATUS.QUEUE_FULL) === 0) {
            const first = fill(one.first);
            const second = one.second === undefined || one.second === one.first ? undefined : fill(one.second);
            if (first !== undefined) guest.start(first, second);
          }
        }
        guest.clock.drain();
        assert.deepEqual(
          contexts.map((_, index) => guest.peek(FRAME.DATA, index * 8)),
          expected,
        );
        const count = (bit: number) => reader.entries.filter(([low]) => (low & bit) !== 0).length;
        assert.equal(count(1), count(8), 'as often idle as active');
        assert.ok(reader.entries.every(([low]) => [0x1, 0x14, 0x18, 0x8002].includes(low)));
        assert.deepEqual(
          contexts.map((context) => guest.state(context, 5)),
          contexts.map(({ tail }) => tail),
        );
        assert.ok(guest.device.submission.idle);
        guest.finish();
      }),
      { numRuns: 60 },
    );
  });
});

describe('a guest that submits anything at all', () => {
  const HEADERS = [
    0x00000000, 0x01000000, 0x02800000, 0x04000001, 0x05000000, 0x0a000001, 0x0e00c002, 0x10000002, 0x10400002,
    0x10600003, 0x11000001, 0x11000005, 0x12000002, 0x12400002, 0x13004002, 0x13204003, 0x14800002, 0x14c00002,
    0x15000001, 0x17800501, 0x18800001, 0x18800101, 0x18c00001, 0x18c00101, 0x1b000002, 0x50800008, 0x54300005,
    0x54300805, 0x54f00008, 0x40700008, 0x49000000, 0x5430ffff, 0x7a000004, 0xffffffff,
  ];
  const number = fc.oneof(
    fc.nat(0xffffffff),
    fc.integer({ min: 0, max: 64 }).map((page) => page * 4096),
  );
  const ours = fc.record({ frame: fc.nat(255), offset: fc.nat(4095) });
  const word = fc.oneof(
    { weight: 3, arbitrary: number.map((value) => ({ value })) },
    { weight: 2, arbitrary: ours },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x800 }).map((dword) => ({ value: BCS.base + dword * 4 })) },
  );
  const command = fc.tuple(fc.constantFrom(...HEADERS), fc.array(word, { maxLength: 10 }));
  const job = fc.record({
    engine: fc.constantFrom(...ENGINES.map(({ name }) => name)),
    ring: fc.array(command, { maxLength: 6 }),
    batch: fc.array(command, { maxLength: 12 }),
    global: fc.boolean(),
    state: fc.option(fc.record({ at: fc.integer({ min: 0, max: 51 }), value: number }), { nil: undefined }),
  });

  test('hurts nobody else, and leaves nothing behind', () => {
    fc.assert(
      fc.property(fc.array(job, { minLength: 1, maxLength: 3 }), (jobs) => {
        const driver = createGvtDriver({ engineHangMs: 20 });
        const clock = new ManualClock();
        const other = new ExeclistGuest({ driver, clock, name: 'other' });
        const guest = new ExeclistGuest({ driver, clock, name: 'hostile' });
        const place = (one: { value: number } | { frame: number; offset: number }): number =>
          'value' in one ? one.value : guest.at(one.frame, one.offset & ~3);
        const dwords = (list: (typeof jobs)[number]['ring']): number[] =>
          list.flatMap(([header, operands]) => [header, ...operands.map(place)]);
        for (const { engine, ring, batch, global, state } of jobs) {
          const context = guest.context(engine);
          guest.poke(global ? FRAME.BATCH : FRAME.PAGES, 0, [...dwords(batch), ...miBatchBufferEnd()]);
          const start = global ? [0x18800001, guest.at(FRAME.BATCH), 0] : [0x18800101, 0, 0];
          guest.emit(context, start, dwords(ring));
          if (state !== undefined) guest.setState(context, { [state.at]: state.value });
          try {
            guest.start(context);
          } catch (error) {
            assert.ok(error instanceof PinionError, String(error));
          }
          clock.advance(200);
        }
        assert.equal(other.read32(INTERRUPT.MASTER), MASTER_ENABLE);
        for (const frame of [FRAME.DATA, FRAME.BATCH, FRAME.PAGES])
          assert.ok(other.pins.page(frame).every((byte) => byte === 0));
        const good = other.context('bcs');
        other.emit(good, [0x10400002, other.at(FRAME.DATA), 0, 7]);
        other.start(good);
        clock.advance(5000);
        assert.equal(other.peek(FRAME.DATA, 0), 7);
        for (const one of [guest, other]) one.finish();
      }),
      { numRuns: 60 },
    );
  });
});
