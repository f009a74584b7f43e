import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, asPfn, frameRange, PinionError, PROT_RW } from '@pinion/core';
import { adaptHypervisor, type PpgttMm, type PpgttRoot, staticBackend, xenBackend } from '@pinion/gvt';
import fc from 'fast-check';
import { at, FakeTables, type FakeTablesOptions, IPS, P, PS, RW } from './fake-tables.js';
import { hasHuge, naiveWalk } from './ppgtt-walk.js';

/** Guest frames 1..6 are tables of any level, and pages; 0..511 is one run of host pages, 512..1023 is none; 700 and above 1023 is no memory. */
const PAGES = 1024;
const MEMORY = {
  pages: PAGES,
  hostPages: PAGES,
  place: (gfn: number) => (gfn < 512 ? gfn : gfn === 700 ? -1 : 1535 - gfn),
};
const ROOTS: readonly PpgttRoot[] = [
  { levels: 4, pdps: [1 * 4096] },
  { levels: 4, pdps: [2 * 4096] },
  { levels: 3, pdps: [3 * 4096, 0, 1 * 4096, 3 * 4096] },
];
const STAMP = 509 * 8;
const INDEXES = [0, 1, 2, 16, 511];
/** Addresses that differ in every level; the last level also looks at the pieces between two 64 KiB entries. */
const ADDRESSES = INDEXES.flatMap((i3) =>
  INDEXES.flatMap((i2) => [...INDEXES, 17].flatMap((i1) => [at(0, i3, i2, i1), at(1, i3, i2, i1)])),
);

const index = fc.constantFrom(...INDEXES);
const table = fc.integer({ min: 1, max: 6 });
const frames = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 6 }) },
  { weight: 2, arbitrary: fc.constantFrom(64, 80, 512, 528, 699, 700, 5000) },
);
const flags = fc
  .tuple(fc.constantFrom(P | RW, P | RW, P | RW, P, 0), fc.constantFrom(0, 0, 0, 0, 0, PS), fc.constantFrom(0, 0, IPS))
  .map(([p, ps, ips]) => p | ps | ips);

/** What stands in the tables before anything is shadowed. */
const start = fc.array(fc.record({ frames, flags }), { minLength: 30, maxLength: 30 });

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('whole' as const), table, index, frames, flags }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('low' as const), table, index, frames, flags }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('high' as const), table, index, high: fc.constantFrom(0, 1) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('ragged' as const), table, index, byte: fc.nat(15) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('look' as const), root: fc.nat(ROOTS.length - 1) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('unmap' as const),
      first: fc.constantFrom(5, 6, 64, 70, 512, 600),
      count: fc.constantFrom(1, 2, 20),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('release' as const), root: fc.nat(ROOTS.length - 1) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Model {
  readonly guest: FakeTables;
  readonly mms = new Map<number, PpgttMm>();
  readonly mayRunOut: boolean;
  less = false;

  constructor(options: FakeTablesOptions) {
    this.mayRunOut = options.ppgtt?.maxTables !== undefined;
    this.guest = new FakeTables({ ...MEMORY, ...options });
  }

  /** Each page names itself in an entry that is not present. */
  stamp(): void {
    for (let gfn = 0; gfn < PAGES; gfn++) {
      if (!this.guest.pins.has(gfn)) continue;
      const page = this.guest.pins.page(gfn);
      new DataView(page.buffer, page.byteOffset).setUint32(STAMP, gfn * 4096, true);
    }
  }

  fill(entries: readonly { frames: number; flags: number }[]): void {
    for (const [n, { frames: gfn, flags: bits }] of entries.entries())
      this.guest.entry(1 + (n % 6), INDEXES[Math.floor(n / 6)] ?? 0, gfn, bits);
  }

  run(step: Step): void {
    const { guest } = this;
    if ('table' in step && !guest.pins.has(step.table)) return;
    if (step.kind === 'whole') guest.entry(step.table, step.index, step.frames, step.flags);
    else if (step.kind === 'low') guest.half(step.table, step.index, false, step.frames * 4096 + step.flags);
    else if (step.kind === 'high') guest.half(step.table, step.index, true, step.high);
    else if (step.kind === 'ragged')
      guest.store(step.table, step.index * 8 + 6 - (step.index === 511 ? 4 : 0), new Uint8Array([step.byte, 0]));
    else if (step.kind === 'look') this.look(step.root);
    else if (step.kind === 'unmap') this.unmap(step.first, step.count);
    else this.release(step.root);
  }

  look(which: number): void {
    const { guest } = this;
    const root = ROOTS[which] ?? ROOTS[0];
    assert.ok(root);
    const huge = hasHuge(guest, root);
    try {
      const mm = this.mms.get(which) ?? guest.ppgtt.acquire(root);
      this.mms.set(which, mm);
      mm.pin();
      assert.equal(huge, false);
      const memory = mm.memory('bcs');
      for (const address of ADDRESSES) {
        if (root.levels === 3 && address >= 2 ** 32) continue;
        const found = mm.translate(address) ?? 'nothing';
        assert.equal(memory.readDword(address + STAMP), found === 'nothing' ? 0 : found * 4096, 'the real page');
        if (this.less && found === 'nothing') continue;
        assert.equal(found, naiveWalk(guest, root, address), `at 0x${address.toString(16)}`);
      }
      mm.unpin();
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      if (cause.name !== 'GVT_NO_TABLES' || !this.mayRunOut)
        assert.deepEqual([cause.name, huge], ['GVT_HUGE_ENTRY', true]);
    }
  }

  /** Memory goes away: nothing in it may be held, and from then on the shadow may lead to less than the guest's tables say. */
  unmap(first: number, count: number): void {
    const { ppgtt, backend, pins } = this.guest;
    const range = frameRange(asIovaFrame(first), count);
    ppgtt.scrub(range);
    for (const gfn of backend.reachingInto?.(range) ?? []) ppgtt.scrubPages(frameRange(asIovaFrame(gfn), 1));
    backend.releaseRange(range);
    pins.giveUp(range);
    this.less = true;
  }

  release(which: number): void {
    const mm = this.mms.get(which);
    if (mm !== undefined) this.guest.ppgtt.release(mm);
    this.mms.delete(which);
  }

  finish(): void {
    for (const which of ROOTS.keys()) this.look(which);
    for (const which of ROOTS.keys()) this.release(which);
    this.guest.finish();
  }
}

const ram = staticBackend({ memory: [{ first: asGfn(0), last: asGfn(PAGES - 1) }] });
const oneByOne = adaptHypervisor(({ pins }) => {
  const frame = new Float64Array(1);
  return {
    kind: 'one-by-one',
    pin(gfn) {
      pins.pinInto(asIovaFrame(gfn), 1, PROT_RW, frame);
      return asPfn(frame[0] ?? 0);
    },
    unpin: (gfn) => pins.unpin(asIovaFrame(gfn), 1),
  };
});

const cases: readonly (readonly [what: string, options: FakeTablesOptions])[] = [
  ['trapped writes', {}],
  ['trapped writes, tables let go after two', { ppgtt: { outOfSync: { after: 2, most: 2 } } }],
  ['no traps', { trap: false }],
  ['few tables', { ppgtt: { maxTables: 24 } }],
  ['few tables, no traps', { trap: false, ppgtt: { maxTables: 24 } }],
  ['pages held one by one', { hypervisor: oneByOne }],
  ["Xen's way", { hypervisor: xenBackend }],
  ['static memory', { hypervisor: ram, trap: false }],
];
describe('whatever a guest writes, the shadow says what its own tables say', () => {
  for (const [what, options] of cases) {
    test(what, () => {
      fc.assert(
        fc.property(start, fc.array(step, { maxLength: 60 }), (entries, steps) => {
          const model = new Model(options);
          model.stamp();
          model.fill(entries);
          for (const one of steps) model.run(one);
          model.finish();
        }),
        { numRuns: 20 },
      );
    });
  }
});
