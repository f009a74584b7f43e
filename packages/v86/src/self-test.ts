import { hex, type Log } from '@pinion/core';
import { dwordBar, type Identity, msi, PciDevice } from '@pinion/pci';
import type { BusFunction } from './bus-function.js';
import type { CpuFactory, X86Cpu } from './cpu.js';
import { v86Errors } from './errors.js';
import { readGuest } from './guests.js';
import { X86Machine } from './machine.js';

const RAM_BYTES = 2 << 20;
/** Where `guest/self-test.S` leaves what it found, as dwords: ours, its complement, PCI identity, a register of the device. */
const MAILBOX = 0x18_0000;
const OURS = 0x5ca1_ab1e;
const IDENTITY: Identity = { vendor: 0x1de5, device: 0x5e1f, classCode: 0xff0000, interruptPin: 'A' };
const IDENTITY_DWORD = ((IDENTITY.device << 16) | IDENTITY.vendor) >>> 0;
const REGISTER = { CONSTANT: 0x00, WRITTEN: 0x04, RAISE: 0x10, ACKNOWLEDGE: 0x14 } as const;
const CONSTANT = 0x0bad_cafe;
const EXIT_CODE = 0x55;
/** The program needs a handful of slices; whatever does not come within these never will. */
const MOST_TURNS = 64;

/** The device that the program drives: raises its pin, or sends a message, when told to. */
class Probe implements BusFunction {
  readonly name = 'self-test';
  readonly #device: PciDevice;
  readonly #ops: ReturnType<PciDevice['ops']>;
  written = 0;
  /** The register that raises, as it was written, and whether the pin was acknowledged. */
  readonly seen: string[] = [];

  constructor() {
    const registers = {
      read: (at: number) => this.#read(at),
      write: (at: number, value: number) => this.#write(at, value),
    };
    this.#device = new PciDevice({
      name: this.name,
      identity: IDENTITY,
      bars: [{ index: 0, kind: 'memory32', size: 4096, handler: dwordBar(registers) }],
      capabilities: [msi()],
    });
    this.#ops = this.#device.ops();
  }

  get regions(): BusFunction['regions'] {
    return this.#ops.regions ?? [];
  }

  read(region: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#ops.readRegion(region, offset, bytes);
    return bytes;
  }

  write(region: number, offset: number, bytes: Uint8Array): void {
    this.#ops.writeRegion(region, offset, bytes);
  }

  deliverTo(receive: Parameters<BusFunction['deliverTo']>[0]): void {
    this.#ops.setIrqSink((index, vector) => receive({ index, vector }));
  }

  #read(at: number): number {
    if (at === REGISTER.ACKNOWLEDGE) this.#device.setIntx(false);
    return at === REGISTER.CONSTANT ? CONSTANT : 0;
  }

  #write(at: number, value: number): void {
    if (at === REGISTER.WRITTEN) this.written = value;
    if (at === REGISTER.RAISE && !this.#device.signal(0)) this.#device.setIntx(true);
  }
}

const done = new WeakMap<CpuFactory, Promise<void>>();

/**
 * Proves that a CPU does what this package relies on: it executes, its memory is where we think, a PCI device appears with its
 * registers, and interrupts arrive by the pin and by messages. Once for each factory in a process; again after a failure.
 * @throws V86_SELF_TEST (EIO) naming the step, and what the factory throws.
 */
export function selfTest(createCpu: CpuFactory, log: Log): Promise<void> {
  const before = done.get(createCpu);
  if (before !== undefined) return before;
  const running = runSelfTest(createCpu, log);
  done.set(createCpu, running);
  running.catch(() => done.delete(createCpu));
  return running;
}

/** The self-test itself, each time it is called. */
export async function runSelfTest(createCpu: CpuFactory, log: Log): Promise<void> {
  const image = await readGuest('self-test');
  let cpu: X86Cpu | undefined;
  const watched: CpuFactory = async (options) => {
    cpu = await createCpu(options);
    return cpu;
  };
  const machine = await X86Machine.create({ name: 'self-test', ramBytes: RAM_BYTES, image, log }, watched);
  if (cpu === undefined) throw v86Errors.NOT_STARTED({ why: 'no CPU was made' });
  try {
    await observe(machine, cpu);
  } finally {
    machine.stop();
    cpu.forget();
  }
}

async function observe(machine: X86Machine, cpu: X86Cpu): Promise<void> {
  const probe = new Probe();
  machine.pci.plug(probe);
  expect('memory has its size', hex(RAM_BYTES), hex(cpu.ram.length));
  const mailbox = (index: number): number => dwordOf(cpu.ram, MAILBOX + index * 4);
  viewOf(cpu.ram).setUint32(MAILBOX, OURS, true);
  const end = await ended(machine);
  const letters = machine.serial.output;
  expect('the CPU executes', true, letters.startsWith('C'));
  expect('memory is where we think', hex(~OURS >>> 0), hex(mailbox(1)));
  expect('a PCI device appears', hex(IDENTITY_DWORD), hex(mailbox(2)));
  expect('its registers can be read', hex(CONSTANT), hex(mailbox(3)));
  expect('its registers can be written', hex(~CONSTANT >>> 0), hex(probe.written));
  expect('an interrupt arrives by the pin', true, letters.startsWith('CRPI'));
  expect('an interrupt arrives by a message', 'CRPIM', letters);
  expect('the guest ends the machine', `exit ${EXIT_CODE}`, end);
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const dwordOf = (bytes: Uint8Array, at: number): number =>
  at + 4 <= bytes.length ? viewOf(bytes).getUint32(at, true) : Number.NaN;

function expect(step: string, expected: unknown, found: unknown): void {
  if (expected !== found) throw v86Errors.SELF_TEST({ step, expected: String(expected), found: String(found) });
}

/** How the program ended, in words; a CPU that waits for ever or never stops is given up. */
async function ended(machine: X86Machine): Promise<string> {
  let end: string | undefined;
  machine.run().then(
    (how) => {
      end = how.kind === 'exit' ? `exit ${how.code}` : 'halt';
    },
    (cause: unknown) => {
      end = String(cause);
    },
  );
  for (let turns = 0; end === undefined && turns < MOST_TURNS; turns += 1)
    await new Promise((resolve) => void setImmediate(resolve));
  return end ?? 'no end';
}
