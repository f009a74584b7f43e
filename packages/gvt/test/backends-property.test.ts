import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, asPfn, type Gfn, type Pfn, PinionError } from '@pinion/core';
import { type HypervisorBackend, NO_QUIRKS, SIZE_2M, SIZE_4K } from '@pinion/gvt';
import fc from 'fast-check';
import { backendsOver } from './explored-scenarios.js';
import { FakePins, KeptLog } from './fake-guest.js';

/** Guest frames: two runs of 2 MiB and a bit, with a hole of 8 pages that no memory stands behind. */
const PAGES = 1100;
const HOLE = { first: 700, last: 707 };

type Step =
  | { readonly do: 'map'; readonly gfn: number; readonly size: number }
  | { readonly do: 'unmap' | 'pin'; readonly nth: number }
  | { readonly do: 'range'; readonly first: number; readonly count: number }
  | { readonly do: 'reset' }
  | { readonly do: 'reopen' };

const gfn = fc.oneof(fc.integer({ min: 0, max: PAGES + 8 }), fc.constantFrom(0, 188, 512, 588, 699, 700, 707, 708));
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('map' as const),
      gfn,
      size: fc.constantFrom(SIZE_4K, SIZE_4K, SIZE_4K, SIZE_2M),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('unmap' as const, 'pin' as const), nth: fc.nat(40) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('range' as const), first: gfn, count: fc.integer({ min: 1, max: 600 }) }),
  },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ do: 'reset' }, { do: 'reopen' }) },
);

interface Holder {
  readonly gfn: Gfn;
  readonly pages: number;
  readonly dma: Pfn;
}

/** What the core knows: who was given which address and has not given it back. */
class Core {
  readonly #backend: HypervisorBackend;
  readonly #pins: FakePins;
  #holders: Holder[] = [];

  constructor(backend: HypervisorBackend, pins: FakePins) {
    this.#backend = backend;
    this.#pins = pins;
  }

  play(step: Step): void {
    if (step.do === 'map') this.#map(asGfn(step.gfn), step.size);
    else if (step.do === 'range') this.#range(step.first, step.count);
    else if (step.do === 'reset') this.#end(() => this.#backend.releaseAll());
    else if (step.do === 'reopen') this.#reopen();
    else this.#withHolder(step.do, step.nth);
    this.#check();
  }

  #map(gfn: Gfn, size: number): void {
    try {
      const dma = this.#backend.dmaMapGuestPage(gfn, size);
      const same = this.#holders.find((holder) => holder.gfn === gfn);
      if (same !== undefined) assert.equal(dma, same.dma, 'the same frame is the same address while it is held');
      this.#holders.push({ gfn, pages: size / 4096, dma });
    } catch (refusal) {
      assert.ok(refusal instanceof PinionError && refusal.errno === 'EINVAL', String(refusal));
      assert.ok(gfn + size / 4096 > PAGES || (gfn <= HOLE.last && gfn + size / 4096 > HOLE.first), 'there is memory');
    }
  }

  #withHolder(what: 'unmap' | 'pin', nth: number): void {
    const holder = this.#holders[nth % Math.max(1, this.#holders.length)];
    if (holder === undefined) return;
    if (what === 'unmap') {
      this.#backend.dmaUnmapGuestPage(holder.dma);
      this.#holders.splice(this.#holders.indexOf(holder), 1);
    } else if (this.#backend.capabilities.dmaPin) {
      this.#backend.dmaPinGuestPage?.(holder.dma);
      this.#holders.push(holder);
    }
  }

  #range(first: number, count: number): void {
    const last = first + count - 1;
    const range = { first: asIovaFrame(first), last: asIovaFrame(last) };
    const along = new Set(this.#backend.reachingInto?.(range));
    this.#backend.releaseRange(range);
    this.#holders = this.#holders.filter(
      ({ gfn, pages }) => !along.has(gfn) && (gfn > last || gfn + pages - 1 < first),
    );
    for (let at = first; at <= last; at++)
      assert.equal(this.#pins.count(asIovaFrame(at)), 0, `frame ${at} was given back`);
  }

  #end(action: () => readonly { readonly gfn: number; readonly refs: number }[]): void {
    const left = action().map(({ gfn, refs }) => [gfn, refs]);
    const held = [...new Set(this.#holders.map(({ gfn }) => gfn))];
    const counted = held.map((gfn) => [gfn, this.#holders.filter((holder) => holder.gfn === gfn).length]);
    const expected = this.#backend.capabilities.pinned ? [] : counted;
    const order = (a: readonly (number | undefined)[], b: readonly (number | undefined)[]) => (a[0] ?? 0) - (b[0] ?? 0);
    assert.deepEqual(left.sort(order), expected.sort(order), 'exactly what was not given back is left over');
    if (!this.#backend.capabilities.pinned) this.#holders = [];
  }

  #reopen(): void {
    this.#end(() => this.#backend.detach());
    this.#holders = [];
    assert.deepEqual([this.#pins.pages, this.#backend.usage], [0, { mappings: 0, pages: 0 }]);
    this.#backend.attach();
  }

  /** Every page that somebody has an address of is held, and lies where the address says. */
  #check(): void {
    for (const { gfn, pages, dma } of this.#holders) {
      for (const at of [0, pages - 1]) {
        assert.ok(this.#pins.count(asIovaFrame(gfn + at)) > 0, `frame ${gfn + at} is held`);
        assert.equal(this.#pins.hostFrame(gfn + at), asPfn(dma + at));
      }
    }
  }
}

describe('any order of maps, unmaps, ranges, resets and closes', () => {
  const all = backendsOver([
    { first: asGfn(0), last: asGfn(599) },
    { first: asGfn(600), last: asGfn(PAGES - 1) },
  ]);
  for (const [name, hypervisor] of all) {
    test(`on ${name}: what somebody has is held, what went is not, what is left is named`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
          const place = (frame: number) => (frame >= HOLE.first && frame <= HOLE.last ? -1 : frame);
          const pins = new FakePins({ pages: PAGES, place });
          const refuse = () => assert.fail('nothing is copied here');
          const parts = {
            device: 'vgpu',
            pins,
            dma: { read: refuse, write: refuse },
            log: new KeptLog(),
            quirks: NO_QUIRKS,
          };
          const backend = hypervisor(parts);
          backend.attach();
          const core = new Core(backend, pins);
          for (const each of steps) core.play(each);
          backend.detach();
          assert.equal(pins.pages, 0);
        }),
        { numRuns: 40 },
      );
    });
  }
});
