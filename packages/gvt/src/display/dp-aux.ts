import type { GvtEvent } from '../interrupt-tables.js';
import type { Interrupts } from '../interrupts.js';
import type { RegisterFile } from '../mmio.js';
import { DP_AUX } from './display-regs.js';
import { Dpcd } from './dpcd.js';
import { EDID_SIZE } from './edid.js';
import { MONITOR_PORT, type Monitor } from './monitor.js';

/** Control register. */
const SEND = 0x80000000;
const DONE = 0x40000000;
const INTERRUPT = 0x20000000;
const TIMEOUT = 0x10000000;
const RECEIVE_ERROR = 0x02000000;
const SIZE_SHIFT = 20;
const SIZE_MASK = 0x1f << SIZE_SHIFT;
/** A message and its answer have at most this many bytes; the header of a request takes four, that of an answer one. */
const BURST = 20;
const HEADER = 4;
const MOST = 16;
/** Requests, upper half of the first byte. */
const NATIVE_WRITE = 8;
const NATIVE_READ = 9;
const I2C_READ = 1;
const I2C_MORE = 4;
/** Answers, first byte. */
const ACK = 0x00;
const NATIVE_NACK = 0x10;
const I2C_NACK = 0x40;
const EDID_ADDRESS = 0x50;
const SEGMENT_ADDRESS = 0x30;
const EVENTS: readonly GvtEvent[] = ['aux-a', 'aux-b', 'aux-c', 'aux-d'];

interface Message {
  readonly request: number;
  readonly address: number;
  /** Bytes wanted or given. 0: the message is an address alone. */
  readonly length: number;
  readonly data: Uint8Array;
}

/**
 * The AUX channels of DisplayPort: native reads and writes of the sink's registers, and I2C over AUX to read the EDID. Only the
 * monitor's port answers; on the others, and while nothing is plugged in, every message times out. Bytes lie in the data registers
 * highest first. Source: DisplayPort 1.2, "AUX CH"; i915 gvt edid.c and handlers.c.
 */
export class DpAux {
  readonly #registers: RegisterFile;
  readonly #monitor: Monitor;
  readonly #interrupts: Pick<Interrupts, 'raise'>;
  readonly #sink = new Dpcd();
  #position = 0;

  constructor(registers: RegisterFile, monitor: Monitor, interrupts: Pick<Interrupts, 'raise'>) {
    this.#registers = registers;
    this.#monitor = monitor;
    this.#interrupts = interrupts;
    for (let port = 0; port < DP_AUX.CHANNELS; port++) {
      const control = DP_AUX.CONTROL + port * DP_AUX.STRIDE;
      registers.define(control, { write: (value) => this.#control(port, control, value) });
    }
  }

  reset(): void {
    this.#sink.reset();
    this.#position = 0;
  }

  /** A write without the send bit clears what stands there from before. */
  #control(port: number, control: number, value: number): void {
    if ((value & SEND) === 0) {
      this.#registers.set(control, 0);
      return;
    }
    const answer = this.#answers(port) ? this.#transfer(this.#read(control, value)) : undefined;
    if (answer !== undefined) this.#put(control, answer);
    const rest = value & ~(SEND | TIMEOUT | RECEIVE_ERROR | SIZE_MASK);
    const result = answer === undefined ? TIMEOUT : answer.length << SIZE_SHIFT;
    this.#registers.set(control, rest | DONE | result);
    const event = EVENTS[port];
    if ((value & INTERRUPT) !== 0 && event !== undefined) this.#interrupts.raise(event);
  }

  #answers(port: number): boolean {
    return port === MONITOR_PORT && this.#monitor.connected && this.#monitor.link === 'dp';
  }

  /** The message in the data registers; `value`, of the control register, has its size. */
  #read(control: number, value: number): Message {
    const bytes = new Uint8Array(BURST);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < BURST; at += 4) view.setUint32(at, this.#registers.get(control + 4 + at), false);
    const size = (value & SIZE_MASK) >>> SIZE_SHIFT;
    const first = view.getUint8(0);
    return {
      request: first >>> 4,
      address: ((first & 0xf) << 16) | view.getUint16(1, false),
      length: size === HEADER - 1 ? 0 : view.getUint8(3) + 1,
      data: bytes.subarray(HEADER),
    };
  }

  #put(control: number, answer: Uint8Array): void {
    const bytes = new Uint8Array(BURST);
    bytes.set(answer);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < BURST; at += 4) this.#registers.set(control + 4 + at, view.getUint32(at, false));
  }

  /** @returns the answer; undefined for a message that no sink understands. */
  #transfer(message: Message): Uint8Array | undefined {
    if (message.length > MOST) return undefined;
    if (message.request === NATIVE_READ) return this.#nativeRead(message);
    if (message.request === NATIVE_WRITE) return this.#nativeWrite(message);
    return this.#i2c(message);
  }

  /** Registers that the sink does not have read as zero. */
  #nativeRead({ address, length }: Message): Uint8Array {
    return answer(ACK, this.#sink.holds(address, length) ? this.#sink.read(address, length) : new Uint8Array(length));
  }

  #nativeWrite({ address, length, data }: Message): Uint8Array {
    if (!this.#sink.holds(address, length)) return answer(NATIVE_NACK, Uint8Array.of(0));
    this.#sink.write(address, data.subarray(0, length));
    return answer(ACK);
  }

  /** A write sets the place in the block, a read goes on from there; the end of a transaction keeps it. */
  #i2c({ request, address, length, data }: Message): Uint8Array {
    if (address !== EDID_ADDRESS && address !== SEGMENT_ADDRESS) return answer(I2C_NACK);
    const reads = (request & ~I2C_MORE) === I2C_READ;
    if (address === SEGMENT_ADDRESS || length === 0) return answer(ACK);
    if (!reads) {
      this.#position = data[0] ?? 0;
      return answer(ACK);
    }
    return answer(
      ACK,
      Uint8Array.from({ length }, () => this.#nextByte()),
    );
  }

  #nextByte(): number {
    const byte = this.#position < EDID_SIZE ? this.#monitor.edid[this.#position] : 0;
    this.#position += 1;
    return byte ?? 0;
  }
}

function answer(first: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(1 + data.length);
  bytes[0] = first;
  bytes.set(data, 1);
  return bytes;
}
