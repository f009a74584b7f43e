import type { RegisterFile } from './mmio.js';

/**
 * A register behind which the real device has hardware that a vGPU does not have: it answers at once what a driver waits for. Neither power
 * nor clocks change by it.
 */
export interface HardwareRegister {
  /** Bytes, a multiple of 4. */
  readonly offset: number;
  /** What it answers; what is stored if absent. */
  readonly read?: (registers: RegisterFile) => number;
  /** What a guest's write does; it is stored if absent. */
  readonly write?: (registers: RegisterFile, value: number) => void;
}

const LOW = 0xffff;
const TOP = 0x80000000;

/** Always answers `value`; writes are lost. */
const constant = (offset: number, value: number): HardwareRegister => ({
  offset,
  read: () => value,
  write: () => {},
});

/** What is asked for is done at once, and reads as zero. */
const done = (offset: number): HardwareRegister => ({ offset, write: (registers) => registers.set(offset, 0) });

/** Wakes a part of the device: written with a mask, the answer follows. */
const forcewake = (offset: number, answer: number): HardwareRegister => ({
  offset,
  write: (registers, value) => {
    const mask = value >>> 16;
    const awake = (registers.get(offset) & LOW & ~mask) | (value & mask);
    registers.set(offset, awake);
    registers.set(answer, awake);
  },
});

/** Each request bit is granted: the bit below it says so. Other bits are zero. */
const granted = (offset: number, requests: number): HardwareRegister => ({
  offset,
  write: (registers, value) => registers.set(offset, (value & requests) | ((value & requests) >>> 1)),
});

const POWER_WELLS = 0xa00002aa;
const DBUF = 0x45008;
const PLLS = [0x46010, 0x46014, 0x46040, 0x46060];

const bufferPower: HardwareRegister = {
  offset: DBUF,
  write: (registers, value) => registers.set(DBUF, (value & ~(TOP >>> 1)) | ((value & TOP) >>> 1)),
};

/** A PLL is locked as soon as it is on: bits 0, 8, 16 and 24. */
const pllStatus: HardwareRegister = {
  offset: 0x6c060,
  read: (registers) =>
    PLLS.reduce((status, pll, at) => status | ((registers.get(pll) & TOP) === 0 ? 0 : 1 << (8 * at)), 0) >>> 0,
  write: () => {},
};

const MAILBOX = { offset: 0x138124, data: 0x138128 };
const MAILBOX_READY = TOP;
const COMMAND = { RC6_VIDS: 5, MEMORY_LATENCY: 6, CDCLK: 7, SAGV: 0x21 };
/** Microseconds of the levels 0 to 3 and 4 to 7, of a Skylake. */
const LATENCY = [0x1e1a1100, 0x61514b3d] as const;
const CDCLK_READY = 1;
/** The agent that changes the memory's clock is off. */
const SAGV_OFF = 1;

/** The power controller's mailbox: every command succeeds at once. */
const mailbox: HardwareRegister = {
  offset: MAILBOX.offset,
  write: (registers, value) => {
    const asked = registers.get(MAILBOX.data);
    const command = value & 0xff;
    if (command === COMMAND.MEMORY_LATENCY) registers.set(MAILBOX.data, asked === 0 ? LATENCY[0] : LATENCY[1]);
    else if (command === COMMAND.CDCLK) registers.set(MAILBOX.data, CDCLK_READY);
    else if (command === COMMAND.SAGV) registers.set(MAILBOX.data, SAGV_OFF);
    else if (command === COMMAND.RC6_VIDS) registers.set(MAILBOX.data, asked | 1);
    registers.set(MAILBOX.offset, value & ~(MAILBOX_READY | 0xff));
  },
};

const BUFFER_IDLE = 0x80;
const IDLE_PATTERN = 2;
const IDLE_DONE = 1 << 25;
const STICKY = 3 << 26;

/** A display port's buffer is idle when it is off; its link's idle pattern is sent at once. */
function port(at: number): readonly HardwareRegister[] {
  const [buffer, control, status] = [0x64000 + at * 0x100, 0x64040 + at * 0x100, 0x64044 + at * 0x100];
  return [
    {
      offset: buffer,
      write: (registers, value) =>
        registers.set(buffer, (value & TOP) === 0 ? value | BUFFER_IDLE : value & ~BUFFER_IDLE),
    },
    {
      offset: control,
      write: (registers, value) => {
        registers.set(control, value);
        if (((value >>> 8) & 7) === IDLE_PATTERN) registers.set(status, registers.get(status) | IDLE_DONE);
      },
    },
    { offset: status, write: (registers, value) => registers.set(status, registers.get(status) & ~(value & STICKY)) },
  ];
}

const PANEL = { status: 0xc7200, control: 0xc7204 };
const PANEL_ON = 0x80000008;

/** A panel's power follows its request. */
const panelPower: HardwareRegister = {
  offset: PANEL.control,
  write: (registers, value) => {
    registers.set(PANEL.control, value);
    registers.set(PANEL.status, (value & 1) === 0 ? 0 : PANEL_ON);
  },
};

/** What a driver of generation 9 asks and waits for when it starts. Source: i915 gvt handlers.c; Intel PRM (Skylake). */
export const GEN9_HARDWARE: readonly HardwareRegister[] = Object.freeze([
  forcewake(0xa278, 0x0d84),
  forcewake(0xa188, 0x130044),
  forcewake(0xa270, 0x0d88),
  /** Free entries of the posted write FIFO. */
  constant(0x120008, 0x3f),
  /** TLBs of the engines; unclaimed accesses. */
  ...[0x4260, 0x4264, 0x4268, 0x426c, 0x4270, 0x42300].map(done),
  /** One slice of three subslices, all execution units. */
  constant(0x9120, 0x02800000),
  /** Panel self refresh never interrupts. */
  constant(0x64838, 0),
  /** The microcontroller is in reset. */
  constant(0xc000, 1),
  /** 350 to 1150 MHz in steps of 50. */
  constant(0x145998, 0x00070717),
  mailbox,
  /** Fuses of the power gates are read. */
  constant(0x42000, 0x8e000000),
  granted(0x45400, POWER_WELLS),
  granted(0x45404, POWER_WELLS),
  bufferPower,
  granted(0x46010, TOP),
  granted(0x46014, TOP),
  pllStatus,
  panelPower,
  ...[0, 1, 2, 3, 4].flatMap(port),
]);

/** Gives a vGPU these registers. */
export function defineHardware(registers: RegisterFile, hardware: readonly HardwareRegister[] = GEN9_HARDWARE): void {
  for (const { offset, read, write } of hardware) {
    registers.define(offset, {
      ...(read === undefined ? {} : { read: () => read(registers) }),
      ...(write === undefined ? {} : { write: (value: number) => write(registers, value) }),
    });
  }
}
