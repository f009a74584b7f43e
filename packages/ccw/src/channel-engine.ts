import type { Log } from '@pinion/core';
import type { ChannelProgram, Position, PreparedCcw } from './channel-program.js';
import { ChannelTransfer } from './channel-transfer.js';
import type { ControlUnit } from './control-unit.js';
import { CCW_FLAG, CCW_SIZE, CHANNEL_STATUS, DEVICE_STATUS, type Irb, isTic, ORB, SCSW } from './wire.js';

/**
 * CCWs that one program may execute. Real channels loop until somebody clears them; here a guest must not be able to
 * keep the process busy, so that a program that goes on longer ends with a program check. A program without loops has
 * at most as many.
 */
export const STEPS_MAX = 65_536;

/** What ends a chain whatever its flags say. */
const ENDS_CHAIN =
  DEVICE_STATUS.ATTENTION | DEVICE_STATUS.BUSY | DEVICE_STATUS.UNIT_CHECK | DEVICE_STATUS.UNIT_EXCEPTION;
const INVALID_ADDRESS = 0x8000_0000;

/** `pending`: nothing of the program ran; `suspended`: it waits for a resume. In neither does anybody touch its pages. */
export type EnginePhase = 'pending' | 'active' | 'suspended';

/** How a program ended; after a `cancelled` one only the address and the count of its IRB mean something. */
export interface ProgramEnd {
  readonly cancelled: boolean;
  readonly irb: Irb;
}

/** `intermediate`: receives the interruptions that a program asks for with the PCI flag. */
export interface EngineRequest {
  readonly program: ChannelProgram;
  readonly unit: ControlUnit;
  readonly log: Log;
  readonly intermediate: (irb: Irb) => void;
}

/**
 * Runs one channel program against a control unit, on the pinned pages themselves. Source: z/Architecture, "I/O":
 * chaining, conclusion of I/O operations; the statuses of malformed programs as recorded from a running vfio-ccw.
 */
export class ChannelEngine {
  readonly #request: EngineRequest;
  #next: Position = { chain: 0, index: 0 };
  #address: number;
  #steps = 0;
  #cancelled = false;
  #phase: EnginePhase = 'pending';
  #wake: () => void = () => {};

  constructor(request: EngineRequest) {
    this.#request = request;
    this.#address = request.program.hostOrb(0, 0).cpa;
  }

  /**
   * Runs to the end. Nothing happens before the caller's turn is over. Never rejects. When this settles, nobody
   * touches the program's pages any more.
   */
  async run(): Promise<ProgramEnd> {
    await Promise.resolve();
    for (let begun = false; ; ) {
      if (this.#cancelled) return this.#end({ count: 0 });
      const ccw = this.#fetch();
      if (ccw === undefined || !isCommand(ccw.ccw.command)) return this.#check(CHANNEL_STATUS.PROGRAM_CHECK);
      if (!begun) {
        if (!(await this.#begin(ccw.ccw.command))) return this.#end({ count: 0 });
        begun = true;
      }
      const suspends = (ccw.ccw.flags & CCW_FLAG.SUSPEND) !== 0;
      const end = (suspends ? await this.#suspend(ccw) : undefined) ?? (await this.#execute(ccw));
      if (end !== undefined) return end;
    }
  }

  /** Stops the program at the next chance: before the next CCW, or when the I/O in flight has ended. */
  cancel(): void {
    this.#cancelled = true;
    this.#wake();
  }

  get phase(): EnginePhase {
    return this.#phase;
  }

  /** A suspended program goes on with the CCW that it stopped at. @returns false if the program is not suspended. */
  resume(): boolean {
    if (this.#phase !== 'suspended') return false;
    this.#phase = 'active';
    this.#wake();
    return true;
  }

  /** Settles when the program is resumed or cancelled. */
  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Waits while somebody else holds the unit: the start is pending. @returns false if the program was cancelled meanwhile. */
  async #begin(command: number): Promise<boolean> {
    const { unit } = this.#request;
    for (let held = unit.whenFree?.(command); held !== undefined; held = unit.whenFree?.(command)) {
      await Promise.race([held, this.#woken()]);
      if (this.#cancelled) return false;
    }
    unit.begin();
    this.#phase = 'active';
    return true;
  }

  /** Takes the next CCW, through at most one TIC. @returns undefined for a program check at `#address`. */
  #fetch(): PreparedCcw | undefined {
    const found = this.#follow(this.#next);
    const tic = found !== undefined && isTic(found.ccw);
    if (!tic) return found;
    if (found.ccw.flags !== 0 || found.ccw.count !== 0) return undefined;
    const target = this.#request.program.find(found.ccw.address);
    this.#address = this.#request.program.toHost(found.ccw.address) ?? this.#address;
    const next = target === undefined ? undefined : this.#follow(target);
    return next === undefined || isTic(next.ccw) ? undefined : next;
  }

  #follow(position: Position): PreparedCcw | undefined {
    const found = this.#request.program.at(position);
    this.#address = found?.address ?? this.#address + CCW_SIZE;
    this.#next = { chain: position.chain, index: position.index + 1 };
    this.#steps += 1;
    return this.#steps > STEPS_MAX || found === undefined || !isValid(found) ? undefined : found;
  }

  /** The next CCW of a data chain. Its command does not matter; it cannot suspend. */
  #chainData(): PreparedCcw | undefined {
    const next = this.#fetch();
    if (next === undefined || (next.ccw.flags & CCW_FLAG.SUSPEND) !== 0) return undefined;
    this.#tellProgress(next);
    return next;
  }

  /** Without ORB.S nothing may suspend; with it the program waits for whoever ends or resumes it. No interruption tells. */
  async #suspend(at: PreparedCcw): Promise<ProgramEnd | undefined> {
    if ((this.#request.program.orb.word1 & ORB.SUSPEND) === 0) return this.#check(CHANNEL_STATUS.PROGRAM_CHECK);
    this.#phase = 'suspended';
    await this.#woken();
    return this.#cancelled ? this.#end({ count: at.ccw.count }) : undefined;
  }

  /** @returns how the program ended, undefined if it goes on. */
  async #execute(ccw: PreparedCcw): Promise<ProgramEnd | undefined> {
    const transfer = new ChannelTransfer(ccw, {
      cancelled: () => this.#cancelled,
      chainData: () => this.#chainData(),
    });
    this.#tellProgress(ccw);
    const status = await this.#command(ccw.ccw.command, transfer);
    if (this.#cancelled) return this.#end({ count: transfer.residual });
    if (status === undefined) return this.#check(CHANNEL_STATUS.INTERFACE_CHECK);
    return this.#conclude(status, transfer);
  }

  async #command(command: number, transfer: ChannelTransfer): Promise<number | undefined> {
    const { unit, log } = this.#request;
    try {
      return await unit.execute(command, transfer);
    } catch (cause) {
      log.warn(`control unit ${unit.name}: command 0x${command.toString(16)} failed`, cause);
      return undefined;
    }
  }

  #conclude(status: number, transfer: ChannelTransfer): ProgramEnd | undefined {
    transfer.finish();
    if (transfer.failure !== 0) return this.#check(transfer.failure);
    const { flags } = transfer.current.ccw;
    const stopped = (status & ENDS_CHAIN) !== 0;
    const lengthError = !stopped && transfer.incorrectLength;
    const chained = (flags & CCW_FLAG.CHAIN_COMMAND) !== 0 && (flags & CCW_FLAG.CHAIN_DATA) === 0;
    if (chained && !stopped && !lengthError) {
      this.#skip(status);
      return undefined;
    }
    const channelStatus = lengthError ? CHANNEL_STATUS.INCORRECT_LENGTH : 0;
    return this.#end({ count: transfer.residual, deviceStatus: status, channelStatus });
  }

  /** A status modifier skips one CCW. */
  #skip(status: number): void {
    if ((status & DEVICE_STATUS.MODIFIER) === 0) return;
    this.#next = { chain: this.#next.chain, index: this.#next.index + 1 };
  }

  #tellProgress(at: PreparedCcw): void {
    if ((at.ccw.flags & CCW_FLAG.PCI) === 0) return;
    const control = SCSW.START | SCSW.SUBCHANNEL_ACTIVE | SCSW.DEVICE_ACTIVE | SCSW.INTERMEDIATE | SCSW.PENDING;
    this.#request.intermediate({
      word0: SCSW.FORMAT1 | control,
      cpa: at.address + CCW_SIZE,
      deviceStatus: 0,
      channelStatus: CHANNEL_STATUS.PCI,
      count: 0,
    });
  }

  #check(channelStatus: number): ProgramEnd {
    return this.#end({ count: 0, channelStatus });
  }

  #end(what: { count: number; deviceStatus?: number; channelStatus?: number }): ProgramEnd {
    const { count, deviceStatus = 0, channelStatus = 0 } = what;
    const alert = (deviceStatus & ENDS_CHAIN) !== 0 || channelStatus !== 0 ? SCSW.ALERT : 0;
    const control = SCSW.START | alert | SCSW.PRIMARY | SCSW.SECONDARY | SCSW.PENDING;
    const irb = {
      word0: SCSW.FORMAT1 | control,
      cpa: (this.#address + CCW_SIZE) >>> 0,
      deviceStatus,
      channelStatus,
      count,
    };
    const sensed = (deviceStatus & DEVICE_STATUS.UNIT_CHECK) !== 0;
    return { cancelled: this.#cancelled, irb: sensed ? { ...irb, sense: this.#request.unit.sense.slice() } : irb };
  }
}

/** A command that ends in zeros is none; 8 is a TIC only when it is exactly that. */
const isCommand = (command: number): boolean => (command & 0x0f) !== 0 && (command & 0x0f) !== 0x08;

/** Modified indirect addressing is not installed; an address has 31 bits. */
const isValid = ({ ccw }: PreparedCcw): boolean =>
  (ccw.flags & CCW_FLAG.MIDA) === 0 && (ccw.address & INVALID_ADDRESS) === 0;
