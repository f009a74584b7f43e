import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  BANK_REGISTER,
  EVENTS,
  type GvtEvent,
  INTERRUPT,
  INTERRUPT_BANKS,
  Interrupts,
  MASTER_ENABLE,
  RegisterFile,
  UPSTREAM,
} from '@pinion/gvt';
import fc from 'fast-check';

const ALL = 0xffffffff;
/** Bit 8 of GT0: the render engine's context switch. */
const SWITCH = 0x100;

/** The tree alone, with a counter of messages. Registers are reached as a guest reaches them. */
class Tree {
  readonly registers = new RegisterFile();
  sent = 0;
  readonly interrupts = new Interrupts(this.registers, () => {
    this.sent += 1;
  });

  constructor() {
    this.interrupts.reset();
  }

  write(offset: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.registers.write(offset, bytes);
  }

  read(offset: number): number {
    const bytes = new Uint8Array(4);
    this.registers.read(offset, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  get master(): number {
    return this.read(INTERRUPT.MASTER);
  }

  /** What the guest sees of a bank: [IMR, IIR, IER]. */
  bank(first: number): readonly number[] {
    return [BANK_REGISTER.IMR, BANK_REGISTER.IIR, BANK_REGISTER.IER].map((register) => this.read(first + register));
  }

  open(first: number): void {
    this.write(first + BANK_REGISTER.IMR, 0);
    this.write(first + BANK_REGISTER.IER, ALL);
  }

  openAll(): void {
    for (const first of Object.values(INTERRUPT_BANKS)) this.open(first);
    this.write(INTERRUPT.MASTER, MASTER_ENABLE);
  }
}

/** The golden beginning: only the render engine's context switch is unmasked and enabled. */
function listening(): Tree {
  const tree = new Tree();
  tree.write(INTERRUPT.IMR, 0xfffffeff);
  tree.write(INTERRUPT.IER, SWITCH);
  tree.write(INTERRUPT.MASTER, MASTER_ENABLE);
  return tree;
}

describe('a context switch of the render engine', () => {
  test('sets its bit, shows in the master register and sends one message', () => {
    const tree = listening();
    tree.interrupts.raise('rcs-context-switch');
    assert.deepEqual([tree.read(INTERRUPT.IIR), tree.master, tree.sent], [SWITCH, 0x80000001, 1]);
  });

  test('master off: no message, the bit is sticky; master on with the bit still set: a message again', () => {
    const tree = listening();
    tree.interrupts.raise('rcs-context-switch');
    tree.write(INTERRUPT.MASTER, 0);
    assert.deepEqual([tree.master, tree.sent], [1, 1]);
    tree.interrupts.raise('rcs-context-switch');
    assert.deepEqual([tree.read(INTERRUPT.IIR), tree.sent], [SWITCH, 1]);
    tree.write(INTERRUPT.MASTER, MASTER_ENABLE);
    assert.deepEqual([tree.master, tree.sent], [0x80000001, 2]);
  });

  test('acknowledged: the master register is empty and nothing is sent', () => {
    const tree = listening();
    tree.interrupts.raise('rcs-context-switch');
    tree.write(INTERRUPT.IIR, SWITCH);
    assert.deepEqual([tree.read(INTERRUPT.IIR), tree.master, tree.sent], [0, MASTER_ENABLE, 1]);
  });

  test('acknowledged in part: what is left shows, and is sent when the master is switched on again', () => {
    const tree = listening();
    tree.open(INTERRUPT_BANKS.gt0);
    tree.interrupts.raise('rcs-context-switch', 'bcs-user');
    assert.deepEqual([tree.master, tree.sent], [0x80000003, 1]);
    tree.write(INTERRUPT.MASTER, 0);
    tree.write(INTERRUPT.IIR, SWITCH);
    assert.deepEqual([tree.master, tree.sent], [2, 1]);
    tree.write(INTERRUPT.MASTER, MASTER_ENABLE);
    assert.deepEqual([tree.master, tree.sent], [0x80000002, 2]);
  });
});

test('a byte that is acknowledged leaves the other bytes alone', () => {
  const tree = listening();
  tree.open(INTERRUPT_BANKS.gt0);
  tree.interrupts.raise('rcs-context-switch', 'rcs-user', 'bcs-user');
  tree.registers.write(INTERRUPT.IIR + 1, Uint8Array.of(SWITCH >>> 8));
  assert.equal(tree.read(INTERRUPT.IIR), 0x10001);
  tree.registers.write(INTERRUPT.IIR, Uint8Array.of(0, 0));
  assert.equal(tree.read(INTERRUPT.IIR), 0x10001);
});

describe('every event', () => {
  const master = (name: GvtEvent): number => {
    const [bank, bit] = EVENTS[name];
    const up = UPSTREAM.filter((row) => row.bank === bank && ((row.bits >>> bit) & 1) === 1);
    assert.equal(up.length, 1, `${name} shows in one place`);
    return 2 ** (up[0]?.master ?? 31);
  };
  /** Written down again: bank, bit, master bit. */
  const table: readonly (readonly [event: GvtEvent, bank: number, bit: number, master: number])[] = [
    ['rcs-user', 0x44300, 0, 0],
    ['rcs-flush', 0x44300, 4, 0],
    ['bcs-user', 0x44300, 16, 1],
    ['bcs-flush', 0x44300, 20, 1],
    ['bcs-context-switch', 0x44300, 24, 1],
    ['vcs-user', 0x44310, 0, 2],
    ['vcs2-context-switch', 0x44310, 24, 3],
    ['vecs-context-switch', 0x44330, 8, 6],
    ['pipe-a-vblank', 0x44400, 0, 16],
    ['pipe-b-primary-flip', 0x44410, 3, 17],
    ['pipe-c-sprite-flip', 0x44420, 4, 18],
    ['aux-a', 0x44440, 0, 20],
    ['hotplug-a', 0x44440, 3, 20],
    ['aux-d', 0x44440, 27, 20],
    ['opregion-gse', 0x44460, 27, 22],
    ['gmbus', 0xc4000, 17, 23],
    ['hotplug-d', 0xc4000, 23, 23],
    ['pcu-mailbox', 0x444e0, 25, 30],
  ];
  for (const [event, bank, bit, up] of table) {
    test(`${event}: bit ${bit} at 0x${bank.toString(16)}, master bit ${up}`, () => {
      const tree = new Tree();
      tree.openAll();
      tree.interrupts.raise(event);
      assert.deepEqual(tree.bank(bank), [0, 2 ** bit, ALL]);
      assert.deepEqual([tree.master, tree.sent], [MASTER_ENABLE + 2 ** up, 1]);
    });
  }

  test('has a place of its own, and one bit of the master register', () => {
    const places = Object.values(EVENTS).map(String);
    assert.equal(new Set(places).size, places.length);
    // why: Object.keys forgets that the keys of a constant table are known
    for (const name of Object.keys(EVENTS) as GvtEvent[]) {
      const tree = new Tree();
      tree.openAll();
      tree.interrupts.raise(name);
      assert.equal(tree.master, MASTER_ENABLE + master(name));
    }
  });

  test('at once with all others sends one message', () => {
    const tree = new Tree();
    tree.openAll();
    // why: as above
    tree.interrupts.raise(...(Object.keys(EVENTS) as GvtEvent[]));
    assert.equal(tree.sent, 1);
    assert.equal(tree.master, MASTER_ENABLE + 0x40d7004f);
  });
});

describe('a guest that does it wrong', () => {
  test('masked by IMR: lost for good', () => {
    const tree = listening();
    tree.interrupts.raise('rcs-user');
    tree.write(INTERRUPT.IMR, 0);
    tree.write(INTERRUPT.IER, ALL);
    assert.deepEqual([tree.read(INTERRUPT.IIR), tree.sent], [0, 0]);
  });

  test('not enabled by IER: pending until it is', () => {
    const tree = listening();
    tree.write(INTERRUPT.IER, 0);
    tree.interrupts.raise('rcs-context-switch');
    assert.deepEqual([tree.read(INTERRUPT.IIR), tree.master, tree.sent], [SWITCH, MASTER_ENABLE, 0]);
    tree.write(INTERRUPT.IER, SWITCH);
    assert.deepEqual([tree.master, tree.sent], [0x80000001, 1]);
    tree.write(INTERRUPT.IER, 0);
    assert.deepEqual([tree.master, tree.sent], [MASTER_ENABLE, 1]);
  });

  test('the master register gives only its enable bit; ISR gives nothing', () => {
    const tree = listening();
    tree.write(INTERRUPT.MASTER, ALL);
    tree.write(INTERRUPT.ISR, ALL);
    assert.deepEqual([tree.master, tree.read(INTERRUPT.ISR), tree.sent], [MASTER_ENABLE, 0, 0]);
  });

  test('reset masks everything and forgets what was pending', () => {
    const tree = new Tree();
    tree.openAll();
    tree.interrupts.raise('gmbus', 'vecs-user');
    tree.interrupts.reset();
    for (const first of Object.values(INTERRUPT_BANKS)) assert.deepEqual(tree.bank(first), [ALL, 0, 0]);
    tree.interrupts.raise('gmbus', 'vecs-user');
    assert.deepEqual([tree.master, tree.sent], [0, 1]);
  });

  test('whatever it writes: the master shows exactly what pends, once it is on', () => {
    const offsets = Object.values(INTERRUPT_BANKS).flatMap((first) =>
      [BANK_REGISTER.IMR, BANK_REGISTER.IIR, BANK_REGISTER.IER].map((register) => first + register),
    );
    // why: as above
    const events = Object.keys(EVENTS) as GvtEvent[];
    const step = fc.oneof(
      fc.record({ offset: fc.constantFrom(INTERRUPT.MASTER, ...offsets), value: fc.nat(ALL) }),
      fc.record({ event: fc.constantFrom(...events) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tree = new Tree();
        tree.openAll();
        for (const one of steps) {
          if ('event' in one) tree.interrupts.raise(one.event);
          else tree.write(one.offset, one.value);
        }
        tree.write(INTERRUPT.MASTER, MASTER_ENABLE);
        const pending = UPSTREAM.filter(({ bank, bits }) => {
          const [, iir = 0, ier = 0] = tree.bank(INTERRUPT_BANKS[bank]);
          return (iir & ier & bits) !== 0;
        });
        const status = pending.reduce((sum, { master }) => sum + 2 ** master, 0);
        assert.equal(tree.master, MASTER_ENABLE + status);
      }),
      { numRuns: 200 },
    );
  });
});
