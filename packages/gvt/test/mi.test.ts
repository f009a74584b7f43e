import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { INTERRUPT_BANKS, miBatchBufferEnd, miStoreDword, PVINFO, RING } from '@pinion/gvt';
import fc from 'fast-check';
import { type Commands, ExeclistGuest, engineOf, FRAME } from './execlist-guest.js';

const BCS = engineOf('bcs');
const RCS = engineOf('rcs');
const GPR = BCS.base + RING.GPR;
const OWN_BATCH = [0x18800101, 0, 0];

/** Runs ring commands on a fresh guest's blitter. */
function ring(...commands: readonly ((guest: ExeclistGuest) => readonly number[])[]): ExeclistGuest {
  const guest = new ExeclistGuest();
  guest.execute(guest.context('bcs'), ...commands.map((command) => command(guest)));
  assert.equal(guest.device.engineError, undefined);
  return guest;
}

/** Runs a batch of the own address space. Its page 1 is where results go. */
function own(values: readonly number[], ...commands: Commands): ExeclistGuest {
  const guest = new ExeclistGuest();
  guest.poke(FRAME.PAGES, 0, [...commands, miBatchBufferEnd()].flat());
  guest.poke(FRAME.PAGES + 1, 0, values);
  guest.execute(guest.context('bcs'), OWN_BATCH);
  assert.equal(guest.device.engineError, undefined);
  return guest;
}

const result = (guest: ExeclistGuest, dword: number): number => guest.peek(FRAME.PAGES + 1, dword * 4);
const load = (...pairs: readonly number[]): number[] => [0x11000000 | (pairs.length - 1), ...pairs];

describe('registers', () => {
  test('loaded, copied, stored and loaded back by the ring', () => {
    const guest = ring(
      () => load(GPR, 0x12345678, GPR + 4, 9),
      () => [0x15000001, GPR, GPR + 16],
      (g) => [0x12400002, GPR + 16, g.at(FRAME.DATA), 0],
      (g) => [0x14c00002, GPR + 24, g.at(FRAME.DATA), 0],
    );
    assert.deepEqual(
      [GPR, GPR + 4, GPR + 16, GPR + 24].map((at) => guest.read32(at)),
      [0x12345678, 9, 0x12345678, 0x12345678],
    );
    assert.equal(guest.peek(FRAME.DATA, 0), 0x12345678);
    guest.finish();
  });

  test('the same in a batch of the own address space, as far as it may', () => {
    const guest = own(
      [7],
      load(GPR, 0x11),
      [0x12000002, GPR, 0x1004, 0],
      [0x14800002, GPR + 8, 0x1000, 0],
      [0x12000002, GPR + 8, 0x1008, 0],
      [0x15000001, GPR, GPR + 8],
      [0x12000002, GPR + 8, 0x100c, 0],
      [0x12000002, 0x44200, 0x1010, 0],
    );
    assert.deepEqual(
      [1, 2, 3, 4].map((dword) => result(guest, dword)),
      [0x11, 7, 0x11, 0],
    );
    guest.finish();
  });

  test('a masked one changes only the bits that its upper half names', () => {
    const guest = ring(
      () => load(BCS.base + RING.MI_MODE, 0x00ff0055),
      () => load(BCS.base + RING.MI_MODE, 0x000f000a),
    );
    assert.equal(guest.read32(BCS.base + RING.MI_MODE) & 0xffff & ~(1 << 9), 0x5a);
    guest.finish();
  });

  test('a slot opens a register for batches; without it the write is lost', () => {
    const guest = new ExeclistGuest();
    const [slot, nopid] = [BCS.base + RING.FORCE_NONPRIV, BCS.base + 0x94];
    guest.poke(FRAME.PAGES, 0, [load(nopid, 5), miBatchBufferEnd()].flat());
    const a = guest.context('bcs');
    guest.execute(a, OWN_BATCH);
    assert.equal(guest.read32(nopid), 0);
    guest.execute(a, load(slot + 4, nopid), OWN_BATCH);
    assert.deepEqual([guest.read32(nopid), guest.read32(slot + 4)], [5, nopid]);
    guest.finish();
  });

  for (const offset of [0x44050, 0xa188, PVINFO.G2V_NOTIFY]) {
    test(`a load of 0x${offset.toString(16)} is lost, without harm`, () => {
      const guest = ring(
        () => load(offset, 0xffffffff),
        (g) => miStoreDword(g.at(FRAME.DATA), 1),
      );
      assert.deepEqual([guest.read32(offset), guest.peek(FRAME.DATA, 0)], [0, 1]);
      guest.finish();
    });
  }

  test('the time stamp runs at 12 MHz', () => {
    const guest = new ExeclistGuest();
    guest.clock.advance(400_000);
    const at = BCS.base + RING.TIMESTAMP;
    guest.execute(
      guest.context('bcs'),
      [0x12400002, at, guest.at(FRAME.DATA), 0],
      [0x12400002, at + 4, guest.at(FRAME.DATA, 4), 0],
    );
    const ticks = guest.peek(FRAME.DATA, 4) * 2 ** 32 + guest.peek(FRAME.DATA, 0);
    assert.ok(ticks >= 400_000 * 12_000 && ticks <= (400_000 + 10) * 12_000, `${ticks}`);
    guest.finish();
  });
});

describe('roots that the ring loads', () => {
  /** Four directories for a table of three levels; the first leads address 0 to the guest frame `page`. */
  function threeLevels(guest: ExeclistGuest, table: number, page: number): number[] {
    guest.poke(table, 0, [((table + 1) * 4096) | 3, 0]);
    guest.poke(table + 1, 0, [(page * 4096) | 3, 0]);
    return [3, 2, 1, 0].flatMap((pdp) => {
      const at = BCS.base + RING.PDP + pdp * 8;
      return [at + 4, 0, at, pdp === 0 ? table * 4096 : 0];
    });
  }
  const store = (value: number) => [0x10000002, 0, 0, value];

  test('switch the address space for what follows', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    const switchTo = load(...threeLevels(guest, 950, 500));
    guest.execute(a, store(1), switchTo, store(2));
    assert.deepEqual([guest.peek(FRAME.PAGES, 0), guest.peek(500, 0)], [1, 2]);
    guest.finish();
  });

  test('a context of three levels begins with its own', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    threeLevels(guest, 950, 500);
    guest.setState(a, { 51: 950 * 4096 });
    guest.emit(a, store(3));
    guest.elsp(BCS, [(guest.descriptor(a) & ~0x18) | 0x08, a.id]);
    guest.clock.drain();
    assert.deepEqual([guest.peek(500, 0), guest.csb(BCS).at(-1)?.[0]], [3, 0x18]);
    guest.finish();
  });
});

describe('flushes', () => {
  test('of the blitter: a dword, a qword, into the status page, a time stamp, a notification', () => {
    const guest = ring(
      (g) => [0x13004002, g.at(FRAME.DATA) | 4, 0, 1],
      (g) => [0x13004003, g.at(FRAME.DATA, 8) | 4, 0, 2, 3],
      () => [0x13204002, 0x100, 0, 4],
      (g) => [0x1300c002, g.at(FRAME.DATA, 16) | 4, 0, 0],
      () => [0x13000102, 0, 0, 0],
      () => [0x13004002, 0x1008, 0, 5],
    );
    assert.deepEqual(
      [0, 8, 12].map((at) => guest.peek(FRAME.DATA, at)),
      [1, 2, 3],
    );
    assert.deepEqual([guest.peek(2, 0x100), guest.peek(FRAME.DATA, 16) > 0, result(guest, 2)], [4, true, 5]);
    assert.equal(guest.read32(INTERRUPT_BANKS.gt0 + 8) & 0x100000, 0x100000);
    guest.finish();
  });

  test('of the render engine', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('rcs');
    const pipe = (flags: number, at: number) => [0x7a000004, flags, at, 0, 0x11, 0x22];
    guest.execute(
      a,
      pipe(0x01004000, guest.at(FRAME.DATA)),
      pipe(0x00204000, 0x200),
      pipe(0x0100c000, guest.at(FRAME.DATA, 8)),
      pipe(0x00104100, 0x1000),
      pipe(0x01008000, guest.at(FRAME.DATA, 24)),
    );
    assert.deepEqual(
      [0, 4, 24].map((at) => guest.peek(FRAME.DATA, at)),
      [0x11, 0x22, 0],
    );
    assert.deepEqual([guest.peek(FRAME.HWSP, 0x200), guest.peek(FRAME.HWSP, 0x204)], [0x11, 0x22]);
    assert.deepEqual([guest.peek(FRAME.DATA, 8) > 0, result(guest, 0), result(guest, 1)], [true, 0x11, 0x22]);
    assert.equal(guest.read32(INTERRUPT_BANKS.gt0 + 8) & 0x10, 0x10);
    assert.deepEqual(guest.csb(RCS).at(-1), [0x18, a.id]);
    guest.finish();
  });

  test('state commands of the render engine are measured and passed over', () => {
    const guest = new ExeclistGuest();
    const state = [0x7808000d, ...new Array<number>(14).fill(0xffffffff)];
    guest.execute(guest.context('rcs'), [0x69040000], state, miStoreDword(guest.at(FRAME.DATA), 4));
    assert.deepEqual([guest.device.engineError, guest.peek(FRAME.DATA, 0)], [undefined, 4]);
    guest.finish();
  });
});

describe('atomic operations', () => {
  type Operation = readonly [
    code: number,
    what: string,
    expected: (memory: number, first: number, second: number) => number,
  ];
  const table: readonly Operation[] = [
    [1, 'and', (m, a) => m & a],
    [2, 'or', (m, a) => m | a],
    [3, 'xor', (m, a) => m ^ a],
    [4, 'move', (_m, a) => a],
    [5, 'increment', (m) => m + 1],
    [6, 'decrement', (m) => m - 1],
    [7, 'add', (m, a) => m + a],
    [8, 'subtract', (m, a) => m - a],
    [9, 'reverse subtract', (m, a) => a - m],
    [10, 'signed maximum', (m, a) => Math.max(m | 0, a | 0)],
    [11, 'signed minimum', (m, a) => Math.min(m | 0, a | 0)],
    [12, 'maximum', (m, a) => Math.max(m, a)],
    [13, 'minimum', (m, a) => Math.min(m, a)],
    [14, 'compare and write', (m, a, b) => (m === a ? b : m)],
  ];
  const inline = (code: number, first: number, second: number) => [
    0x17840009 | (code << 8),
    0x1000,
    0,
    first,
    second,
    0,
    0,
    0,
    0,
    0,
    0,
  ];
  for (const [code, what, expected] of table) {
    test(`${what}, on dwords; the old value comes back when it is asked for`, () => {
      const value = fc.oneof(fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xffffffff), fc.nat(0xffffffff));
      fc.assert(
        fc.property(value, value, value, fc.boolean(), (memory, first, second, same) => {
          const operand = same ? memory : first;
          const command = inline(code, operand, second);
          command[0] = (command[0] ?? 0) | (1 << 16);
          const guest = own([memory, 0x55], command);
          assert.deepEqual([result(guest, 0), result(guest, 1)], [expected(memory, operand, second) >>> 0, 0x55]);
          assert.equal(guest.read32(GPR), memory);
          guest.finish();
        }),
        { numRuns: 8 },
      );
    });
  }

  test('qwords carry over; operands may stand in registers', () => {
    const guest = own([0xffffffff, 1], load(GPR, 2, GPR + 4, 0), [0x17800001 | (0x27 << 8), 0x1000, 0]);
    assert.deepEqual([result(guest, 0), result(guest, 1)], [1, 2]);
    guest.finish();
  });

  test('an operation that there is not stops the engine', () => {
    const guest = new ExeclistGuest();
    guest.poke(FRAME.PAGES, 0, inline(0x5e, 1, 2));
    guest.execute(guest.context('bcs'), OWN_BATCH);
    assert.equal(guest.device.engineError?.name, 'GVT_BAD_COMMAND');
    guest.finish();
  });
});

describe('arithmetic', () => {
  const MASK = 2n ** 64n - 1n;
  const op = (code: number, to = 0, from = 0): number => ((code << 20) | (to << 10) | from) >>> 0;
  const [A, B, RESULT, ZERO, CARRY] = [0x20, 0x21, 0x31, 0x32, 0x33];
  const halves = (register: number, value: bigint): number[] => [
    GPR + register * 8,
    Number(value & 0xffffffffn),
    GPR + register * 8 + 4,
    Number(value >> 32n),
  ];
  const register = (guest: ExeclistGuest, index: number): bigint =>
    (BigInt(guest.read32(GPR + index * 8 + 4)) << 32n) | BigInt(guest.read32(GPR + index * 8));
  const compute = (a: bigint, b: bigint, code: number): ExeclistGuest => {
    const instructions = [
      op(0x080, A, 1),
      op(0x080, B, 2),
      op(code),
      op(0x180, 3, RESULT),
      op(0x180, 4, ZERO),
      op(0x180, 5, CARRY),
    ];
    return own([], load(...halves(1, a), ...halves(2, b)), [0x0d000000 | (instructions.length - 1), ...instructions]);
  };
  const table: readonly (readonly [code: number, what: string, exact: (a: bigint, b: bigint) => bigint])[] = [
    [0x100, 'add', (a, b) => a + b],
    [0x101, 'subtract', (a, b) => a - b],
    [0x102, 'and', (a, b) => a & b],
    [0x103, 'or', (a, b) => a | b],
    [0x104, 'xor', (a, b) => a ^ b],
  ];
  for (const [code, what, exact] of table) {
    test(`${what}, with zero and carry`, () => {
      const value = fc.oneof(fc.constantFrom(0n, 1n, MASK), fc.bigInt({ min: 0n, max: MASK }));
      fc.assert(
        fc.property(value, value, (a, b) => {
          const guest = compute(a, b, code);
          const wide = exact(a, b);
          const result = BigInt.asUintN(64, wide);
          assert.deepEqual(
            [3, 4, 5].map((index) => register(guest, index)),
            [result, result === 0n ? MASK : 0n, wide === result ? 0n : MASK],
          );
          guest.finish();
        }),
        { numRuns: 8 },
      );
    });
  }

  test('constants and inversions', () => {
    const instructions = [
      op(0x481, A),
      op(0x081, B),
      op(0x100),
      op(0x180, 3, RESULT),
      op(0x580, 4, RESULT),
      op(0x480, A, 1),
      op(0x100),
      op(0x180, 5, RESULT),
    ];
    const guest = own([], load(...halves(1, 5n)), [0x0d000000 | (instructions.length - 1), ...instructions]);
    assert.deepEqual(
      [3, 4, 5].map((index) => register(guest, index)),
      [MASK, 0n, MASK ^ 5n],
    );
    guest.finish();
  });

  for (const [what, instruction] of [
    ['a reserved operation', op(0x7ff)],
    ['a load into a register', op(0x080, 3, 1)],
    ['register 16', op(0x080, A, 16)],
    ['a store to register 16', op(0x180, 16, RESULT)],
  ] as const) {
    test(`${what} stops the engine`, () => {
      const guest = new ExeclistGuest();
      guest.poke(FRAME.PAGES, 0, [0x0d000000, instruction]);
      guest.execute(guest.context('bcs'), OWN_BATCH);
      assert.equal(guest.device.engineError?.name, 'GVT_BAD_COMMAND');
      guest.finish();
    });
  }
});

describe('batches of the own address space', () => {
  test('end early when memory is not above a value', () => {
    for (const [memory, after] of [
      [4, 0],
      [5, 0],
      [6, 9],
    ] as const) {
      const guest = own([memory], [0x1b000002, 5, 0x1000, 0], [0x10000002, 0x1004, 0, 9]);
      assert.equal(result(guest, 1), after);
      guest.finish();
    }
  });

  test('chain, call and come back', () => {
    const guest = new ExeclistGuest();
    const put = (at: number, value: number) => [0x10000002, 0x1000 + at * 4, 0, value];
    const start = (address: number, called = false) => [0x18800101 | (called ? 1 << 22 : 0), address, 0];
    guest.poke(FRAME.PAGES, 0, [start(0x2000, true), put(0, 1), start(0x3000), put(1, 0xbad)].flat());
    guest.poke(FRAME.PAGES + 2, 0, [put(2, 2), start(0x2800)].flat());
    guest.poke(FRAME.PAGES + 2, 0x800, [put(3, 3), miBatchBufferEnd()].flat());
    guest.poke(FRAME.PAGES + 3, 0, [put(4, 4), miBatchBufferEnd()].flat());
    guest.execute(guest.context('bcs'), OWN_BATCH, put(5, 5));
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5].map((dword) => result(guest, dword)),
      [1, 0, 2, 3, 4, 5],
    );
    guest.finish();
  });

  test('that change themselves run what stands there when they come to it', () => {
    const guest = new ExeclistGuest();
    const patched = [0x10000002, 16 + 12, 0, 7];
    guest.poke(FRAME.PAGES, 0, [patched, [0x10000002, 0x1000, 0, 1], miBatchBufferEnd()].flat());
    guest.execute(guest.context('bcs'), OWN_BATCH);
    assert.equal(result(guest, 0), 7);
    guest.finish();
  });
});

describe('a flip in the ring', () => {
  const flips: readonly (readonly [
    plane: number,
    registers: number,
    bank: 'pipe-a' | 'pipe-b' | 'pipe-c',
    bit: number,
  ])[] = [
    [0, 0x70180, 'pipe-a', 3],
    [1, 0x71180, 'pipe-b', 3],
    [2, 0x72180, 'pipe-c', 3],
    [4, 0x70280, 'pipe-a', 4],
    [6, 0x72280, 'pipe-c', 4],
  ];
  for (const [plane, registers, bank, bit] of flips) {
    test(`of plane ${plane}: surface, stride and tiling change, and the guest is told`, () => {
      const guest = ring((g) => [0x0a000001 | (plane << 8), (120 << 6) | 1, g.at(FRAME.DATA)]);
      assert.deepEqual(
        [0, 8, 0x1c].map((at) => guest.read32(registers + at)),
        [1 << 10, 120, guest.at(FRAME.DATA)],
      );
      assert.equal(guest.read32(INTERRUPT_BANKS[bank] + 8), 1 << bit);
      guest.finish();
    });
  }
});
