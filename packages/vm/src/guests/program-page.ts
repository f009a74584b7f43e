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

/**
 * The page of guest memory in which a driver builds one channel program (format-1 CCWs) at a time for one subchannel: its
 * parameters, the instructions' blocks, the CCWs. Offsets are bytes in the page.
 */
export class ProgramPage {
  /** Guest-physical address of the page; below 2 GiB, as CCWs need. */
  readonly at: bigint;
  readonly #machine: GuestMachine;
  readonly #subchannel: number;

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
   * Starts a program, waits for the interruption and looks at the status.
   * @throws VM_NO_SUBCHANNEL, VM_SUBCHANNEL_BUSY, VM_IO_LOST (it was cleared or halted), VM_IO_FAILED (any status but a normal end).
   */
  async run(ccws: readonly Ccw[]): Promise<void> {
    const { channels } = this.#machine;
    for (const [index, ccw] of ccws.entries()) this.put(CCWS + index * CCW_SIZE, encodeCcw(ccw));
    this.put(PLACE.ORB, encodeOrb({ ...commandOrb(Number(this.at) + CCWS), intparm: this.#subchannel }));
    const cc = channels.ssch(this.#subchannel, this.at + BigInt(PLACE.ORB));
    if (cc === 3) throw vmErrors.NO_SUBCHANNEL({ subchannel: this.#subchannel });
    if (cc !== 0) throw vmErrors.SUBCHANNEL_BUSY({ subchannel: this.#subchannel, cc });
    await channels.interrupt(this.#subchannel);
    channels.tsch(this.#subchannel, this.at + BigInt(PLACE.IRB));
    this.#check(decodeIrb(this.read(PLACE.IRB, IRB_SIZE)));
  }

  #check({ word0, deviceStatus, channelStatus, sense }: Irb): void {
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
