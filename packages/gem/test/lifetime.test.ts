import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, frameAddress } from '@pinion/core';
import { SgList } from '@pinion/dma';
import { GemAddressSpace, type GemObject, STRATEGIES, type StrategyName } from '@pinion/gem';
import { fill, gpu, leftovers, NOTHING, names } from './harness.js';

const spaces = () => [
  new GemAddressSpace('ggtt', 64),
  new GemAddressSpace('ppgtt-1', 64),
  new GemAddressSpace('ppgtt-2', 64),
];
const ALL = Object.keys(STRATEGIES).filter((name): name is StrategyName => name in STRATEGIES);
const RIGHT = ALL.filter((name) => name !== 'per-vma');

for (const strategy of RIGHT) {
  test(`${strategy}: bound in three spaces, mapped once, whatever the order of unbinds`, () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
    ]) {
      const world = gpu({ strategy });
      const object = world.gem.createShmem(5);
      const all = spaces();
      for (const space of all) object.bind(space);
      assert.deepEqual([object.mapCalls, object.state.mapBalance, object.state.bindCount], [1, 1, 3]);
      assert.equal(world.ops.frames, 5);
      for (const index of order) {
        assert.equal(object.state.mapBalance, 1);
        const space = all[index];
        assert.ok(space);
        object.unbind(space);
      }
      assert.equal(world.ops.frames, strategy === 'get-pages' ? 5 : 0);
      object.free();
      assert.deepEqual(leftovers(world), NOTHING);
      assert.equal(world.debug.release(world.device), 0);
    }
  });

  test(`${strategy}: the GPU sees the object through every space, and nothing after it is unbound`, () => {
    const world = gpu({ strategy });
    const object = world.gem.createShmem(3);
    fill(world, object, 0x5a);
    const bytes = new Uint8Array(6000);
    for (const space of spaces()) {
      const first = object.bind(space);
      space.access(world.bus, first * 4096 + 100, { bytes, write: false });
      assert.ok(bytes.every((byte) => byte === 0x5a));
      const at = space.lookup(first);
      object.unbind(space);
      assert.throws(() => space.access(world.bus, first * 4096, { bytes, write: false }), { name: 'GEM_UNMAPPED' });
      // What a GPU with a stale address gets depends on how long the mapping lives.
      if (strategy === 'first-bind') assert.throws(() => world.bus.read(at, bytes), { name: 'IOMMU_FAULT' });
      else world.bus.read(at, bytes);
    }
    object.free();
    assert.deepEqual(leftovers(world), NOTHING);
  });

  test(`${strategy}: pages go and come back with their contents`, () => {
    const world = gpu({ strategy });
    const object = world.gem.createShmem(4);
    fill(world, object, 7);
    object.putPages();
    assert.deepEqual([object.state.pages, object.state.dmaSegments, world.ops.frames], ['none', 0, 0]);
    const [space] = spaces();
    assert.ok(space);
    const first = object.bind(space);
    const bytes = new Uint8Array(16);
    space.access(world.bus, first * 4096, { bytes, write: false });
    assert.ok(bytes.every((byte) => byte === 7));
    object.free();
    assert.deepEqual(leftovers(world), NOTHING);
  });
}

test('per-vma: a second space maps again; the first range can never be unmapped', () => {
  const world = gpu({ strategy: 'per-vma' });
  const object = world.gem.createShmem(5);
  const all = spaces();
  for (const space of all) object.bind(space);
  assert.deepEqual([object.mapCalls, world.ops.frames], [3, 15]);
  assert.deepEqual(names(world), ['OVERLAP', 'OVERLAP']);
  for (const space of all) object.unbind(space);
  assert.deepEqual([object.state.mapBalance, world.ops.frames], [2, 10]);
  object.free();
  assert.equal(world.debug.release(world.device), 2);
  assert.deepEqual(names(world), ['OVERLAP', 'OVERLAP', 'PENDING']);
  assert.equal(world.ops.frames, 10);
});

test('per-vma: one space alone is right, which is why nobody saw it', () => {
  const world = gpu({ strategy: 'per-vma' });
  const object = world.gem.createShmem(5);
  const [space] = spaces();
  assert.ok(space);
  for (let round = 0; round < 3; round += 1) {
    object.bind(space);
    object.unbind(space);
  }
  object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('per-vma: the debugger runs out of entries and switches itself off', () => {
  const world = gpu({ strategy: 'per-vma', entries: 8 });
  for (let round = 0; round < 40; round += 1) {
    const object = world.gem.createShmem(1);
    const all = spaces();
    for (const space of all) object.bind(space);
    object.free();
  }
  assert.equal(world.debug.disabled, false); // it grew
  assert.ok(world.debug.counters.total > 8);
  assert.equal(world.debug.release(world.device), 80);
});

test('every kind of object: who is mapped by whom', () => {
  const world = gpu();
  const [space] = spaces();
  assert.ok(space);
  const exported = new SgList([{ pfn: asPfn(0x1400), offset: 0, length: 8192 }]);
  const attachment = {
    pages: 2,
    map: () => {
      world.raw.mapSgTable(exported, 0);
      return exported;
    },
    unmap: (list: SgList) => world.raw.unmapSg(list, 0),
  };
  const objects: readonly (readonly [GemObject, mapCalls: number, iova: number])[] = [
    [world.gem.createStolen(asPfn(0x7f000), 2), 0, 0],
    [world.gem.createPhys(2), 0, 2],
    [world.gem.importDmaBuf(attachment), 0, 2],
    [world.gem.createShmem(2), 1, 2],
  ];
  for (const [object, mapCalls, iova] of objects) {
    const before = world.ops.frames;
    const first = object.bind(space);
    assert.deepEqual(
      [object.backing.kind, object.mapCalls, world.ops.frames - before],
      [object.backing.kind, mapCalls, iova],
    );
    assert.equal(typeof space.lookup(first + 1), 'bigint');
    object.free();
    assert.equal(world.ops.frames, before);
  }
  assert.equal(space.used, 0);
  assert.deepEqual(leftovers(world), NOTHING);
});

test('a stolen object has the address of its memory', () => {
  const world = gpu();
  const [space] = spaces();
  assert.ok(space);
  const object = world.gem.createStolen(asPfn(0x7f000), 2);
  assert.equal(space.lookup(object.bind(space) + 1), frameAddress(0x7f001));
  object.free();
});

test('phys copies in and, if dirty, out', () => {
  for (const dirty of [true, false]) {
    const world = gpu();
    const [space] = spaces();
    assert.ok(space);
    const object = world.gem.createPhys(2);
    const first = object.bind(space);
    space.access(world.bus, first * 4096 + 4090, { bytes: new Uint8Array(12).fill(9), write: true });
    if (dirty) object.markDirty();
    object.unbind(space);
    object.putPages();
    const again = object.bind(space);
    const bytes = new Uint8Array(12);
    space.access(world.bus, again * 4096 + 4090, { bytes, write: false });
    assert.ok(bytes.every((byte) => byte === (dirty ? 9 : 0)));
    object.free();
    assert.deepEqual(leftovers(world), NOTHING);
  }
});

test('what is not needed gives its pages up, and is gone for good once purged', () => {
  const world = gpu();
  const object = world.gem.createShmem(2);
  object.pinPages();
  object.unpinPages();
  assert.equal(object.madvise('dontneed'), true);
  object.pinPages(); // pages that are there may be used
  object.unpinPages();
  assert.equal(object.madvise('willneed'), true); // nobody shrank it
  object.putPages();
  object.madvise('dontneed');
  assert.equal(object.state.madvise, 'purged');
  assert.equal(object.madvise('willneed'), false);
  assert.throws(() => object.pinPages(), { name: 'GEM_PURGED' });
  object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

const REFUSED: readonly (readonly [
  what: string,
  act: (object: GemObject, space: GemAddressSpace) => void,
  name: string,
])[] = [
  [
    'pages that are pinned cannot be given up',
    (object) => {
      object.pinPages();
      object.putPages();
    },
    'GEM_PAGES_PINNED',
  ],
  [
    'nor while bound',
    (object, space) => {
      object.bind(space);
      object.putPages();
    },
    'GEM_PAGES_PINNED',
  ],
  ['unpin without a pin', (object) => object.unpinPages(), 'GEM_NOT_PINNED'],
  ['unbind without a bind', (object, space) => object.unbind(space), 'GEM_NOT_BOUND'],
  [
    'unbind of a pinned place',
    (object, space) => {
      object.bind(space);
      object.pinVma(space);
      object.unbind(space);
    },
    'GEM_STILL_BOUND',
  ],
  [
    'free of a pinned place',
    (object, space) => {
      object.bind(space);
      object.pinVma(space);
      object.free();
    },
    'GEM_STILL_BOUND',
  ],
  [
    'free of pinned pages',
    (object) => {
      object.pinPages();
      object.free();
    },
    'GEM_PAGES_PINNED',
  ],
  [
    'unpin of a place that is not pinned',
    (object, space) => {
      object.bind(space);
      object.unpinVma(space);
    },
    'GEM_NOT_PINNED',
  ],
  [
    'a space that is too small',
    (object) => {
      object.bind(new GemAddressSpace('tiny', 1));
    },
    'GEM_SPACE_FULL',
  ],
  [
    'use after free',
    (object) => {
      object.free();
      object.pinPages();
    },
    'GEM_FREED',
  ],
  [
    'free twice',
    (object) => {
      object.free();
      object.free();
    },
    'GEM_FREED',
  ],
];

for (const [what, act, name] of REFUSED) {
  for (const strategy of ALL) {
    test(`${strategy}: refused: ${what}`, () => {
      const world = gpu({ strategy });
      const object = world.gem.createShmem(2);
      const [space] = spaces();
      assert.ok(space);
      assert.throws(() => act(object, space), { name });
      assert.deepEqual(names(world), []);
    });
  }
}

test('sizes that are none and names of quirks that are none are refused', () => {
  const world = gpu();
  for (const pages of [0, -1, 1.5, Number.NaN]) {
    assert.throws(() => world.gem.createShmem(pages), { name: 'GEM_BAD_SIZE' });
    assert.throws(() => world.gem.createStolen(asPfn(0), pages), { name: 'GEM_BAD_SIZE' });
    assert.throws(() => new GemAddressSpace('x', pages), { name: 'GEM_BAD_SIZE' });
  }
  // why: a name from a configuration file has no type
  assert.throws(() => gpu({ quirks: ['no-such' as never] }), { name: 'GEM_UNKNOWN_QUIRK' });
});

test('a device does not go while objects are left', () => {
  const world = gpu();
  const object = world.gem.createShmem(1);
  assert.throws(() => world.gem.remove(), { name: 'GEM_OBJECTS_LEFT', errno: 'EBUSY' });
  object.free();
  world.gem.remove();
});

test('an object of several entries that merge is unmapped with its entries', () => {
  for (const [quirks, expected] of [
    [[], []],
    [['unmap-mapped-nents'], ['FREE_NENTS']],
  ] as const) {
    const world = gpu({ quirks });
    const hole = world.gem.createShmem(1);
    hole.pinPages();
    const last = world.gem.createShmem(1);
    last.pinPages();
    hole.unpinPages();
    hole.free(); // the next object gets this page and one behind the last: two entries
    const object = world.gem.createShmem(2);
    object.pinPages();
    assert.equal(object.state.dmaSegments, 1);
    object.unpinPages();
    object.putPages();
    assert.deepEqual(names(world), expected);
    object.free();
    last.unpinPages();
    last.free();
    assert.equal(world.ops.frames, 0);
  }
});
