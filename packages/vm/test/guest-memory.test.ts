import assert from 'node:assert/strict';
import test from 'node:test';
import { asPfn, asVaddrFrame, PAGE_SIZE, type Pfn, vaddrFrame } from '@pinion/core';
import { GuestMemory, MachineMemory } from '@pinion/vm';
import fc from 'fast-check';

const PAGE = BigInt(PAGE_SIZE);
/** Small windows, so that regions span several. */
const makeMemory = (): { machine: MachineMemory; memory: GuestMemory } => {
  const machine = new MachineMemory(4);
  return { machine, memory: new GuestMemory(machine, 'guest') };
};
const at = (page: number): bigint => BigInt(page) * PAGE;

const badRegions: readonly (readonly [what: string, at: bigint, size: bigint])[] = [
  ['no size', 0n, 0n],
  ['negative size', 0n, -PAGE],
  ['half a page', 0n, 2048n],
  ['an address inside a page', 12n, PAGE],
  ['a negative address', -PAGE, PAGE],
  ['an end beyond 2^64', (1n << 64n) - PAGE, 2n * PAGE],
  ['more than a process can map', 0n, 1n << 48n],
];
for (const [what, address, size] of badRegions) {
  test(`plug refuses ${what}`, () => {
    const { machine, memory } = makeMemory();
    assert.throws(() => memory.plug({ name: 'bad', at: address, size }), { name: 'VM_BAD_REGION', errno: 'EINVAL' });
    assert.equal(machine.residentBytes, 0);
  });
}

test('plug refuses a name or a place that is taken, in part or whole', () => {
  const { memory } = makeMemory();
  memory.plug({ name: 'ram', at: at(4), size: at(4) });
  const taken = { name: 'VM_REGION_EXISTS', errno: 'EEXIST' };
  assert.throws(() => memory.plug({ name: 'ram', at: at(100), size: PAGE }), taken);
  assert.throws(() => memory.plug({ name: 'head', at: at(1), size: at(4) }), taken);
  assert.throws(() => memory.plug({ name: 'tail', at: at(7), size: at(4) }), taken);
  assert.throws(() => memory.plug({ name: 'inside', at: at(5), size: PAGE }), taken);
  memory.plug({ name: 'before', at: 0n, size: at(4) });
  memory.plug({ name: 'behind', at: at(8), size: PAGE });
  assert.deepEqual(
    memory.regions.map(({ name }) => name),
    ['before', 'ram', 'behind'],
  );
});

test('a write runs over windows and neighbouring regions, and is read back', () => {
  const { memory } = makeMemory();
  memory.plug({ name: 'a', at: 0n, size: at(6) });
  memory.plug({ name: 'b', at: at(6), size: at(6) });
  const bytes = Uint8Array.from({ length: 9 * PAGE_SIZE }, (_, index) => index % 251);
  memory.write(100n, bytes);
  assert.deepEqual(memory.read(100n, bytes.length), bytes);
  assert.equal(memory.read(99n, 1)[0], 0);
});

test('reads and writes outside of memory are errors; what came before the hole is written', () => {
  const { memory } = makeMemory();
  memory.plug({ name: 'ram', at: at(1), size: at(1) });
  const hole = { name: 'VM_NO_MEMORY_AT', errno: 'EFAULT' };
  assert.throws(() => memory.read(0n, 1), hole);
  assert.throws(() => memory.read(at(2), 1), hole);
  assert.throws(() => memory.read(at(2) - 1n, 2), hole);
  assert.throws(() => memory.write(at(2) - 1n, Uint8Array.of(7, 7)), hole);
  assert.equal(memory.read(at(2) - 1n, 1)[0], 7);
});

test('the process sees the same bytes at its own addresses, with holes between regions', () => {
  const { memory } = makeMemory();
  const a = memory.plug({ name: 'a', at: 0n, size: PAGE });
  memory.plug({ name: 'b', at: PAGE, size: PAGE });
  memory.write(10n, Uint8Array.of(1, 2, 3));
  const bytes = new Uint8Array(3);
  assert.equal(memory.copy(a.vaddr + 10n, bytes, false), true);
  assert.deepEqual(bytes, Uint8Array.of(1, 2, 3));
  assert.equal(memory.copy(a.vaddr + PAGE - 1n, bytes, false), false);
  assert.throws(() => memory.pinPage(vaddrFrame(a.vaddr + PAGE), false), { errno: 'EFAULT' });
  assert.throws(() => memory.pinPage(asVaddrFrame(0), false), { errno: 'EFAULT' });
});

test('a pinned page is the live memory; frames of one window are contiguous, of two are not', () => {
  const { machine, memory } = makeMemory();
  const { vaddr } = memory.plug({ name: 'ram', at: 0n, size: at(6) });
  const frames = Array.from({ length: 6 }, (_, page) => memory.pinPage(vaddrFrame(vaddr + at(page)), true));
  assert.deepEqual(
    frames.map((pfn) => machine.contiguous(pfn)),
    [true, true, true, false, true, false],
  );
  const [first = asPfn(0), , , fourth = asPfn(0)] = frames;
  machine.bytes(first, 4).fill(9, 0, 5);
  assert.deepEqual(memory.read(0n, 6), Uint8Array.of(9, 9, 9, 9, 9, 0));
  assert.throws(() => machine.bytes(fourth, 2), RangeError);
  assert.throws(() => machine.bytes(first, 0), RangeError);
  for (const pfn of frames) machine.unpinPage(pfn, true);
  assert.equal(machine.referencedPages, 0);
});

test('unpinning a page that nobody pinned is an error, and so is a frame that never was', () => {
  const { machine, memory } = makeMemory();
  const { vaddr } = memory.plug({ name: 'ram', at: 0n, size: PAGE });
  const pfn = memory.pinPage(vaddrFrame(vaddr), true);
  machine.unpinPage(pfn, true);
  assert.throws(() => machine.unpinPage(pfn, true), RangeError);
  assert.throws(() => machine.unpinPage(asPfn(1), true), RangeError);
  assert.equal(machine.pageClass(asPfn(1)), 'device');
  assert.equal(machine.pageClass(pfn), 'normal');
});

test('a region that is unplugged empties every view of it, but not before its last pin is back', () => {
  const { machine, memory } = makeMemory();
  const { vaddr } = memory.plug({ name: 'ram', at: 0n, size: at(2) });
  const pfn = memory.pinPage(vaddrFrame(vaddr), true);
  const kept = machine.bytes(pfn, 1);
  memory.unplug('ram');
  assert.throws(() => memory.read(0n, 1), { name: 'VM_NO_MEMORY_AT' });
  assert.throws(() => memory.unplug('ram'), { name: 'VM_NO_REGION', errno: 'ENOENT' });
  assert.equal(kept.length, PAGE_SIZE);
  machine.unpinPage(pfn, true);
  assert.equal(kept.length, 0);
  assert.equal(machine.residentBytes, 0);
  assert.throws(() => machine.bytes(pfn, 1), RangeError);
});

test('when the process exits nothing can be reached; the locked-page counter outlives it', () => {
  const { machine, memory } = makeMemory();
  const { vaddr } = memory.plug({ name: 'ram', at: 0n, size: PAGE });
  memory.grab();
  memory.accountLocked(3);
  memory.exit();
  assert.equal(memory.alive, false);
  assert.equal(memory.lockedPages, 3);
  memory.accountLocked(-3);
  memory.drop();
  assert.equal(memory.grabs, 0);
  assert.equal(memory.copy(vaddr, new Uint8Array(1), false), false);
  assert.throws(() => memory.pinPage(vaddrFrame(vaddr), false), { errno: 'EFAULT' });
  assert.throws(() => memory.read(0n, 1), { name: 'VM_KILLED', errno: 'ECANCELED' });
  assert.throws(() => memory.plug({ name: 'new', at: 0n, size: PAGE }), { name: 'VM_KILLED' });
  assert.equal(machine.residentBytes, 0);
});

test('memory that the host does not have is ENOMEM and takes nothing', () => {
  let left = 2;
  const machine = new MachineMemory(4, (bytes) => {
    left -= 1;
    if (left < 0) throw new RangeError('Array buffer allocation failed');
    return new ArrayBuffer(bytes);
  });
  const memory = new GuestMemory(machine, 'guest');
  const huge = { name: 'huge', at: 0n, size: at(12) };
  assert.throws(() => memory.plug(huge), { name: 'VM_NO_HOST_MEMORY', errno: 'ENOMEM' });
  assert.deepEqual([memory.regions, machine.residentBytes], [[], 0]);
  left = 3;
  assert.equal(memory.plug(huge).size, at(12));
});

test('holds: exactly where there is memory without a gap', () => {
  const { memory } = makeMemory();
  memory.plug({ name: 'a', at: at(1), size: at(2) });
  memory.plug({ name: 'b', at: at(3), size: at(1) });
  assert.equal(memory.holds(at(1), at(3)), true);
  assert.equal(memory.holds(at(1), at(3) + 1n), false);
  assert.equal(memory.holds(0n, PAGE), false);
});

test('any order of pins, unpins, unplugs and exit: pages live exactly as long as somebody has them', () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('pin' as const), page: fc.nat(9) }),
    fc.record({ kind: fc.constant('unpin' as const), page: fc.nat(99) }),
    fc.record({ kind: fc.constant('unplug' as const), page: fc.nat(1) }),
    fc.record({ kind: fc.constant('exit' as const), page: fc.nat(0) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const { machine, memory } = makeMemory();
      const regions = ['a', 'b'].map((name, index) => memory.plug({ name, at: at(index * 5), size: at(5) }));
      const pins: Pfn[] = [];
      for (const { kind, page } of actions) {
        const region = regions[Math.floor(page / 5)];
        const there = memory.regions.some(({ name }) => name === region?.name);
        if (kind === 'pin' && there && region !== undefined)
          pins.push(memory.pinPage(vaddrFrame(region.vaddr + at(page % 5)), true));
        if (kind === 'unpin' && pins.length > 0)
          for (const pfn of pins.splice(page % pins.length, 1)) machine.unpinPage(pfn, true);
        if (kind === 'unplug' && memory.regions.some(({ name }) => name === 'ab'[page]))
          memory.unplug(page === 0 ? 'a' : 'b');
        if (kind === 'exit') memory.exit();
        assert.equal(machine.referencedPages, new Set(pins).size);
        for (const pfn of pins) assert.equal(machine.bytes(pfn, 1).length, PAGE_SIZE);
      }
      memory.exit();
      for (const pfn of pins) machine.unpinPage(pfn, true);
      assert.deepEqual([machine.referencedPages, machine.residentBytes], [0, 0]);
    }),
    { numRuns: 200 },
  );
});

test('memory of somebody else is adopted: asked for anew at each use, freed once, with its last reference', () => {
  const machine = new MachineMemory();
  const freed: string[] = [];
  let bytes = new Uint8Array(2 * 4096);
  const piece = {
    get bytes() {
      return bytes;
    },
    free: () => void freed.push('freed'),
  };
  const memory = new GuestMemory(machine, 'guest', () => [machine.adopt(2, piece)]);
  const { vaddr } = memory.plug({ name: 'ram', at: 0n, size: 0x2000n });
  const second = memory.pinPage(vaddrFrame(vaddr + 0x1000n), true);
  memory.write(0x1000n, Uint8Array.of(7));
  assert.equal(machine.bytes(second, 1)[0], 7);
  bytes = new Uint8Array(2 * 4096).fill(9);
  assert.equal(machine.bytes(second, 1)[0], 9, 'the emulator moved its memory');
  memory.exit();
  assert.deepEqual([freed, machine.referencedPages], [[], 1]);
  machine.unpinPage(second, true);
  assert.deepEqual([freed, machine.referencedPages], [['freed'], 0]);
  assert.throws(() => machine.bytes(second, 1), RangeError);
  assert.notEqual(machine.allocate(1)[0]?.first, second);
});
