import assert from 'node:assert/strict';
import { asGfn, asIovaFrame, asPfn, type FrameRange, LAST_FRAME, PinionError } from '@pinion/core';
import {
  GUEST_PAGES,
  HOLE,
  type HypervisorBench,
  type HypervisorCase,
  type HypervisorHarness,
  hypervisorCase,
} from './hypervisor-harness.js';
import { type CaseOutcome, describeCases, runCases } from './suite.js';

const SIZE_4K = 4096;
const SIZE_2M = 2 * 1024 * 1024;
const LARGE = SIZE_2M / SIZE_4K;

const span = (first: number, count: number): FrameRange => ({
  first: asIovaFrame(first),
  last: asIovaFrame(first + count - 1),
});

/** Asserts that a call is refused as a driver refuses: a typed error, and nothing held that was not before. */
function assertRefused(bench: HypervisorBench, call: () => unknown, errno?: string): void {
  const before = bench.held(0, GUEST_PAGES);
  let thrown: unknown;
  try {
    call();
  } catch (cause) {
    thrown = cause;
  }
  assert.ok(thrown instanceof PinionError, `it is refused with a PinionError, not ${String(thrown)}`);
  if (errno !== undefined) assert.equal(thrown.errno, errno);
  assert.equal(bench.held(0, GUEST_PAGES), before, 'a refused call holds nothing more');
}

/** What every hypervisor backend of a vGPU promises, as cases. Sources: threads/2020-05, reference/vendor-drivers A.1 and A.7. */
export const hypervisorBackendCases: readonly HypervisorCase[] = [
  hypervisorCase('says whether memory is held for good, and that is how unmap is', [], ({ hypervisor, held }) => {
    hypervisor.dmaUnmapGuestPage(hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K));
    assert.equal(held(5, 1), hypervisor.capabilities.pinned ? 1 : 0);
  }),

  hypervisorCase('the same page is the same DMA frame, holds its page, and shows its bytes', [], (bench) => {
    const { hypervisor } = bench;
    bench.poke(0x5000n, Uint8Array.of(1, 2, 3));
    const dma = hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    assert.equal(hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K), dma);
    assert.deepEqual([...hypervisor.bytes(dma).subarray(0, 3)], [1, 2, 3]);
    hypervisor.bytes(dma)[0] = 9;
    assert.deepEqual([bench.held(5, 1), bench.peek(0x5000n, 1)[0]], [1, 9]);
  }),

  hypervisorCase('a page is held until its last reference', ['counts'], ({ hypervisor, held }) => {
    const dma = hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    const after = [1, 2, 3].map(() => {
      hypervisor.dmaUnmapGuestPage(dma);
      return held(5, 1);
    });
    assert.deepEqual([after, hypervisor.usage], [[1, 0, 0], { mappings: 0, pages: 0 }]);
  }),

  hypervisorCase('a reference by DMA frame counts; one on nothing is ENOMEM', ['counts', 'dma-pin'], (bench) => {
    const { hypervisor } = bench;
    const dma = hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    hypervisor.dmaPinGuestPage?.(dma);
    hypervisor.dmaUnmapGuestPage(dma);
    assert.equal(bench.held(5, 1), 1);
    hypervisor.dmaUnmapGuestPage(dma);
    assert.equal(bench.held(5, 1), 0);
    assertRefused(bench, () => hypervisor.dmaPinGuestPage?.(dma), 'ENOMEM');
  }),

  hypervisorCase('an unmap of another address does nothing', [], ({ hypervisor, held }) => {
    const dma = hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    for (const other of [dma + 1, dma - 1, 0, LAST_FRAME]) hypervisor.dmaUnmapGuestPage(asPfn(other));
    assert.equal(held(5, 1), 1);
  }),

  hypervisorCase('2 MiB is one run of held pages, and goes as one', ['large-pages'], ({ hypervisor, held }) => {
    const dma = hypervisor.dmaMapGuestPage(asGfn(LARGE), SIZE_2M);
    assert.equal(held(LARGE, LARGE), LARGE);
    for (const at of [0, 1, LARGE - 1]) assert.equal(hypervisor.gfnToPfn(asGfn(LARGE + at)), asPfn(dma + at));
    hypervisor.dmaUnmapGuestPage(asPfn(dma + 1));
    assert.equal(held(LARGE, LARGE), LARGE);
    hypervisor.dmaUnmapGuestPage(dma);
    assert.equal(held(LARGE, LARGE), hypervisor.capabilities.pinned ? LARGE : 0);
  }),

  hypervisorCase('2 MiB with a hole is refused, all of it', ['large-pages'], (bench) => {
    assertRefused(bench, () => bench.hypervisor.dmaMapGuestPage(asGfn(HOLE - 100), SIZE_2M));
    bench.hypervisor.dmaMapGuestPage(asGfn(HOLE - 1), SIZE_4K);
  }),

  hypervisorCase('a page without memory, and a size that is none, are refused', [], (bench) => {
    const { hypervisor } = bench;
    for (const gfn of [HOLE, GUEST_PAGES, 2 ** 34]) {
      assertRefused(bench, () => hypervisor.dmaMapGuestPage(asGfn(gfn), SIZE_4K));
      assert.equal(hypervisor.gfnToPfn(asGfn(gfn)), undefined);
    }
    for (const size of [0, 1, 8192, 65536, SIZE_2M - 1, Number.NaN])
      assertRefused(bench, () => hypervisor.dmaMapGuestPage(asGfn(5), size), 'EINVAL');
  }),

  hypervisorCase('a range goes: nothing in it is held whatever its references, the rest stays', [], (bench) => {
    const { hypervisor, held } = bench;
    for (const gfn of [63, 64, 64, 64, 127, 128]) hypervisor.dmaMapGuestPage(asGfn(gfn), SIZE_4K);
    assert.ok(hypervisor.releaseRange(span(64, 64)) >= 2);
    assert.deepEqual([held(64, 64), held(63, 1), held(128, 1)], [0, 1, 1]);
    assert.equal(hypervisor.releaseRange(span(64, 64)), 0);
  }),

  hypervisorCase('a range into the middle of 2 MiB', ['large-pages'], ({ hypervisor, held }) => {
    hypervisor.dmaMapGuestPage(asGfn(300), SIZE_2M);
    for (const [first, count] of [
      [500, 3],
      [811, 100],
    ] as const) {
      hypervisor.dmaMapGuestPage(asGfn(300), SIZE_2M);
      hypervisor.releaseRange(span(first, count));
      assert.equal(held(first, count), 0);
    }
  }),

  hypervisorCase('ranges never touched, the end of the address space, and all of it', [], ({ hypervisor, held }) => {
    hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    assert.equal(hypervisor.releaseRange(span(2 ** 40, 16)), 0);
    assert.equal(hypervisor.releaseRange(span(LAST_FRAME, 1)), 0);
    assert.equal(held(5, 1), 1);
    hypervisor.releaseRange({ first: asIovaFrame(0), last: asIovaFrame(LAST_FRAME) });
    assert.equal(held(0, GUEST_PAGES), 0);
  }),

  hypervisorCase('memory that went and came again is held anew', [], async (bench) => {
    bench.hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    await bench.remap();
    assert.equal(bench.held(5, 1), 0);
    bench.hypervisor.dmaMapGuestPage(asGfn(5), SIZE_4K);
    assert.equal(bench.held(5, 1), 1);
  }),

  hypervisorCase('what is left at close is named and released', ['counts'], ({ hypervisor, held }) => {
    for (const gfn of [7, 7, 9]) hypervisor.dmaMapGuestPage(asGfn(gfn), SIZE_4K);
    const left = hypervisor.detach().map(({ gfn, size, refs }) => [gfn, size, refs]);
    assert.deepEqual(
      left.sort(([a = 0], [b = 0]) => a - b),
      [
        [7, SIZE_4K, 2],
        [9, SIZE_4K, 1],
      ],
    );
    assert.deepEqual([held(0, GUEST_PAGES), hypervisor.detach()], [0, []]);
  }),

  hypervisorCase('closed: everything is released, nothing can be mapped, and nothing else throws', [], (bench) => {
    const { hypervisor } = bench;
    const dma = hypervisor.dmaMapGuestPage(asGfn(7), SIZE_4K);
    hypervisor.detach();
    assert.deepEqual([bench.held(0, GUEST_PAGES), hypervisor.usage], [0, { mappings: 0, pages: 0 }]);
    assertRefused(bench, () => hypervisor.dmaMapGuestPage(asGfn(7), SIZE_4K), 'EINVAL');
    assertRefused(bench, () => hypervisor.readGuest(0n, new Uint8Array(1)), 'ESRCH');
    hypervisor.dmaUnmapGuestPage(dma);
    assert.equal(hypervisor.releaseRange(span(0, GUEST_PAGES)), 0);
    assert.deepEqual([hypervisor.releaseAll(), hypervisor.detach()], [[], []]);
    hypervisor.attach();
    hypervisor.dmaMapGuestPage(asGfn(7), SIZE_4K);
    assert.equal(bench.held(7, 1), 1);
  }),

  hypervisorCase('a reset gives everything back, unless it is held for good', [], ({ hypervisor, held }) => {
    hypervisor.dmaMapGuestPage(asGfn(7), SIZE_4K);
    const { pinned } = hypervisor.capabilities;
    assert.deepEqual([hypervisor.releaseAll().length, held(7, 1)], pinned ? [0, 1] : [1, 0]);
    hypervisor.dmaMapGuestPage(asGfn(7), SIZE_4K);
    assert.equal(held(7, 1), 1);
  }),

  hypervisorCase('guest memory is copied as it is', [], (bench) => {
    const into = new Uint8Array(4);
    bench.poke(0x1ffen, Uint8Array.of(1, 2, 3, 4));
    bench.hypervisor.readGuest(0x1ffen, into);
    bench.hypervisor.writeGuest(0x2ffen, Uint8Array.of(5, 6, 7, 8));
    assert.deepEqual(
      [[...into], [...bench.peek(0x2ffen, 4)]],
      [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
      ],
    );
  }),
];

/** Registers the suite as tests of node:test. */
export const describeHypervisorBackend = (harness: HypervisorHarness): void =>
  describeCases('HypervisorBackend', hypervisorBackendCases, harness);

/** Runs the suite and answers how each case ended. */
export const runHypervisorBackend = (harness: HypervisorHarness): Promise<readonly CaseOutcome[]> =>
  runCases(hypervisorBackendCases, harness);
