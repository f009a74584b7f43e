import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PinionError } from '@pinion/core';
import {
  MAX_BATCHES,
  MAX_JOB_DWORDS,
  miBatchBufferEnd,
  miBatchBufferStart,
  miFlushStore,
  miNoop,
  miStoreDword,
  miUserInterrupt,
  RING,
  xyColorBlt,
} from '@pinion/gvt';
import { type Commands, type Context, ExeclistGuest, engineOf, FRAME } from './execlist-guest.js';

const PAGE = 4096;
const BCS = engineOf('bcs');
const LOAD = 0x11000001;
const GPR = BCS.base + RING.GPR;

/** What the submission port answered: the error behind the failed region access. */
function refusal(submit: () => void): PinionError | undefined {
  try {
    submit();
    return undefined;
  } catch (error) {
    assert.ok(error instanceof PinionError && error.name === 'GVT_REGION_FAULT');
    assert.ok(error.cause instanceof PinionError);
    return error.cause;
  }
}

type Make = (guest: ExeclistGuest) => Commands;
type Row = readonly [what: string, error: string, errno: string, commands: Make];
const rejected = (what: string, header: number): Row => [
  what,
  'GVT_BAD_COMMAND',
  'EBADRQC',
  () => [[header, 0, 0, 0, 0, 0]],
];

const LONG = 'GVT_JOB_TOO_LONG';
const ROWS: readonly Row[] = [
  ['an unknown MI opcode', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x1f000000, 0]]],
  ['an unknown blitter opcode', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x5fc00000, 0]]],
  ['a client that the engine does not have', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x7a000004, 0, 0, 0, 0, 0]]],
  ['an opcode of another engine', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x0c000000, 0]]],
  ['a batch end in the ring', 'GVT_BAD_COMMAND', 'EBADRQC', () => [miBatchBufferEnd()]],
  ['a command that the tail cuts off', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x10400002, 0]]],
  rejected('MI_SEMAPHORE_WAIT', 0x0e000002),
  rejected('MI_STORE_DATA_INDEX', 0x10800001),
  rejected('MI_UPDATE_GTT', 0x11800001),
  rejected('MI_CLFLUSH', 0x13800001),
  rejected('MI_REPORT_PERF_COUNT', 0x14000002),
  rejected('MI_OP_2E', 0x17000002),
  rejected('MI_CONDITIONAL_BATCH_BUFFER_END', 0x1b000002),
  ['XY_FAST_COPY_BLT', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x50800008, 0, 0, 0, 0, 0, 0, 0, 0, 0]]],
  ['a store of three dwords', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x10400001, 0, 0]]],
  ['a reserved post-sync operation', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x13008002, 4, 0, 0]]],
  ['a register load without a value', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x11000002, GPR, 0, GPR]]],
  ['a load of a ring register', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[LOAD, BCS.base + RING.CTL, 0]]],
  ['a load of the submit port', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[LOAD, BCS.base + RING.ELSP, 0]]],
  ['a load of the interrupt master', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[LOAD, 0x44200, 0]]],
  ['a load of the time stamp', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[LOAD, BCS.base + RING.TIMESTAMP, 0]]],
  ['a load beyond the registers', 'GVT_BAD_REGISTER', 'EFAULT', () => [[LOAD, 0x200000, 0]]],
  ['a forbidden register copied', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x15000001, 0x44200, GPR]]],
  ['a copy to a forbidden register', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x15000001, GPR, 0x44200]]],
  [
    'a forbidden register stored',
    'GVT_REGISTER_PROTECTED',
    'EPERM',
    (g) => [[0x12400002, 0x44200, g.at(FRAME.DATA), 0]],
  ],
  [
    'a forbidden register loaded from memory',
    'GVT_REGISTER_PROTECTED',
    'EPERM',
    (g) => [[0x14c00002, 0x44200, g.at(FRAME.DATA), 0]],
  ],
  ['the table opened to all', 'GVT_REGISTER_PROTECTED', 'EPERM', () => [[LOAD, BCS.base + RING.FORCE_NONPRIV, 0x2030]]],
  ['a store below the slice', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miStoreDword(g.low.base - 4, 1)]],
  ['a store above the slice', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miStoreDword(g.low.base + g.low.size, 1)]],
  ['a store above 4 GiB', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [[0x10400002, g.at(FRAME.DATA), 1, 1]]],
  ['a store of 254 dwords over the end', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [[0x104000ff, g.at(255), 0]]],
  ['a flush to address 0', 'GVT_BAD_ADDRESS', 'EFAULT', () => [miFlushStore(0, 1)]],
  ['a flush beyond the status page', 'GVT_BAD_ADDRESS', 'EFAULT', () => [[0x13204002, 0x1000, 0, 7]]],
  ['a register stored elsewhere', 'GVT_BAD_ADDRESS', 'EFAULT', () => [[0x12400002, GPR, 0, 0]]],
  ['an atomic operation elsewhere', 'GVT_BAD_ADDRESS', 'EFAULT', () => [[0x17c00501, 0, 0]]],
  ['a flip of no plane', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [[0x0a001f01, 0, g.at(FRAME.DATA)]]],
  ['a batch elsewhere', 'GVT_BAD_ADDRESS', 'EFAULT', () => [miBatchBufferStart(0x1000)]],
  ['a batch at the last byte', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miBatchBufferStart(g.low.base + g.low.size)]],
  ['a ring that calls', 'GVT_BAD_BATCH', 'EFAULT', (g) => [miBatchBufferStart(g.at(FRAME.BATCH), true)]],
  [
    'three levels',
    'GVT_BATCH_TOO_DEEP',
    'EFAULT',
    (g) => {
      g.poke(FRAME.BATCH, 0, [miBatchBufferStart(g.at(FRAME.BATCH, 64), true), miBatchBufferEnd()].flat());
      g.poke(FRAME.BATCH, 64, miBatchBufferStart(g.at(FRAME.BATCH, 128), true));
      return [miBatchBufferStart(g.at(FRAME.BATCH))];
    },
  ],
  [
    'a jump at the second level',
    'GVT_BATCH_TOO_DEEP',
    'EFAULT',
    (g) => {
      g.poke(FRAME.BATCH, 0, [miBatchBufferStart(g.at(FRAME.BATCH, 64), true), miBatchBufferEnd()].flat());
      g.poke(FRAME.BATCH, 64, miBatchBufferStart(g.at(FRAME.BATCH, 128)));
      return [miBatchBufferStart(g.at(FRAME.BATCH))];
    },
  ],
  [
    'a bad command at the end of a chain',
    'GVT_BAD_COMMAND',
    'EBADRQC',
    (g) => {
      g.poke(FRAME.BATCH, 0, [miNoop(), miBatchBufferStart(g.at(FRAME.BATCH, 256))].flat());
      g.poke(FRAME.BATCH, 256, [0x1f000000, 0]);
      return [miBatchBufferStart(g.at(FRAME.BATCH))];
    },
  ],
  ['a batch that runs out of its pages', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miBatchBufferStart(g.at(255))]],
  [
    'a batch without an end',
    LONG,
    'E2BIG',
    (g) => {
      for (let page = 0; page < 1025; page++) g.mapPages(g.high.base + page * PAGE, FRAME.BATCH, 1);
      return [miBatchBufferStart(g.high.base)];
    },
  ],
  [
    'more batches than are looked at',
    'GVT_TOO_MANY_BATCHES',
    'E2BIG',
    (g) => {
      for (let batch = 0; batch <= MAX_BATCHES; batch++)
        g.poke(FRAME.BATCH, batch * 12, miBatchBufferStart(g.at(FRAME.BATCH, batch * 12 + 12)));
      return [miBatchBufferStart(g.at(FRAME.BATCH))];
    },
  ],
];

describe('a submission is refused as a whole', () => {
  for (const [what, name, errno, commands] of ROWS) {
    test(what, () => {
      const guest = new ExeclistGuest();
      const a = guest.context('bcs');
      guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1), ...commands(guest));
      const before = guest.device.stats;
      const error = refusal(() => guest.start(a));
      assert.deepEqual([error?.name, error?.errno], [name, errno]);
      guest.clock.drain();
      assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.csb(BCS), guest.irqs], [0, [], []]);
      assert.deepEqual([guest.device.stats, guest.device.submission.idle], [before, true]);
      const unhealthy = errno === 'EBADRQC' || errno === 'EFAULT';
      assert.equal(
        guest.log.warnings.some((line) => /emulates nothing any more/.test(line)),
        unhealthy,
      );
      guest.finish();
    });
  }

  const PIPE = 0x7a000004;
  const render: readonly Row[] = [
    ['a register as its target', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[PIPE, 1 << 23, 0, 0, 0, 0]]],
    ['a foreign address', 'GVT_BAD_ADDRESS', 'EFAULT', () => [[PIPE, 0x01004000, 0, 0, 0, 0]]],
    ['an index beyond the page', 'GVT_BAD_ADDRESS', 'EFAULT', () => [[PIPE, 0x00204000, 0x1000, 0, 0, 0]]],
    ['five dwords', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[PIPE - 1, 0, 0, 0, 0]]],
    ['a flush of another engine', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x13000002, 0, 0, 0]]],
    ['an unknown state command', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x79ff0000, 0]]],
  ];
  for (const [what, name, errno, commands] of render) {
    test(`PIPE_CONTROL and the render engine: ${what}`, () => {
      const guest = new ExeclistGuest();
      const a = guest.context('rcs');
      guest.emit(a, ...commands(guest));
      const error = refusal(() => guest.start(a));
      assert.deepEqual([error?.name, error?.errno], [name, errno]);
      guest.finish();
    });
  }
});

describe('descriptors and images', () => {
  type Spoil = (guest: ExeclistGuest, context: Context) => readonly [low: number, high: number];
  const plain: Spoil = (guest, context) => [guest.descriptor(context), context.id];
  const spoiled =
    (values: (guest: ExeclistGuest) => Readonly<Record<number, number>>): Spoil =>
    (guest, context) => {
      guest.setState(context, values(guest));
      return plain(guest, context);
    };
  const table: readonly (readonly [what: string, engine: string, spoil: Spoil])[] = [
    ['not valid', 'bcs', (g, c) => [g.descriptor(c) & ~1, c.id]],
    ['without an address space', 'bcs', (g, c) => [g.descriptor(c) & ~0x100, c.id]],
    ['addressing mode 0', 'bcs', (g, c) => [g.descriptor(c) & ~0x18, c.id]],
    ['addressing mode 2', 'bcs', (g, c) => [(g.descriptor(c) & ~0x18) | 0x10, c.id]],
    ['an image at 0', 'bcs', (_g, c) => [0x119, c.id]],
    ['an image over the end', 'bcs', (g, c) => [(g.low.base + g.low.size - PAGE) | 0x119, c.id]],
    ['an image with nothing behind it', 'bcs', (g, c) => [g.at(1000) | 0x119, c.id]],
    ['a ring at 0', 'bcs', spoiled(() => ({ 9: 0 }))],
    ['a ring over the end', 'bcs', spoiled((g) => ({ 9: g.low.base + g.low.size - PAGE }))],
    ['a head beyond the ring', 'bcs', spoiled(() => ({ 5: 4 * PAGE }))],
    ['a tail beyond the ring', 'bcs', spoiled(() => ({ 7: 4 * PAGE + 8 }))],
    ['a foreign per-context batch', 'rcs', spoiled(() => ({ 25: 1 }))],
    ['a foreign indirect batch', 'rcs', spoiled(() => ({ 27: 0x3f }))],
  ];
  for (const [what, name, spoil] of table) {
    test(`${what}: EINVAL, nothing held, the vGPU goes on`, () => {
      const guest = new ExeclistGuest();
      const a = guest.context(name);
      guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
      const before = guest.device.stats;
      const error = refusal(() => guest.elsp(a.engine, spoil(guest, a)));
      assert.deepEqual([error?.name, error?.errno], ['GVT_BAD_SUBMISSION', 'EINVAL']);
      guest.clock.drain();
      assert.deepEqual([guest.csb(a.engine), guest.device.stats, guest.peek(FRAME.DATA, 0)], [[], before, 0]);
      const b = guest.context(name);
      guest.execute(b, miStoreDword(guest.at(FRAME.DATA), 2));
      assert.equal(guest.peek(FRAME.DATA, 0), 2);
      guest.finish();
    });
  }

  test('a bad second context takes the first one along', () => {
    const guest = new ExeclistGuest();
    const [a, b] = [guest.context('bcs'), guest.context('bcs')];
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
    guest.setState(b, { 9: 0 });
    assert.equal(refusal(() => guest.start(a, b))?.name, 'GVT_BAD_SUBMISSION');
    guest.clock.drain();
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.csb(BCS)], [0, []]);
    guest.finish();
  });

  test('a ring whose pages are not there', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.setState(a, { 7: 3 * PAGE + 8 });
    guest.writeEntry(guest.at(a.frame + 24), 0n);
    const error = refusal(() => guest.start(a));
    assert.deepEqual([error?.name, error?.errno, guest.device.stats.faults], ['GVT_BAD_ADDRESS', 'EFAULT', 0]);
    guest.finish();
  });

  test('a root that is no memory is refused by the tables', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs', 5000);
    guest.emit(a, miNoop());
    assert.equal(refusal(() => guest.start(a))?.name, 'GVT_PPGTT_ROOT');
    guest.finish();
  });

  test('the port of an engine in ring mode is refused', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.write32(BCS.base + RING.MODE, 0x80000000);
    assert.equal(refusal(() => guest.start(a))?.name, 'GVT_BAD_SUBMISSION');
    guest.finish();
  });
});

describe('what is judged is what runs', () => {
  test('a ring that changes after the submission', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1), miUserInterrupt());
    guest.start(a);
    guest.poke(a.frame + 22, 0, miStoreDword(guest.at(200), 0xbad));
    guest.poke(a.frame + 22, 16, [0x1f000000]);
    guest.clock.drain();
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(200, 0), guest.device.engineError], [1, 0, undefined]);
    guest.finish();
  });

  test('a global batch, and one that it chains to', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.poke(
      FRAME.BATCH,
      0,
      [miStoreDword(guest.at(FRAME.DATA), 1), miBatchBufferStart(guest.at(FRAME.BATCH, 64))].flat(),
    );
    guest.poke(FRAME.BATCH, 64, [miStoreDword(guest.at(FRAME.DATA, 4), 2), miBatchBufferEnd()].flat());
    guest.emit(a, miBatchBufferStart(guest.at(FRAME.BATCH)), miStoreDword(guest.at(FRAME.DATA, 8), 3));
    guest.start(a);
    guest.poke(FRAME.BATCH, 0, miStoreDword(0x1000, 1));
    guest.poke(FRAME.BATCH, 64, new Array<number>(64).fill(0));
    guest.clock.drain();
    assert.deepEqual(
      [0, 4, 8].map((offset) => guest.peek(FRAME.DATA, offset)),
      [1, 2, 3],
    );
    guest.finish();
  });

  test('global batches in a circle pass the audit, and stop at the limit', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.poke(FRAME.BATCH, 0, miBatchBufferStart(guest.at(FRAME.BATCH, 64)));
    guest.poke(FRAME.BATCH, 64, miBatchBufferStart(guest.at(FRAME.BATCH)));
    guest.execute(a, miBatchBufferStart(guest.at(FRAME.BATCH)));
    assert.deepEqual([guest.device.engine, guest.device.engineError?.errno], ['halted', 'E2BIG']);
    guest.finish();
  });

  test('the second level is called and comes back, from its copy', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    const outer = [miBatchBufferStart(guest.at(FRAME.BATCH, 64), true), miStoreDword(guest.at(FRAME.DATA, 4), 2)];
    guest.poke(FRAME.BATCH, 0, [...outer, miBatchBufferEnd()].flat());
    guest.poke(FRAME.BATCH, 64, [miStoreDword(guest.at(FRAME.DATA), 1), miBatchBufferEnd()].flat());
    guest.execute(a, miBatchBufferStart(guest.at(FRAME.BATCH)), miStoreDword(guest.at(FRAME.DATA, 8), 3));
    assert.deepEqual(
      [0, 4, 8].map((offset) => guest.peek(FRAME.DATA, offset)),
      [1, 2, 3],
    );
    guest.finish();
  });

  test('the register state: a ring that is moved after the submission', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
    guest.start(a);
    guest.setState(a, { 9: 0, 11: 0xffffffff, 49: 0xffff, 51: 0xffffffff });
    guest.clock.drain();
    assert.equal(guest.peek(FRAME.DATA, 0), 1);
    guest.finish();
  });

  test('a waiting submission is judged when its turn comes; a bad one ends all of the queue, and the engine until a reset', () => {
    const guest = new ExeclistGuest();
    const [a, b] = [guest.context('bcs'), guest.context('bcs')];
    guest.emit(a, miStoreDword(guest.at(FRAME.DATA), 1));
    guest.emit(b, miStoreDword(guest.at(FRAME.DATA, 4), 2));
    guest.start(a, b);
    guest.poke(b.frame + 22, 0, miStoreDword(0x1000, 1));
    guest.clock.drain();
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(FRAME.DATA, 4)], [1, 0]);
    assert.deepEqual(guest.csb(BCS), [
      [0x1, 0],
      [0x14, a.id],
    ]);
    assert.equal(guest.device.engineError?.name, 'GVT_BAD_ADDRESS');
    assert.match(guest.log.warnings.join('\n'), /emulates nothing any more/);
    guest.finish();
  });
});

describe('what is left to a batch of the own address space', () => {
  const own = (guest: ExeclistGuest, ...commands: Commands): number[][] => {
    guest.poke(FRAME.PAGES, 0, [...commands, miBatchBufferEnd()].flat());
    return [[0x18800101, 0, 0]];
  };
  const runs: readonly (readonly [what: string, command: (guest: ExeclistGuest) => number[]])[] = [
    ['a store to global memory', (g) => miStoreDword(g.at(FRAME.DATA), 1)],
    ['a flush to global memory', (g) => miFlushStore(g.at(FRAME.DATA), 1)],
    ['a flush to the status page', () => [0x13204002, 0x100, 0, 1]],
    ['a load of a ring register', () => [LOAD, BCS.base + RING.HWS_PGA, 0]],
    ['a load of a register that only rings may', () => [LOAD, BCS.base + RING.MI_MODE, 0xffffffff]],
    ['a user interrupt', () => miUserInterrupt()],
    ['a register stored to global memory', (g) => [0x12400002, GPR, g.at(FRAME.DATA), 0]],
    ['an update of the global table', () => [0x11800001, 0, 0]],
    ['a flip', (g) => [0x0a000001, 0, g.at(FRAME.DATA)]],
    ['an atomic operation on global memory', (g) => [0x17c00501, g.at(FRAME.DATA), 0]],
    ['a wait for global memory', (g) => [0x0e40c002, 5, g.at(FRAME.DATA), 0]],
  ];
  for (const [what, command] of runs) {
    test(`${what} has no effect`, () => {
      const guest = new ExeclistGuest();
      const a = guest.context('bcs');
      const registers = () => [RING.HWS_PGA, RING.MI_MODE].map((at) => guest.read32(BCS.base + at));
      const before = registers();
      guest.execute(a, ...own(guest, command(guest), [0x10000002, 0x1000, 0, 9]));
      assert.deepEqual([guest.device.engineError, guest.peek(FRAME.PAGES + 1, 0)], [undefined, 9]);
      assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.peek(2, 0x100), registers()], [0, 0, before]);
      assert.deepEqual([guest.irqs.length, guest.csb(BCS).at(-1)], [2, [0x18, a.id]]);
      guest.finish();
    });
  }

  test('it may go over to no global batch: the address is one of its own', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.poke(FRAME.PAGES + 2, 0, [[0x10000002, 0x1000, 0, 9], miBatchBufferEnd()].flat());
    guest.poke(FRAME.PAGES, 0, [0x18800001, 0x2000, 0]);
    guest.execute(a, [0x18800101, 0, 0]);
    assert.deepEqual([guest.device.engineError, guest.peek(FRAME.PAGES + 1, 0)], [undefined, 9]);
    guest.finish();
  });

  const hangs: readonly (readonly [what: string, error: string, batch: readonly number[]])[] = [
    ['an unknown command', 'GVT_BAD_COMMAND', [0x1f000000]],
    ['a command of a wrong length', 'GVT_BAD_COMMAND', [0x10000001, 0, 0]],
    ['a batch that jumps to itself', LONG, [0x18800101, 0, 0]],
    ['a batch that calls itself for ever', LONG, [0x18c00101, 0, 0]],
    [
      'a blit of nobody',
      'GVT_BLIT_TOO_BIG',
      xyColorBlt({ target: { address: 0, pitch: 0x7fff }, rect: { x1: 0, y1: 0, x2: 0x1fff, y2: 0x7fff }, color: 1 }),
    ],
    ['a wait that nobody ends', 'GVT_ENGINE_HUNG', [0x0e00c002, 5, 0x1000, 0]],
  ];
  for (const [what, name, batch] of hangs) {
    test(`${what} halts the engine: no completion, until GDRST; other engines go on`, () => {
      const guest = new ExeclistGuest();
      const a = guest.context('bcs');
      guest.poke(FRAME.PAGES, 0, batch);
      guest.execute(a, [0x18800101, 0, 0]);
      assert.deepEqual([guest.device.engineError?.name, guest.device.engine], [name, 'halted']);
      assert.deepEqual(guest.csb(BCS), [[0x1, 0]]);
      assert.ok(guest.log.warnings.every((line) => !/emulates nothing/.test(line)));
      const r = guest.context('rcs');
      guest.execute(r, miStoreDword(guest.at(FRAME.DATA), 1));
      assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.device.engine], [1, 'halted']);
      guest.finish();
    });
  }

  test('after GDRST the engine works again', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    guest.poke(FRAME.PAGES, 0, [0x18800101, 0, 0]);
    guest.execute(a, [0x18800101, 0, 0]);
    assert.equal(refusal(() => guest.start(a))?.name, 'GVT_BAD_SUBMISSION');
    guest.write32(0x941c, 1 << BCS.resetBit);
    assert.deepEqual([guest.device.engine, guest.read32(BCS.base + RING.CSB_POINTER) & 7], ['idle', 7]);
    const b = guest.context('bcs');
    guest.execute(b, miStoreDword(guest.at(FRAME.DATA), 3));
    assert.deepEqual([guest.peek(FRAME.DATA, 0), guest.csb(BCS).at(-1)], [3, [0x18, b.id]]);
    guest.finish();
  });

  test('MAX_JOB_DWORDS is a limit of each ring command alone', () => {
    const guest = new ExeclistGuest();
    const a = guest.context('bcs');
    const page = new Array<number>(1023).fill(0);
    for (let at = 0; at < 63; at++) guest.poke(FRAME.PAGES + at, 0, [...page, 0]);
    guest.poke(FRAME.PAGES + 63, 0, miBatchBufferEnd());
    guest.execute(a, ...Array.from({ length: 20 }, () => [0x18800101, 0, 0]), miStoreDword(guest.at(FRAME.DATA), 1));
    assert.ok(20 * 63 * 1024 > MAX_JOB_DWORDS);
    assert.deepEqual([guest.device.engineError, guest.peek(FRAME.DATA, 0)], [undefined, 1]);
    guest.finish();
  });
});
