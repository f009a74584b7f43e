import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  BCS,
  BCS_ERROR_INTERRUPT,
  BCS_FLUSH_NOTIFY,
  BCS_USER_INTERRUPT,
  CONFIG,
  EIR_INSTRUCTION,
  FAULT,
  GDRST,
  GDRST_BCS,
  INTERRUPT,
  IRQ,
  MASTER_BCS,
  MASTER_ENABLE,
  MAX_JOB_DWORDS,
  miBatchBufferEnd,
  miBatchBufferStart,
  miFlushStore,
  miNoop,
  miStoreDword,
  miUserInterrupt,
  REGION,
  xyColorBlt,
} from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
/** Guest frames: the ring, data, and two batches. */
const [RING, DATA, BATCH, SECOND] = [0, 10, 20, 30];

/** Ring and pages at the start of the low slice, frame n at page n. */
function start(ringPages = 1): FakeGuest {
  const guest = new FakeGuest();
  guest.mapPages(guest.low.base, 0, 40);
  guest.startRing(guest.low.base, RING, ringPages);
  return guest;
}

/** A guest that listens: MSI and the blitter's interrupts on. */
function listening(): FakeGuest {
  const guest = start();
  guest.write32(CONFIG.MSI, 0x0001_0005, REGION.CONFIG);
  guest.write32(INTERRUPT.IMR, ~(BCS_USER_INTERRUPT | BCS_FLUSH_NOTIFY));
  guest.write32(INTERRUPT.IER, BCS_USER_INTERRUPT | BCS_FLUSH_NOTIFY);
  guest.write32(INTERRUPT.MASTER, MASTER_ENABLE);
  return guest;
}

const at = (guest: FakeGuest, frame: number, offset = 0): number => guest.low.base + frame * PAGE + offset;
const data = (guest: FakeGuest, dword: number): number => guest.peek(DATA, dword * 4);
const MSI: readonly (readonly [number, number])[] = [[IRQ.MSI, 0]];

describe('a ring', () => {
  test('runs what lies between head and tail, later, and moves its head', () => {
    const guest = start();
    guest.submit(miStoreDword(at(guest, DATA), 0xdeadbeef), miNoop());
    assert.deepEqual([guest.device.engine, data(guest, 0), guest.read32(BCS.HEAD)], ['running', 0, 0]);
    guest.clock.drain();
    assert.deepEqual([guest.device.engine, data(guest, 0), guest.read32(BCS.HEAD)], ['idle', 0xdeadbeef, 24]);
    guest.finish();
  });

  test('does nothing while it is disabled, and starts when it is enabled', () => {
    const guest = start();
    guest.write32(BCS.CTL, 0);
    guest.run(miStoreDword(at(guest, DATA), 1));
    assert.deepEqual([guest.device.engine, data(guest, 0)], ['idle', 0]);
    guest.write32(BCS.CTL, 1);
    guest.clock.drain();
    assert.equal(data(guest, 0), 1);
    guest.finish();
  });

  test('wraps, also inside a command, and counts it', () => {
    const guest = start();
    for (let round = 0; round < 400; round++)
      guest.run(miStoreDword(at(guest, DATA, round * 4), round), miNoop(), miNoop());
    for (let round = 0; round < 400; round++) assert.equal(data(guest, round), round);
    const bytes = 400 * 24;
    assert.equal(guest.read32(BCS.HEAD), (Math.floor(bytes / PAGE) << 21) | (bytes % PAGE));
    guest.finish();
  });

  test('of two pages uses both', () => {
    const guest = start(2);
    for (let round = 0; round < 300; round++)
      guest.run(miStoreDword(at(guest, DATA, round * 4), round + 1), miNoop(), miNoop());
    assert.deepEqual([data(guest, 299), guest.read32(BCS.HEAD)], [300, 300 * 24]);
    guest.finish();
  });

  test('sees a tail that moves while it runs', () => {
    const guest = listening();
    guest.device.setIrqSink(() => {
      guest.device.setIrqSink(undefined);
      guest.submit(miStoreDword(at(guest, DATA, 4), 2));
    });
    guest.run(miStoreDword(at(guest, DATA), 1), miUserInterrupt());
    assert.deepEqual([data(guest, 0), data(guest, 1), guest.device.engine], [1, 2, 'idle']);
    guest.finish();
  });
});

describe('stores', () => {
  test('qword store, flush with dword, flush with qword', () => {
    const guest = start();
    guest.run(
      [0x10600003, at(guest, DATA), 0, 1, 2],
      miFlushStore(at(guest, DATA, 8), 3),
      [0x13004003, at(guest, DATA, 16) | 4, 0, 4, 5],
      [0x13000002, at(guest, DATA, 24) | 4, 0, 6], // no post-sync operation: nothing is written
    );
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 6].map((dword) => data(guest, dword)),
      [1, 2, 3, 0, 4, 5, 0],
    );
    guest.finish();
  });

  test('a flush can store into the hardware status page, and a time stamp', () => {
    const guest = start();
    guest.write32(BCS.HWS_PGA, at(guest, DATA));
    guest.run([0x13204002, 0x80, 0, 7], [0x1320c002, 0x88, 0, 0]);
    assert.deepEqual([data(guest, 0x20), data(guest, 0x22), data(guest, 0x23)], [7, 12_000, 0]);
    guest.finish();
  });
});

describe('batches', () => {
  test('of the first level, and one of the second that comes back', () => {
    const guest = start();
    const inner = [miStoreDword(at(guest, DATA), 2), miBatchBufferEnd()].flat();
    const outer = [
      miBatchBufferStart(at(guest, SECOND), true),
      miStoreDword(at(guest, DATA, 4), 3),
      miBatchBufferEnd(),
    ];
    guest.poke(SECOND, 0, inner);
    guest.poke(BATCH, 0, outer.flat());
    guest.run(miBatchBufferStart(at(guest, BATCH)), miStoreDword(at(guest, DATA, 8), 4));
    assert.deepEqual(
      [0, 1, 2].map((dword) => data(guest, dword)),
      [2, 3, 4],
    );
    guest.finish();
  });

  test('a jump does not come back', () => {
    const guest = start();
    guest.poke(BATCH, 0, [miBatchBufferStart(at(guest, SECOND)), miStoreDword(at(guest, DATA), 1)].flat());
    guest.poke(SECOND, 0, miBatchBufferEnd());
    guest.run(miBatchBufferStart(at(guest, BATCH)), miStoreDword(at(guest, DATA, 4), 1));
    assert.deepEqual([data(guest, 0), data(guest, 1)], [0, 1]);
    guest.finish();
  });

  test('the bit for per-process addresses makes no difference: there is no such table', () => {
    const guest = start();
    guest.poke(BATCH, 0, [[0x10000002, at(guest, DATA), 0, 9], miBatchBufferEnd()].flat());
    guest.run([0x18800101, at(guest, BATCH), 0]);
    assert.equal(data(guest, 0), 9);
    guest.finish();
  });
});

type Prepare = (guest: FakeGuest) => readonly (readonly number[])[];
const rect = { x1: 0, y1: 0, x2: 4, y2: 4 };

/** The colour blit with another header or second dword. */
const spoiled = (guest: FakeGuest, change: Partial<Record<number, number>>): number[] =>
  xyColorBlt({ target: { address: at(guest, DATA), pitch: 16 }, rect, color: 1 }).map(
    (dword, index) => change[index] ?? dword,
  );

describe('refused commands halt the engine', () => {
  const table: readonly (readonly [what: string, error: string, errno: string, commands: Prepare])[] = [
    ['unknown MI opcode', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x1f000000, 0]]],
    ['LOAD_REGISTER_IMM', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x11000001, BCS.CTL, 0]]],
    ['unknown blitter opcode', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x5fc00000, 0]]],
    ['3D command', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0x7a000004, 0, 0, 0, 0, 0]]],
    ['client 7', 'GVT_BAD_COMMAND', 'EBADRQC', () => [[0xffffffff]]],
    ['batch end in the ring', 'GVT_BAD_COMMAND', 'EBADRQC', () => [miBatchBufferEnd()]],
    ['colour blit of 6 dwords', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [spoiled(g, { 0: 0x54300004 }).slice(0, 6)]],
    ['colour blit of 8 dwords', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [[...spoiled(g, { 0: 0x54300006 }), 0]]],
    ['colour blit that needs a source', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [spoiled(g, { 1: 0x03cc0010 })]],
    [
      'tiled blit with half a tile of pitch',
      'GVT_BAD_COMMAND',
      'EBADRQC',
      (g) => [spoiled(g, { 0: 0x54300805, 1: 0x03f00040 })],
    ],
    [
      'tiled blit inside a page',
      'GVT_BAD_COMMAND',
      'EBADRQC',
      (g) => [spoiled(g, { 0: 0x54300805, 1: 0x03f00080, 4: 16 })],
    ],
    ['store of 3 dwords', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [[0x10400001, at(g, DATA), 0]]],
    ['flush with reserved post-sync', 'GVT_BAD_COMMAND', 'EBADRQC', (g) => [[0x13008002, at(g, DATA), 0, 0]]],
    ['store below the slice', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miStoreDword(g.low.base - 4, 1)]],
    ['store above the slice', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miStoreDword(g.low.base + g.low.size, 1)]],
    ['store to another vGPU', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [miStoreDword(g.high.base + g.high.size, 1)]],
    ['store above 4 GB', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [[0x10400002, at(g, DATA), 1, 1]]],
    ['qword over the end', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [[0x10600003, g.low.base + g.low.size - 4, 0, 1, 2]]],
    ['flush to address 0', 'GVT_BAD_ADDRESS', 'EFAULT', () => [miFlushStore(0, 1)]],
    ['batch elsewhere', 'GVT_BAD_ADDRESS', 'EFAULT', () => [miBatchBufferStart(0x1000)]],
    ['blit elsewhere', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [spoiled(g, { 4: 0 })]],
    ['blit over the end', 'GVT_BAD_ADDRESS', 'EFAULT', (g) => [spoiled(g, { 4: g.low.base + g.low.size - 16 })]],
    ['blit of more than 36 MB', 'GVT_BLIT_TOO_BIG', 'EFAULT', (g) => [spoiled(g, { 1: 0x03f07fff, 3: 0x7fff1fff })]],
    ['many rows on one place', 'GVT_BLIT_TOO_BIG', 'EFAULT', (g) => [spoiled(g, { 1: 0x03f00000, 3: 0x7fff0400 })]],
    ['three levels', 'GVT_BATCH_TOO_DEEP', 'EFAULT', (g) => nested(g)],
    ['a batch that jumps to itself', 'GVT_JOB_TOO_LONG', 'E2BIG', (g) => looping(g)],
  ];
  for (const [what, name, errno, commands] of table) {
    test(what, () => {
      const guest = start();
      guest.write32(BCS.TAIL, 0);
      guest.run(
        miStoreDword(at(guest, DATA, 64), 1),
        miNoop(),
        ...commands(guest),
        miStoreDword(at(guest, DATA, 68), 2),
      );
      assert.deepEqual([guest.device.engineError?.name, guest.device.engineError?.errno], [name, errno]);
      assert.deepEqual([guest.device.engine, data(guest, 16), data(guest, 17)], ['halted', 1, 0]);
      assert.deepEqual([guest.read32(BCS.HEAD) & 0xffff, guest.read32(BCS.EIR)], [20, EIR_INSTRUCTION]);
      assert.equal(guest.device.stats.faults, 0);
      guest.finish();
    });
  }

  function nested(guest: FakeGuest): number[][] {
    guest.poke(BATCH, 0, miBatchBufferStart(at(guest, SECOND), true));
    guest.poke(SECOND, 0, miBatchBufferStart(at(guest, SECOND, 64), true));
    guest.poke(SECOND, 64, miBatchBufferEnd());
    return [miBatchBufferStart(at(guest, BATCH))];
  }

  function looping(guest: FakeGuest): number[][] {
    guest.poke(BATCH, 0, miBatchBufferStart(at(guest, BATCH)));
    return [miBatchBufferStart(at(guest, BATCH))];
  }

  test('command cut off by the tail', () => {
    const guest = start();
    guest.run([0x10400002, at(guest, DATA)]);
    assert.equal(guest.device.engineError?.name, 'GVT_BAD_COMMAND');
    guest.finish();
  });

  const rings: readonly (readonly [what: string, (guest: FakeGuest) => readonly [register: number, value: number]])[] =
    [
      ['start below the slice', (g) => [BCS.START, g.low.base - PAGE]],
      ['end above the slice', (g) => [BCS.START, g.low.base + g.low.size]],
      ['more pages than the slice has left', (g) => [BCS.START, g.high.base + g.high.size]],
      ['a tail beyond its size', () => [BCS.TAIL, PAGE + 8]],
      ['a head beyond its size', () => [BCS.HEAD, PAGE + 8]],
    ];
  for (const [what, register] of rings) {
    test(`ring with ${what}`, () => {
      const guest = start();
      guest.submit(miNoop(), miNoop());
      guest.write32(...register(guest));
      guest.clock.drain();
      assert.match(guest.device.engineError?.toString() ?? '', /^GVT_BAD_RING \(EINVAL\)/);
      guest.finish();
    });
  }

  test('IPEHR and ACTHD name the command; only a reset brings the engine back', () => {
    const guest = start();
    guest.run(miNoop(), miNoop(), [0x1f000000, 0]);
    assert.deepEqual([guest.read32(BCS.IPEHR), guest.read32(BCS.ACTHD)], [0x1f000000, at(guest, RING, 8)]);
    guest.run(miStoreDword(at(guest, DATA), 1));
    assert.deepEqual([guest.device.engine, data(guest, 0), guest.clock.waiting], ['halted', 0, 0]);
    guest.write32(GDRST, GDRST_BCS);
    assert.deepEqual([guest.read32(GDRST), guest.read32(BCS.TAIL), guest.device.engine], [0, 0, 'idle']);
    guest.startRing(guest.low.base, RING);
    guest.run(miStoreDword(at(guest, DATA), 1));
    assert.deepEqual([guest.device.engine, data(guest, 0)], ['idle', 1]);
    guest.finish();
  });

  test('a guest that listens hears of it, and may reset the engine at once', () => {
    const guest = listening();
    guest.write32(INTERRUPT.IMR, 0);
    guest.write32(INTERRUPT.IER, BCS_ERROR_INTERRUPT);
    guest.device.setIrqSink(() => {
      assert.deepEqual([guest.read32(BCS.EIR), guest.read32(INTERRUPT.IIR)], [EIR_INSTRUCTION, BCS_ERROR_INTERRUPT]);
      guest.write32(GDRST, GDRST_BCS);
      guest.startRing(guest.low.base, RING);
      guest.submit(miStoreDword(at(guest, DATA), 1));
    });
    guest.run([0x1f000000, 0]);
    assert.deepEqual([guest.device.engine, guest.device.engineError, data(guest, 0)], ['idle', undefined, 1]);
    guest.finish();
  });

  test('a batch may be as long as the limit allows', () => {
    const guest = start();
    guest.poke(BATCH, PAGE - 12, miBatchBufferStart(at(guest, BATCH)));
    guest.submit(miBatchBufferStart(at(guest, BATCH)));
    guest.firstSlice();
    guest.clock.step();
    assert.equal(guest.device.engine, 'running');
    guest.poke(BATCH, 0, miBatchBufferEnd());
    guest.clock.drain();
    assert.equal(guest.device.engine, 'idle');
    assert.ok(MAX_JOB_DWORDS > 1024);
    guest.finish();
  });
});

describe('interrupts', () => {
  test('a user interrupt is one MSI, after the store before it and with the head behind it', () => {
    const guest = listening();
    const seen: number[] = [];
    guest.device.setIrqSink((index, vector) => seen.push(index, vector, data(guest, 0), guest.read32(BCS.HEAD)));
    guest.run(miFlushStore(at(guest, DATA), 5), miUserInterrupt());
    assert.deepEqual(seen, [IRQ.MSI, 0, 5, 20]);
    assert.deepEqual(
      [guest.read32(INTERRUPT.IIR), guest.read32(INTERRUPT.MASTER)],
      [BCS_USER_INTERRUPT, (MASTER_ENABLE | MASTER_BCS) >>> 0],
    );
    guest.finish();
  });

  test('a flush notifies on its own bit', () => {
    const guest = listening();
    guest.run([0x13000102, 0, 0, 0]);
    assert.deepEqual([guest.irqs, guest.read32(INTERRUPT.IIR)], [MSI, BCS_FLUSH_NOTIFY]);
    guest.finish();
  });

  test('a batch raises where it stands', () => {
    const guest = listening();
    const order: number[] = [];
    guest.device.setIrqSink(() => order.push(data(guest, 0)));
    guest.poke(BATCH, 0, [miUserInterrupt(), miStoreDword(at(guest, DATA), 1), miBatchBufferEnd()].flat());
    guest.run(miBatchBufferStart(at(guest, BATCH)), miUserInterrupt());
    assert.deepEqual(order, [0, 1]);
    guest.finish();
  });

  test('master off: sticky; on again: sent; acknowledged: gone', () => {
    const guest = listening();
    guest.write32(INTERRUPT.MASTER, 0);
    guest.run(miUserInterrupt());
    assert.deepEqual([guest.irqs, guest.read32(INTERRUPT.IIR)], [[], BCS_USER_INTERRUPT]);
    guest.write32(INTERRUPT.MASTER, MASTER_ENABLE);
    assert.deepEqual([guest.irqs, guest.read32(INTERRUPT.MASTER)], [MSI, (MASTER_ENABLE | MASTER_BCS) >>> 0]);
    guest.write32(INTERRUPT.IIR, BCS_USER_INTERRUPT);
    assert.deepEqual([guest.irqs, guest.read32(INTERRUPT.MASTER)], [MSI, MASTER_ENABLE]);
    guest.finish();
  });

  test('masked by IMR: lost; not enabled by IER: pending until it is', () => {
    const guest = listening();
    guest.write32(INTERRUPT.IMR, 0xffffffff);
    guest.run(miUserInterrupt());
    assert.deepEqual([guest.irqs, guest.read32(INTERRUPT.IIR)], [[], 0]);
    guest.write32(INTERRUPT.IMR, 0);
    guest.write32(INTERRUPT.IER, 0);
    guest.run(miUserInterrupt());
    assert.deepEqual([guest.irqs, guest.read32(INTERRUPT.IIR)], [[], BCS_USER_INTERRUPT]);
    guest.write32(INTERRUPT.IER, BCS_USER_INTERRUPT);
    assert.deepEqual(guest.irqs, MSI);
    guest.finish();
  });

  const controls: readonly (readonly [control: number, sent: boolean, warned: boolean])[] = [
    [0x0000, false, false],
    [0x0001, true, false],
    [0x0011, false, true],
    [0x0071, false, true],
  ];
  for (const [control, sent, warned] of controls) {
    test(`MSI control 0x${control.toString(16)}: ${sent ? 'sent' : 'not sent'}`, () => {
      const guest = listening();
      guest.write32(CONFIG.MSI, control << 16, REGION.CONFIG);
      guest.run(miUserInterrupt());
      assert.deepEqual([guest.irqs.length === 1, guest.log.warnings.length === 1], [sent, warned]);
      guest.finish();
    });
  }

  test('a listener that throws is reported and the engine goes on', () => {
    const guest = listening();
    guest.device.setIrqSink(() => assert.fail('from the listener'));
    guest.run(miUserInterrupt(), miStoreDword(at(guest, DATA), 1));
    assert.deepEqual([data(guest, 0), guest.device.engine], [1, 'idle']);
    assert.match(guest.log.warnings.join(), /listener of its MSI threw/);
    guest.finish();
  });

  test('a guest that resets the device from its interrupt handler sees nothing executed afterwards', () => {
    const guest = listening();
    guest.device.setIrqSink(() => guest.device.reset());
    guest.run(miUserInterrupt(), miStoreDword(at(guest, DATA), 1), miNoop());
    assert.deepEqual([data(guest, 0), guest.device.engine, guest.pins.pages], [0, 'idle', 0]);
    guest.finish();
  });
});

describe('pages with nothing behind them', () => {
  test('writes vanish, reads are zero, and the first fault is latched', () => {
    const guest = start();
    const hole = at(guest, 50, 16);
    guest.run(miStoreDword(hole, 1), miStoreDword(at(guest, 60), 1));
    assert.deepEqual(guest.device.faults, [
      { source: 'bcs', address: hole, write: true, table: 'ggtt', level: 1 },
      { source: 'bcs', address: at(guest, 60), write: true, table: 'ggtt', level: 1 },
    ]);
    assert.deepEqual(
      [guest.read32(FAULT.REG), guest.read32(FAULT.DATA0), guest.read32(FAULT.DATA1)],
      [0x2001, hole >>> 12, 0x10],
    );
    guest.write32(FAULT.REG, 0);
    guest.run(miStoreDword(at(guest, 60), 1));
    assert.equal(guest.read32(FAULT.DATA0), at(guest, 60) >>> 12);
    guest.finish();
  });

  test('a batch there is no-operations until the limit', () => {
    const guest = start();
    guest.run(miBatchBufferStart(at(guest, 50)));
    assert.equal(guest.device.engineError?.name, 'GVT_JOB_TOO_LONG');
    assert.equal(guest.device.faults.length, 64);
    assert.equal(guest.device.stats.faults, MAX_JOB_DWORDS - 2);
    guest.finish();
  });
});
