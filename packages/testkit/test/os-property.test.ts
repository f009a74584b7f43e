import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asVaddrFrame, type Pfn, PinionError, PROT_READ, PROT_RW, PROT_WRITE, vaddrFrame } from '@pinion/core';
import { SimulatedOs, type SimulatedTask } from '@pinion/testkit';
import fc from 'fast-check';

const PAGES = 12;
const PAGE = 4096n;
const NOTHING = { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 };

/** One page as a plain model sees it: every page is filled with one value. */
interface Cell {
  readonly value: number;
  readonly prot: number;
  readonly locked: boolean;
}
type Cells = (Cell | undefined)[];
interface Process {
  readonly task: SimulatedTask;
  readonly cells: Cells;
}
interface World {
  readonly os: SimulatedOs;
  readonly base: bigint;
  pins: Pfn[];
  readonly processes: Process[];
}
/** What a step works on; which of it, is the step's business. */
interface Step {
  readonly what: keyof typeof steps;
  readonly who: number;
  readonly page: number;
  readonly count: number;
  readonly value: number;
}

const begin = (readOnlyUntouched: 'zero-page' | 'allocate'): World => {
  const os = new SimulatedOs({ readOnlyUntouched });
  const task = os.spawn({ name: 'p' });
  const base = task.memory.mmap({ size: BigInt(PAGES) * PAGE, fill: (offset, page) => page.fill(offset / 4096) });
  const cells = Array.from({ length: PAGES }, (_, value) => ({ value, prot: PROT_RW, locked: false }));
  return { os, base, pins: [], processes: [{ task, cells }] };
};

const address = (world: World, page: number): bigint => world.base + BigInt(page) * PAGE;
const span = (world: World, s: Step): [vaddr: bigint, size: bigint] => [
  address(world, s.page),
  BigInt(Math.min(s.count, PAGES - s.page)) * PAGE,
];
const cellsOf = (process: Process, s: Step): Cells => process.cells.slice(s.page, s.page + s.count);
const put = (process: Process, s: Step, cells: Cells): void => {
  process.cells.splice(s.page, cells.length, ...cells);
};

/** Runs a call and answers as the model does: true or the errno. */
const outcome = (call: () => void): true | string => {
  try {
    call();
    return true;
  } catch (refusal) {
    assert.ok(refusal instanceof PinionError, String(refusal));
    return refusal.errno;
  }
};
/** `change` on every cell up to the first hole. */
const untilHole = (cells: Cells, change: (cell: Cell) => Cell): Cells => {
  const hole = cells.indexOf(undefined);
  return cells.map((cell, i) => (cell === undefined || (hole >= 0 && i > hole) ? cell : change(cell)));
};
const whole = (cells: Cells): boolean => !cells.includes(undefined);

const steps = {
  poke(world: World, process: Process, s: Step): void {
    const cell = process.cells[s.page];
    const allowed = cell !== undefined && (cell.prot & PROT_WRITE) !== 0;
    const bytes = new Uint8Array(4096).fill(s.value);
    assert.equal(
      outcome(() => process.task.memory.poke(address(world, s.page), bytes)),
      allowed || 'EFAULT',
    );
    if (allowed) put(process, s, [{ ...cell, value: s.value }]);
  },
  pin(world: World, process: Process, s: Step): void {
    const cell = process.cells[s.page];
    const write = s.value % 2 === 0;
    const allowed = cell !== undefined && (cell.prot & (write ? PROT_WRITE : PROT_READ)) !== 0;
    const pin = (): void => {
      const pfn = process.task.memory.pinPage(asVaddrFrame(vaddrFrame(world.base) + s.page), write);
      assert.equal(world.os.host.bytes(pfn, 1)[4095], cell?.value);
      if (pfn !== world.os.host.zeroPage) world.pins.push(pfn);
    };
    assert.equal(outcome(pin), allowed || 'EFAULT');
  },
  unpin(world: World, _process: Process, s: Step): void {
    for (const pfn of world.pins.splice(s.value % Math.max(1, world.pins.length), 1)) {
      world.os.host.unpinPage(pfn, false);
    }
  },
  munmap(world: World, process: Process, s: Step): void {
    process.task.memory.munmap(...span(world, s));
    put(process, s, cellsOf(process, s).fill(undefined));
  },
  remap(world: World, process: Process, s: Step): void {
    const [at, size] = span(world, s);
    const cells = cellsOf(process, s);
    const free = cells.every((cell) => cell === undefined);
    assert.equal(
      outcome(() => process.task.memory.mmap({ size, at })),
      free || 'EEXIST',
    );
    if (free)
      put(
        process,
        s,
        cells.map(() => ({ value: 0, prot: PROT_RW, locked: false })),
      );
  },
  protect(world: World, process: Process, s: Step): void {
    const cells = cellsOf(process, s);
    const prot = s.value % 4;
    assert.equal(
      outcome(() => process.task.memory.mprotect(...span(world, s), prot)),
      whole(cells) || 'ENOMEM',
    );
    put(
      process,
      s,
      untilHole(cells, (cell) => ({ ...cell, prot })),
    );
  },
  lock(world: World, process: Process, s: Step): void {
    const cells = cellsOf(process, s);
    const reachable = whole(cells) && cells.every((cell) => cell?.prot !== 0);
    assert.equal(
      outcome(() => process.task.mlock(...span(world, s))),
      reachable || 'ENOMEM',
    );
    put(
      process,
      s,
      untilHole(cells, (cell) => ({ ...cell, locked: true })),
    );
  },
  unlock(world: World, process: Process, s: Step): void {
    const cells = cellsOf(process, s);
    assert.equal(
      outcome(() => process.task.memory.munlock(...span(world, s))),
      whole(cells) || 'ENOMEM',
    );
    put(
      process,
      s,
      untilHole(cells, (cell) => ({ ...cell, locked: false })),
    );
  },
  discard(world: World, process: Process, s: Step): void {
    const cells = cellsOf(process, s);
    const locked = cells.findIndex((cell) => cell?.locked);
    const expected = locked >= 0 ? 'EINVAL' : whole(cells) || 'ENOMEM';
    assert.equal(
      outcome(() => process.task.memory.madviseDontneed(...span(world, s))),
      expected,
    );
    const gone = locked < 0 ? cells.length : locked;
    put(
      process,
      s,
      cells.map((cell, i) => (cell === undefined || i >= gone ? cell : { ...cell, value: 0 })),
    );
  },
  fork(world: World, process: Process): void {
    if (world.processes.length >= 3) return;
    const cells = process.cells.map((cell) => (cell === undefined ? cell : { ...cell, locked: false }));
    world.processes.push({ task: process.task.fork(), cells });
  },
};

// why: Object.keys forgets what keys the object was written with
const names = Object.keys(steps) as (keyof typeof steps)[];
const anyStep: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom(...names),
  who: fc.nat(2),
  page: fc.nat(PAGES - 1),
  count: fc.integer({ min: 1, max: 5 }),
  value: fc.nat(255),
});

const compare = (world: World): void => {
  assert.equal(world.os.host.pinnedPages, world.pins.length);
  for (const { task, cells } of world.processes) {
    assert.equal(task.memory.lockedPages, cells.filter((cell) => cell?.locked).length);
    cells.forEach((cell, page) => {
      const byte = new Uint8Array(1);
      const seen = task.memory.copy(address(world, page), byte, false) ? byte[0] : 'fault';
      assert.equal(seen, cell === undefined || cell.prot === 0 ? 'fault' : cell.value);
    });
  }
};

for (const mode of ['zero-page', 'allocate'] as const) {
  test(`any sequence of memory calls (${mode}) does what a plain model does, and leaves nothing`, async () => {
    const property = async (sequence: Step[]): Promise<void> => {
      const world = begin(mode);
      for (const s of sequence) {
        steps[s.what](world, world.processes[s.who % world.processes.length] ?? assert.fail(), s);
        compare(world);
      }
      for (const { task } of world.processes) await task.exit();
      assert.equal(world.os.leaks().livePages, new Set(world.pins).size);
      for (const pfn of world.pins) world.os.host.unpinPage(pfn, true);
      assert.deepEqual(world.os.leaks(), NOTHING);
    };
    await fc.assert(fc.asyncProperty(fc.array(anyStep, { maxLength: 40 }), property), { numRuns: 200 });
  });
}
