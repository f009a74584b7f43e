import type { RegisterFile } from '../mmio.js';

/** The first of the pin registers, and how many there are. */
const FIRST = 0xc5010;
const COUNT = 6;
/** Bits of a line in its register: the clock's; the data line's are 8 above. */
const LINE = { DIRECTION_MASK: 1, OUT: 2, VALUE_MASK: 4, VALUE: 8, IN: 16, PULL_UP_OFF: 32 } as const;
const CLOCK = 0;
const DATA = 8;
const INPUTS = (LINE.IN << CLOCK) | (LINE.IN << DATA);

/**
 * The pins behind the I2C controller, for a driver that moves them by itself when the controller has kept it waiting: two open lines each,
 * pulled up, with nobody at the other end. A line that the driver does not pull down reads high, so an address gets no answer.
 * Source: Intel PRM, "GPIO control registers".
 */
export function defineDdcPins(registers: RegisterFile): void {
  for (let pin = 0; pin < COUNT; pin++) {
    const offset = FIRST + pin * 4;
    registers.define(offset, {
      read: () => {
        const stored = registers.get(offset);
        return (stored & ~INPUTS) | inputOf(stored, CLOCK) | inputOf(stored, DATA);
      },
      write: (value) => {
        const stored = registers.get(offset);
        registers.set(offset, lineAfter(stored, value, CLOCK) | lineAfter(stored, value, DATA));
      },
    });
  }
}

/** What a line reads: low only where the driver drives it low. */
const inputOf = (stored: number, line: number): number => {
  const bits = stored >>> line;
  return (bits & LINE.OUT) !== 0 && (bits & LINE.VALUE) === 0 ? 0 : LINE.IN << line;
};

/** A line's bits after a write: direction and value change only with their mask bits, which read as zero. */
function lineAfter(stored: number, written: number, line: number): number {
  const [old, value] = [stored >>> line, written >>> line];
  const out = ((value & LINE.DIRECTION_MASK) === 0 ? old : value) & LINE.OUT;
  const level = ((value & LINE.VALUE_MASK) === 0 ? old : value) & LINE.VALUE;
  return (out | level | (value & LINE.PULL_UP_OFF)) << line;
}
