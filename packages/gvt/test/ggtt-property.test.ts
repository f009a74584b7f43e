import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame } from '@pinion/core';
import { GTT_OFFSET } from '@pinion/gvt';
import fc from 'fast-check';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
/** Guest frames 0..7 are memory; 8 is none. */
const FRAMES = 8;
const SLOTS = 4;

const slot = fc.nat(SLOTS - 1);
const frame = fc.nat(FRAMES);
const present = fc.constantFrom(0, 1, 3);
/** Bits of the upper half that are no address, and some that are. */
const high = fc.constantFrom(0, 0, 0, 0xffffc000, 1);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('whole' as const), slot, frame, present, high }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('low' as const), slot, frame, present }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('high' as const), slot, high }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unmap' as const), frame: fc.nat(FRAMES - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('foreign' as const), frame }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reset' as const }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** One entry, as the reference describes it in words. */
interface Entry {
  low: number;
  high: number;
  /** A half that waits for its partner. */
  waits: 'low' | 'high' | undefined;
  host: { present: boolean; gfn: number | undefined };
}
const fresh = (): Entry => ({ low: 0, high: 0, waits: undefined, host: { present: true, gfn: undefined } });

class Model {
  readonly gone = new Set<number>();
  entries = Array.from({ length: SLOTS }, fresh);

  whole(entry: Entry, low: number, high: number): void {
    Object.assign(entry, { low, high, waits: undefined });
    const gfn = (high & 0x3fff) * 2 ** 20 + (low >>> 12);
    const there = gfn < FRAMES && !this.gone.has(gfn);
    entry.host = (low & 1) === 0 ? { present: false, gfn: undefined } : { present: true, gfn: there ? gfn : undefined };
  }

  half(entry: Entry, which: 'low' | 'high', value: number): void {
    if (entry.waits !== undefined && entry.waits !== which) {
      this.whole(entry, which === 'low' ? value : entry.low, which === 'high' ? value : entry.high);
      return;
    }
    Object.assign(entry, { low: 0, high: 0, [which]: value, waits: which });
    entry.host = { present: false, gfn: undefined };
  }

  unmap(gfn: number): void {
    this.gone.add(gfn);
    for (const entry of this.entries) if (entry.host.gfn === gfn) entry.host = { present: true, gfn: undefined };
  }

  references(gfn: number): number {
    return this.entries.filter(({ host }) => host.gfn === gfn).length;
  }
}

function run(guest: FakeGuest, model: Model, one: Step): void {
  const at = (index: number) => guest.low.base + index * PAGE;
  const offset = (index: number) => GTT_OFFSET + (at(index) / PAGE) * 8;
  if (one.kind === 'reset') {
    guest.device.reset();
    model.entries = Array.from({ length: SLOTS }, fresh);
  } else if (one.kind === 'unmap') {
    if (!model.gone.has(one.frame)) guest.unmap(one.frame, 1);
    model.unmap(one.frame);
  } else if (one.kind === 'foreign') guest.writeEntry(guest.low.base - PAGE, BigInt(one.frame * PAGE + 1));
  else {
    const entry = model.entries[one.slot] ?? fresh();
    if (one.kind === 'high') {
      model.half(entry, 'high', one.high);
      guest.write32(offset(one.slot) + 4, one.high);
      return;
    }
    const low = one.frame * PAGE + one.present;
    if (one.kind === 'low') {
      model.half(entry, 'low', low);
      guest.write32(offset(one.slot), low);
    } else {
      model.whole(entry, low, one.high);
      guest.writeEntry(at(one.slot), (BigInt(one.high) << 32n) | BigInt(low));
    }
  }
}

function compare(guest: FakeGuest, model: Model): void {
  for (const [index, { low, high: upper, host }] of model.entries.entries()) {
    const address = guest.low.base + index * PAGE;
    const dma = host.gfn === undefined ? undefined : guest.pins.hostFrame(host.gfn);
    assert.deepEqual(
      guest.device.ggtt.hostEntry(address / PAGE),
      { present: host.present, dma },
      `host entry ${index}`,
    );
    assert.equal(guest.readEntry(address), (BigInt(upper) << 32n) | BigInt(low), `guest entry ${index}`);
  }
  assert.equal(guest.readEntry(guest.low.base - PAGE), 0n);
  for (let gfn = 0; gfn < FRAMES; gfn++)
    assert.equal(guest.pins.count(asIovaFrame(gfn)), Math.min(1, model.references(gfn)), `pins of ${gfn}`);
}

test('the global table is what its description says, after any writes, halves, unmaps and resets', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const guest = new FakeGuest({ pages: 16, place: (gfn) => (gfn < FRAMES ? FRAMES - 1 - gfn : -1) });
      const model = new Model();
      for (const one of steps) {
        run(guest, model, one);
        compare(guest, model);
      }
      guest.finish();
    }),
    { numRuns: 40 },
  );
});
