import {
  CCW_SIZE,
  type Ccw,
  commandOrb,
  DEVICE_STATUS,
  decodeIrb,
  encodeCcw,
  encodeOrb,
  IRB_SIZE,
  type Irb,
  SCSW,
} from '@pinion/ccw';
import { hex, PAGE_SIZE } from '@pinion/core';
import { SCHIB_SIZE } from '../channel-subsystem.js';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';

/** Where instructions have their blocks in the page. A driver's parameters stand below SCHIB. */
const PLACE = { SCHIB: 0x80, ORB: 0xc0, IRB: 0x100 };
/** Offset of the first CCW; nothing of the page behind it is used here but the CCWs. */
export const CCWS = 0x200;
const ENABLED = 0x80;
/** Byte of the subchannel information block that has the enabled bit. */
const SCHIB_ENABLE = 5;

interface Waiter {
  readonly wants: 'end' | 'attention';
  readonly resolve: (irb: Irb) => void;
  readonly reject: (reason: unknown) => void;
}

/** A status that ends no function. */
const isUnasked = ({ word0 }: Irb): boolean =>
  (word0 & (SCSW.ALERT | SCSW.PRIMARY | SCSW.SECONDARY | SCSW.INTERMEDIATE)) === SCSW.ALERT;

/**
 * The page of guest memory in which a driver builds one channel program (format-1 CCWs) at a time for one subchannel: its
 * parameters, the instructions' blocks, the CCWs. Offsets are bytes in the page.
 */
export class ProgramPage {
  /** Guest-physical address of the page; below 2 GiB, as CCWs need. */
  readonly at: bigint;
  readonly #machine: GuestMachine;
  readonly #subchannel: number;
  readonly #waiting: Waiter[] = [];
  #listening = false;
  #attended = false;

  constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#machine = machine;
    this.#subchannel = subchannel;
    this.at = heap.allocate(PAGE_SIZE);
  }

  put(offset: number, bytes: Uint8Array): void {
    this.#machine.memory.write(this.at + BigInt(offset), bytes);
  }

  read(offset: number, length: number): Uint8Array {
    return this.#machine.memory.read(this.at + BigInt(offset), length);
  }

  /** A CCW whose data (or list) stands at `offset`. */
  ccw(command: number, offset: number, count: number, flags: number): Ccw {
    return { command, flags, count, address: Number(this.at) + offset };
  }

  /** Enables the subchannel. @throws VM_NO_SUBCHANNEL (ENODEV). */
  enable(): void {
    const { channels } = this.#machine;
    const schib = this.at + BigInt(PLACE.SCHIB);
    if (channels.stsch(this.#subchannel, schib) !== 0) throw vmErrors.NO_SUBCHANNEL({ subchannel: this.#subchannel });
    const bytes = this.read(PLACE.SCHIB, SCHIB_SIZE);
    bytes[SCHIB_ENABLE] = (bytes[SCHIB_ENABLE] ?? 0) | ENABLED;
    this.put(PLACE.SCHIB, bytes);
    channels.msch(this.#subchannel, schib);
  }

  /**
   * Runs a program that must end normally.
   * @throws as `execute`, VM_IO_LOST (ECANCELED, it was cleared or halted), VM_IO_FAILED (EIO, any status but a normal end).
   */
  async run(ccws: readonly Ccw[]): Promise<void> {
    this.check(await this.execute(ccws));
  }

  /** Starts a program and waits for its end, whatever that is. @throws VM_NO_SUBCHANNEL (ENODEV), VM_SUBCHANNEL_BUSY (EBUSY). */
  async execute(ccws: readonly Ccw[]): Promise<Irb> {
    for (const [index, ccw] of ccws.entries()) this.put(CCWS + index * CCW_SIZE, encodeCcw(ccw));
    this.put(PLACE.ORB, encodeOrb({ ...commandOrb(Number(this.at) + CCWS), intparm: this.#subchannel }));
    const cc = this.#start();
    if (cc === 3) throw vmErrors.NO_SUBCHANNEL({ subchannel: this.#subchannel });
    if (cc !== 0) throw vmErrors.SUBCHANNEL_BUSY({ subchannel: this.#subchannel, cc });
    return this.#next('end');
  }

  /**
   * Settles when the unit asks for attention: somebody has typed. One that came while nobody waited counts. Programs may run
   * meanwhile. Rejects when the device goes.
   */
  async attention(): Promise<void> {
    if (!this.#attended) await this.#next('attention');
    this.#attended = false;
  }

  /** SSCH. An attention that nobody has taken notice of stands in the way (cc 1): it is taken first. */
  #start(): number {
    const { channels } = this.#machine;
    const orb = this.at + BigInt(PLACE.ORB);
    const cc = channels.ssch(this.#subchannel, orb);
    if (cc !== 1) return cc;
    this.#take();
    return channels.ssch(this.#subchannel, orb);
  }

  #next(wants: Waiter['wants']): Promise<Irb> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ wants, resolve, reject });
      if (!this.#listening) void this.#listen();
    });
  }

  /** Hands each status to whoever waits for its kind, as long as somebody waits. */
  async #listen(): Promise<void> {
    this.#listening = true;
    try {
      while (this.#waiting.length > 0) {
        await this.#machine.channels.interrupt(this.#subchannel);
        this.#take();
      }
    } catch (reason) {
      for (const { reject } of this.#waiting.splice(0)) reject(reason);
    } finally {
      this.#listening = false;
    }
  }

  /** TSCH; cc 1, nothing is pending, is an interruption whose status was taken already. */
  #take(): void {
    const cc = this.#machine.channels.tsch(this.#subchannel, this.at + BigInt(PLACE.IRB));
    if (cc !== 0) return;
    const irb = decodeIrb(this.read(PLACE.IRB, IRB_SIZE));
    const wants = isUnasked(irb) ? 'attention' : 'end';
    const index = this.#waiting.findIndex((waiter) => waiter.wants === wants);
    const [waiter] = index < 0 ? [] : this.#waiting.splice(index, 1);
    if (waiter !== undefined) waiter.resolve(irb);
    else if (wants === 'attention') this.#attended = true;
  }

  /** @throws VM_IO_LOST (ECANCELED), VM_IO_FAILED (EIO) for anything but a normal end. */
  check({ word0, deviceStatus, channelStatus, sense }: Irb): void {
    if ((word0 & (SCSW.CLEAR | SCSW.HALT)) !== 0) throw vmErrors.IO_LOST({ subchannel: this.#subchannel });
    const normal = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
    if (deviceStatus === normal && channelStatus === 0) return;
    throw vmErrors.IO_FAILED({
      subchannel: this.#subchannel,
      device: hex(deviceStatus),
      channel: hex(channelStatus),
      sense: Buffer.from(sense?.subarray(0, 2) ?? []).toString('hex') || 'none',
    });
  }
}
