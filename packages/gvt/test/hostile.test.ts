import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Gfn, PinionError } from '@pinion/core';
import {
  type BackendFactory,
  CONFIG,
  FENCE_BASE,
  G2V,
  GEN9_HARDWARE,
  GEN9_RULES,
  GTT_OFFSET,
  type GuestWriteHandler,
  kvmBackend,
  miBatchBufferEnd,
  PVINFO,
  REGION,
} from '@pinion/gvt';
import fc from 'fast-check';
import { ExeclistGuest, FRAME } from './execlist-guest.js';

const PAGE = 4096;
const PAGES = 1024;
const BASES = [0x2000, 0x12000, 0x1a000, 0x1c000, 0x22000];
const ENGINE = [0x30, 0x34, 0x38, 0x3c, 0x80, 0x94, 0x9c, 0xd0, 0x140, 0x230, 0x244, 0x29c, 0x358, 0x370, 0x3a0, 0x4d0];
/** Registers that do something. */
const REGISTERS: readonly number[] = [
  ...BASES.flatMap((base) => ENGINE.map((offset) => base + offset)),
  ...GEN9_RULES.map(({ first }) => first),
  ...GEN9_HARDWARE.map(({ offset }) => offset),
  ...Array.from({ length: 12 }, (_, at) => PVINFO.BASE + 0x800 + at * 8),
  ...[0, 3, 4, 31].map((fence) => FENCE_BASE + fence * 8),
  ...[0x941c, 0x4080, 0x4094, 0x44200, 0x44304, 0x44308, 0x4430c, 0x44400, 0xc4000],
  ...[0x70008, 0x6001c, 0x70080, 0x70084, 0x70180, 0x70188, 0x7019c, 0x701a4],
  ...[0xc5100, 0xc5104, 0xc5108, 0xc510c, 0x64010, 0x64014, 0x64110, 0x64310],
];

const word = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    0xffffffff,
    0x80008000,
    0x80000000,
    FRAME.TABLES * PAGE,
    FRAME.TABLES * PAGE + 3,
    0x11a,
  ),
  fc.nat(0xffffffff),
);
const region = fc.constantFrom(REGION.BAR0, REGION.BAR2, REGION.CONFIG, REGION.OPREGION, REGION.EDID, REGION.ROM, 42);
const place = fc.oneof(
  fc.constantFrom(...REGISTERS),
  fc.nat(4096),
  fc.nat(16 * 1024 * 1024 + 16),
  fc.nat(1023).map((entry) => GTT_OFFSET + ((128 * 1024 * 1024) / PAGE) * 8 + entry * 4),
);
const frame = fc.oneof(
  fc.nat(PAGES - 1),
  fc.integer({ min: FRAME.TABLES, max: FRAME.TABLES + 3 }),
  fc.constantFrom(FRAME.CONTEXTS, FRAME.CONTEXTS + 1),
);

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('register' as const),
      offset: fc.constantFrom(...REGISTERS),
      value: word,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('access' as const),
      region,
      offset: place,
      length: fc.nat(24),
      write: fc.boolean(),
      value: word,
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('store' as const), frame, index: fc.nat(1023), value: word }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      engine: fc.nat(4),
      low: word,
      sane: fc.constantFrom(true, true, false),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wait' as const), steps: fc.nat(6) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('unmap' as const), frame, count: fc.integer({ min: 1, max: 40 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), asleep: fc.boolean() }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A guest that does what it likes. The only thing that may come of it is a refusal. */
class HostileGuest extends ExeclistGuest {
  readonly #watched: Map<number, GuestWriteHandler>;

  constructor(trapped: boolean) {
    const watched = new Map<number, GuestWriteHandler>();
    const hypervisor: BackendFactory = (parts) => {
      const backend = kvmBackend(parts);
      const watchWrites = (gfn: Gfn, onWrite: GuestWriteHandler) => {
        watched.set(gfn, onWrite);
        return () => watched.delete(gfn);
      };
      if (trapped) backend.setWriteTraps?.({ watchWrites });
      return backend;
    };
    super({ pages: PAGES, hypervisor });
    this.#watched = watched;
  }

  do(step: Step): void {
    try {
      this.#do(step);
    } catch (cause) {
      assert.ok(cause instanceof PinionError, `${JSON.stringify(step)}: ${String(cause)}`);
    }
  }

  #do(step: Step): void {
    if (step.kind === 'register') this.write32(step.offset, step.value);
    else if (step.kind === 'access') this.#access(step);
    else if (step.kind === 'store') this.#store(step.frame, step.index * 4, step.value);
    else if (step.kind === 'wait') for (let n = 0; n < step.steps; n++) this.clock.step();
    else if (step.kind === 'unmap') this.unmap(step.frame, Math.min(step.count, PAGES - step.frame));
    else if (step.kind === 'reset') this.#reset(step.asleep);
    else this.#submit(step);
  }

  #access(request: Extract<Step, { kind: 'access' }>): void {
    const bytes = new Uint8Array(request.length).fill(request.value & 0xff);
    if (request.write) this.device.writeRegion(request.region, request.offset, bytes);
    else this.device.readRegion(request.region, request.offset, bytes);
  }

  #store(gfn: number, offset: number, value: number): void {
    if (!this.pins.has(gfn)) return;
    this.poke(gfn, offset, [value]);
    this.#watched.get(gfn)?.(BigInt(gfn * PAGE + offset), this.pins.page(gfn).slice(offset, offset + 4));
  }

  #submit({ engine, low, sane }: Extract<Step, { kind: 'submit' }>): void {
    const base = BASES[engine] ?? 0;
    const descriptor = sane ? (this.low.base + FRAME.CONTEXTS * PAGE) | 0x119 : low;
    for (const value of [0, 0, 1, descriptor]) this.write32(base + 0x230, value);
  }

  #reset(asleep: boolean): void {
    if (asleep) this.write32(CONFIG.PMCSR, 3, REGION.CONFIG);
    this.device.reset();
  }

  /** Whatever state it is in: it is killed, and everything comes back. */
  kill(): void {
    this.device.close();
    assert.deepEqual([this.pins.pages, this.clock.waiting, this.#watched.size], [0, 0, 0]);
    const { tables, mapped, mms } = this.device.ppgtt.stats;
    assert.deepEqual([this.device.stats.cacheEntries, tables, mapped, mms], [0, 0, 0, 0]);
    this.device.remove();
    assert.equal(this.driver.available('V5_8'), 6);
  }
}

describe('a guest that does what it likes', () => {
  for (const trapped of [false, true]) {
    test(`hurts only itself, and leaves nothing when it is killed${trapped ? ' (its stores are trapped)' : ''}`, () => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 40, maxLength: 120 }), (steps) => {
          const guest = new HostileGuest(trapped);
          guest.poke(FRAME.PAGES + 3, 0, miBatchBufferEnd());
          const context = guest.context('bcs');
          guest.emit(context, [0x10000002, 0x5000, 0, 7], [0x18800101, 0x3000, 0]);
          guest.write32(PVINFO.PDP, FRAME.TABLES * PAGE);
          guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
          for (const one of steps) guest.do(one);
          guest.kill();
        }),
        { numRuns: 15 },
      );
    });
  }
});
