import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, silentLog } from '@pinion/core';
import { IovaAllocator, type IovaAllocatorOptions, LIMIT_ALL_ONES, X86_MSI_WINDOW } from '@pinion/iommu';
import fc from 'fast-check';

const LAST_32 = 0xfffff;
const ranges = (allocator: IovaAllocator) => [...allocator.ranges()].map(({ first, last }) => [first, last]);

test('the slow path: top-down, aligned to the size rounded up', () => {
  const allocator = new IovaAllocator();
  assert.equal(allocator.allocate(3, LAST_32), 0xffffc);
  assert.equal(allocator.allocate(1, LAST_32), 0xffffb);
  assert.deepEqual(ranges(allocator), [
    [0xffffb, 0xffffb],
    [0xffffc, 0xffffe],
  ]);
  assert.deepEqual(allocator.free(0xffffd), { first: 0xffffc, last: 0xffffe });
  assert.equal(allocator.free(0xffffd), undefined);
  assert.deepEqual(allocator.find(0xffffb), { first: 0xffffb, last: 0xffffb });
  assert.equal(allocator.find(0xffffc), undefined);
});

test('the fast path rounds 3 to 4', () => {
  assert.equal(new IovaAllocator().allocateFast(3, LAST_32, false), 0xffffc);
});

test('after a failure of 8, 8 and more fail at once, 4 is tried, and a free below 4 GiB ends that', () => {
  const allocator = new IovaAllocator({ start: 8 });
  assert.equal(allocator.allocate(4, 15), 12);
  assert.equal(allocator.allocate(8, 15), undefined);
  assert.equal(allocator.state.refused32, 8);
  assert.equal(allocator.allocate(8, LAST_32), undefined);
  assert.equal(allocator.allocate(4, LAST_32), 8);
  assert.equal(allocator.allocate(8, LAST_32 + 1), LAST_32 - 7);
  allocator.free(12);
  assert.equal(allocator.state.refused32, allocator.frames32);
  assert.equal(allocator.allocate(8, LAST_32), LAST_32 - 15);
});

test('unaligned requests are packed', () => {
  const allocator = new IovaAllocator();
  assert.equal(allocator.allocate(3, LAST_32, false), 0xffffd);
  assert.equal(allocator.allocate(3, LAST_32, false), 0xffffa);
});

test('reserved regions are out of use from the start', () => {
  const allocator = new IovaAllocator({ reserved: [X86_MSI_WINDOW] });
  assert.equal(allocator.allocate(1, 0xfeeff), 0xfedff);
  assert.deepEqual(allocator.find(0xfee80), X86_MSI_WINDOW.range);
});

test('a range from the cache comes back without a look at the tree; a flush empties the cache', () => {
  const allocator = new IovaAllocator();
  const frame = allocator.allocateFast(2, LAST_32, false) ?? 0;
  allocator.freeFast(frame, 2);
  assert.equal(allocator.size, 1);
  assert.deepEqual(allocator.state.caches[1], { loaded: 1, previous: 0, depot: 0 });
  assert.equal(allocator.allocateFast(2, LAST_32, false), frame);
  allocator.freeFast(frame, 2);
  allocator.flush();
  assert.equal(allocator.size, 0);
});

test('starved: the flush finds what the caches held', () => {
  const allocator = new IovaAllocator({ start: 1 });
  const all = Array.from({ length: 15 }, () => allocator.allocateFast(1, 15, false) ?? -1);
  for (const frame of all) allocator.freeFast(frame, 1);
  assert.equal(allocator.allocateFast(8, 15, false), undefined);
  assert.equal(allocator.allocateFast(8, 15, true), 8);
  assert.equal(allocator.size, 1);
});

test('without caches everything goes to the tree', () => {
  const allocator = new IovaAllocator({ caches: false });
  const frame = allocator.allocateFast(1, LAST_32, true) ?? 0;
  allocator.freeFast(frame, 1);
  assert.equal(allocator.size, 0);
  assert.deepEqual(allocator.state.caches, []);
  assert.equal(allocator.trim(0), false);
  assert.deepEqual(allocator.cacheContent(0), { loaded: [], previous: [], depot: [] });
  allocator.flush();
});

test('each CPU has magazines of its own, the depot is shared', () => {
  const allocator = new IovaAllocator({ cpus: 2 });
  const frame = allocator.allocateFast(1, LAST_32, false) ?? 0;
  allocator.freeFast(frame, 1);
  allocator.cpu = 1;
  assert.equal(allocator.allocateFast(1, LAST_32, false), frame - 1);
  allocator.cpu = 0;
  const more = Array.from({ length: 127 * 4 }, () => allocator.allocateFast(1, LAST_32, false) ?? 0);
  for (const one of more) allocator.freeFast(one, 1);
  assert.deepEqual(allocator.state.caches[0], { loaded: 127, previous: 127, depot: 2 });
  allocator.cpu = 1;
  assert.deepEqual(allocator.state.caches[0], { loaded: 0, previous: 0, depot: 2 });
  assert.equal(allocator.trim(0), false);
  allocator.allocateFast(1, LAST_32, false);
  assert.deepEqual(allocator.state.caches[0], { loaded: 126, previous: 0, depot: 1 });
});

test('with a clock the depot shrinks to one magazine per CPU, one every 100 ms', () => {
  const timers: (() => void)[] = [];
  const delays: number[] = [];
  const clock: Clock = {
    now: () => 0,
    after: (delay, action) => {
      delays.push(delay);
      timers.push(action);
      return () => timers.splice(timers.indexOf(action), 1);
    },
  };
  const allocator = new IovaAllocator({ clock });
  const all = Array.from({ length: 127 * 5 }, () => allocator.allocateFast(1, LAST_32, false) ?? 0);
  for (const frame of all) allocator.freeFast(frame, 1);
  const depots: number[] = [];
  for (let timer = timers.shift(); timer !== undefined; timer = timers.shift()) {
    timer();
    depots.push(allocator.state.caches[0]?.depot ?? -1);
  }
  assert.deepEqual(depots, [2, 1, 1]);
  assert.deepEqual(delays, [100, 100, 100]);
  allocator.startTrimming();
  allocator.stopTrimming();
  assert.equal(timers.length, 0);
});

test('a range freed twice is handed out twice; the flush tells', () => {
  const warnings: string[] = [];
  const allocator = new IovaAllocator({ log: { ...silentLog, warn: (message) => warnings.push(message) } });
  const frame = allocator.allocateFast(1, LAST_32, false) ?? 0;
  allocator.freeFast(frame, 1);
  allocator.freeFast(frame, 1);
  assert.equal(allocator.allocateFast(1, LAST_32, false), frame);
  assert.equal(allocator.allocateFast(1, LAST_32, false), frame);
  allocator.freeFast(frame, 1);
  allocator.freeFast(frame, 1);
  allocator.flush();
  assert.deepEqual(warnings, ['IOVA frame 0xfffff was freed twice']);
});

test('a cached range above a limit that is smaller than the request stays where it is, unless the quirk is on', () => {
  for (const [quirks, expected] of [
    [{}, undefined],
    [{ cacheBoundWraps: true }, 0xffff8],
  ] as const) {
    const allocator = new IovaAllocator({ quirks });
    allocator.freeFast(allocator.allocateFast(8, LAST_32, false) ?? 0, 8);
    assert.equal(allocator.allocateFast(8, 3, false), expected);
  }
});

test('sizes beyond 2^32 frames are aligned to their power of two', () => {
  const allocator = new IovaAllocator();
  assert.equal(allocator.allocate(2 ** 49 + 1, 2 ** 52 - 1), 2 ** 51 + 2 ** 50);
  assert.equal(allocator.allocate(2 ** 32 + 1, 2 ** 51), 2 ** 51 - 2 ** 33);
});

test('frame 0 is a frame like others when the start allows it', () => {
  const allocator = new IovaAllocator({ start: 0 });
  assert.equal(allocator.allocateFast(1, 0, false), 0);
  assert.equal(allocator.allocateFast(1, 0, false), undefined);
});

const badOptions: ReadonlyArray<readonly [what: string, options: IovaAllocatorOptions]> = [
  ['granule 3000', { granule: 3000 }],
  ['granule 0', { granule: 0 }],
  ['granule 8 GiB', { granule: 2 ** 33 }],
  ['start -1', { start: -1 }],
  ['start 1.5', { start: 1.5 }],
  ['no CPU', { cpus: 0 }],
];
for (const [what, options] of badOptions) {
  test(`an allocator refuses ${what}`, () => {
    assert.throws(() => new IovaAllocator(options), { name: 'IOMMU_BAD_OPTION', errno: 'EINVAL' });
  });
}

test('an allocator refuses a CPU that does not exist', () => {
  const allocator = new IovaAllocator({ cpus: 2 });
  for (const cpu of [-1, 2, 0.5]) {
    assert.throws(() => Object.assign(allocator, { cpu }), { name: 'IOMMU_BAD_OPTION', errno: 'EINVAL' });
  }
  assert.equal(allocator.cpu, 0);
});

const badRequests: ReadonlyArray<readonly [what: string, act: (allocator: IovaAllocator) => unknown]> = [
  ['size 0', (a) => a.allocate(0, LAST_32)],
  ['size 1.5', (a) => a.allocate(1.5, LAST_32)],
  ['size NaN', (a) => a.allocateFast(Number.NaN, LAST_32, true)],
  ['limit -1', (a) => a.allocate(1, -1)],
  ['limit 2^53', (a) => a.allocateFast(1, LIMIT_ALL_ONES + 1, true)],
  ['a negative frame to free', (a) => a.free(-1)],
  ['half a frame to free', (a) => a.freeFast(0.5, 1)],
  ['a free of size 0', (a) => a.freeFast(1, 0)],
  ['a negative frame to find', (a) => a.find(-1)],
  ['an upside down range to reserve', (a) => a.reserve({ first: 5, last: 4 })],
  ['a range to reserve from -1', (a) => a.reserve({ first: -1, last: 4 })],
];
for (const [what, act] of badRequests) {
  test(`an allocator refuses ${what} and changes nothing`, () => {
    const allocator = new IovaAllocator();
    allocator.allocate(4, 99);
    assert.throws(() => act(allocator), { name: 'IOMMU_BAD_IOVA_REQUEST', errno: 'EINVAL' });
    assert.deepEqual(ranges(allocator), [[96, 99]]);
    assert.equal(allocator.state.refused32, allocator.frames32);
  });
}

interface Step {
  readonly kind: 'slow' | 'fast' | 'free' | 'flush' | 'trim';
  readonly size: number;
  readonly limit: number;
  readonly aligned: boolean;
  readonly pick: number;
}
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('slow', 'fast', 'fast', 'free', 'free', 'flush', 'trim'),
  size: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(1, 64, 100)),
  limit: fc.constantFrom(63, 255, 256, 1000, LAST_32, LAST_32 + 200),
  aligned: fc.boolean(),
  pick: fc.nat(1000),
});

test('no two live ranges ever overlap, all lie between start and limit and are aligned', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const allocator = new IovaAllocator({ start: 2 });
      const live: { first: number; size: number; fast: boolean }[] = [];
      for (const { kind, size, limit, aligned, pick } of steps) {
        if (kind === 'flush') allocator.flush();
        else if (kind === 'trim') allocator.trim(pick % 6);
        else if (kind === 'free') {
          const [gone] = live.splice(pick % (live.length + 1), 1);
          if (gone?.fast === true) allocator.freeFast(gone.first, gone.size);
          else if (gone !== undefined) allocator.free(gone.first);
        } else {
          const fast = kind === 'fast';
          const first = fast ? allocator.allocateFast(size, limit, aligned) : allocator.allocate(size, limit, aligned);
          if (first === undefined) continue;
          assert.ok(first >= 2 && first + size - 1 <= limit);
          const unit = fast || aligned ? 2 ** Math.ceil(Math.log2(size)) : 1;
          assert.equal(first % unit, 0);
          for (const other of live) assert.ok(first + size <= other.first || other.first + other.size <= first);
          live.push({ first, size, fast });
        }
      }
      for (const { first, size, fast } of live) {
        if (fast) allocator.freeFast(first, size);
        else allocator.free(first);
      }
      allocator.flush();
      assert.equal(allocator.size, 0);
      assert.deepEqual([allocator.state.cached, allocator.state.cached32], [undefined, undefined]);
    }),
    { numRuns: 200 },
  );
});

test('reserved ranges cover exactly what was reserved, in order and apart', () => {
  const range = fc
    .tuple(fc.nat(60), fc.integer({ min: 0, max: 20 }))
    .map(([first, length]) => ({ first, last: first + length }));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), (reserved) => {
      const allocator = new IovaAllocator();
      const model = new Set<number>();
      for (const one of reserved) {
        const piece = allocator.reserve(one);
        assert.ok(piece.last >= one.last && piece.first <= one.last);
        for (let frame = one.first; frame <= one.last; frame += 1) model.add(frame);
      }
      const covered = ranges(allocator).flatMap(([first = 0, last = -1]) =>
        Array.from({ length: last - first + 1 }, (_, index) => first + index),
      );
      assert.deepEqual(
        covered,
        [...model].sort((a, b) => a - b),
      );
    }),
  );
});
