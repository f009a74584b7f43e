import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, PAGE_SIZE } from '@pinion/core';
import { GuestMemory, MachineMemory, type WriteWatches } from '@pinion/vm';
import fc from 'fast-check';

interface Heard {
  readonly gpa: bigint;
  readonly bytes: readonly number[];
}

function make(pages = 4): { memory: GuestMemory; watches: WriteWatches; machine: MachineMemory } {
  const machine = new MachineMemory();
  const memory = new GuestMemory(machine, 'guest');
  memory.plug({ name: 'ram', at: 0n, size: BigInt(pages * PAGE_SIZE) });
  assert.ok(memory.writeWatches);
  return { memory, watches: memory.writeWatches, machine };
}

const listener = (heard: Heard[]) => (gpa: bigint, bytes: Uint8Array) => void heard.push({ gpa, bytes: [...bytes] });

describe('writes to a watched page', () => {
  const cases: readonly (readonly [
    what: string,
    at: bigint,
    length: number,
    pieces: readonly (readonly number[])[],
  ])[] = [
    ['one store of 8 bytes', 0x1008n, 8, [[0x1008, 8]]],
    ['one of 4', 0x100cn, 4, [[0x100c, 4]]],
    ['one byte at the end of the page', 0x1fffn, 1, [[0x1fff, 1]]],
    ['a row of stores', 0x1ffcn, 4, [[0x1ffc, 4]]],
    [
      'unaligned bytes, cut at multiples of 8',
      0x1005n,
      13,
      [
        [0x1005, 3],
        [0x1008, 8],
        [0x1010, 2],
      ],
    ],
    ['only the part inside the page', 0xff8n, 16, [[0x1000, 8]]],
    ['nothing beside it', 0x2000n, 4096, []],
    ['nothing for no bytes', 0x1000n, 0, []],
  ];
  for (const [what, at, length, pieces] of cases) {
    test(`${what}`, () => {
      const { memory, watches } = make();
      const heard: Heard[] = [];
      const undo = watches.watchWrites(asGfn(1), listener(heard));
      memory.write(at, new Uint8Array(length).fill(0x11));
      assert.deepEqual(
        heard.map(({ gpa, bytes }) => [Number(gpa), bytes.length]),
        pieces,
      );
      assert.ok(heard.every(({ bytes }) => bytes.every((byte) => byte === 0x11)));
      assert.ok(memory.read(at, length).every((byte) => byte === 0x11));
      undo();
      assert.equal(watches.pages, 0);
    });
  }

  test('the bytes are in memory before the call, and the rest are not', () => {
    const { memory, watches } = make();
    const seen: (readonly number[])[] = [];
    const undo = watches.watchWrites(asGfn(1), () => void seen.push([...memory.read(0x1000n, 16)]));
    memory.write(0x1000n, new Uint8Array(16).fill(1));
    assert.deepEqual(
      seen.map((bytes) => bytes.filter((byte) => byte === 1).length),
      [8, 16],
    );
    undo();
  });

  test('two watch one page; each is undone alone, and twice is once', () => {
    const { memory, watches } = make();
    const heard: [Heard[], Heard[]] = [[], []];
    const listen = listener(heard[0]);
    const first = watches.watchWrites(asGfn(1), listen);
    const again = watches.watchWrites(asGfn(1), listen);
    const other = watches.watchWrites(asGfn(1), listener(heard[1]));
    memory.write(0x1000n, new Uint8Array(4));
    first();
    first();
    memory.write(0x1000n, new Uint8Array(4));
    again();
    memory.write(0x1000n, new Uint8Array(4));
    other();
    memory.write(0x1000n, new Uint8Array(4));
    assert.deepEqual([heard[0].length, heard[1].length, watches.pages], [3, 3, 0]);
  });

  test('a watch may end itself, or begin another, from inside a call', () => {
    const { memory, watches } = make();
    const heard: Heard[] = [];
    const undos: (() => void)[] = [];
    const undo = watches.watchWrites(asGfn(0), () => {
      undo();
      undos.push(watches.watchWrites(asGfn(1), listener(heard)));
    });
    memory.write(0n, new Uint8Array(2 * PAGE_SIZE).fill(9));
    assert.deepEqual([heard.length, watches.pages], [PAGE_SIZE / 8, 1]);
    for (const end of undos) end();
    assert.equal(watches.pages, 0);
  });

  test('a hole: what came before it was written and told, then EFAULT', () => {
    const { memory, watches } = make(2);
    const heard: Heard[] = [];
    const undo = watches.watchWrites(asGfn(1), listener(heard));
    const far = watches.watchWrites(asGfn(2), () => assert.fail('there is no memory'));
    assert.throws(() => memory.write(0x1ff8n, new Uint8Array(16).fill(3)), { name: 'VM_NO_MEMORY_AT' });
    assert.deepEqual([heard.length, memory.read(0x1ff8n, 1)[0]], [1, 3]);
    undo();
    far();
  });

  test('copies by devices are not guest writes', () => {
    const { memory, watches } = make();
    const undo = watches.watchWrites(asGfn(1), () => assert.fail('a device wrote'));
    const vaddr = memory.regions[0]?.vaddr ?? 0n;
    assert.equal(memory.copy(vaddr + 0x1000n, Uint8Array.of(5), true), true);
    assert.equal(memory.read(0x1000n, 1)[0], 5);
    undo();
  });

  test('memory that is an emulator’s cannot be watched', () => {
    const machine = new MachineMemory();
    assert.equal(new GuestMemory(machine, 'v86', () => []).writeWatches, undefined);
  });
});

test('any writes: memory is as without watches, and what was told covers exactly the watched bytes', () => {
  const write = fc.record({
    at: fc.integer({ min: 0, max: 5 * PAGE_SIZE }),
    length: fc.integer({ min: 0, max: 9000 }),
  });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 8 }), fc.uniqueArray(fc.integer({ min: 0, max: 7 })), (writes, frames) => {
      const [watched, plain] = [make(8), make(8)];
      const shadow = new Uint8Array(8 * PAGE_SIZE);
      for (const frame of frames) {
        watched.watches.watchWrites(asGfn(frame), (gpa, bytes) => {
          assert.equal(Number(gpa >> 12n), frame);
          assert.equal(gpa >> 3n, (gpa + BigInt(bytes.length) - 1n) >> 3n, 'one aligned piece');
          shadow.set(bytes, Number(gpa));
        });
      }
      for (const [index, { at, length }] of writes.entries()) {
        const bytes = new Uint8Array(Math.min(length, 8 * PAGE_SIZE - at)).fill(index + 1);
        watched.memory.write(BigInt(at), bytes);
        plain.memory.write(BigInt(at), bytes);
      }
      const all = plain.memory.read(0n, 8 * PAGE_SIZE);
      assert.deepEqual(watched.memory.read(0n, 8 * PAGE_SIZE), all);
      for (let frame = 0; frame < 8; frame++) {
        const page = (bytes: Uint8Array) => bytes.subarray(frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE);
        assert.deepEqual(page(shadow), frames.includes(frame) ? page(all) : new Uint8Array(PAGE_SIZE));
      }
    }),
    { numRuns: 30 },
  );
});
