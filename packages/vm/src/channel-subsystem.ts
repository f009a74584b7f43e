import { CcwDevice } from '@pinion/ccw';
import { type DeviceFile, isErrno } from '@pinion/core';
import { vmErrors } from './errors.js';
import { EventQueue } from './event-queue.js';
import type { GuestMemory } from './guest-memory.js';

/** Condition code of an I/O instruction. */
export type ConditionCode = 0 | 1 | 2 | 3;

/** Where a subchannel is found. */
export interface SubchannelIdentity {
  /** Subchannel number 0..65535. */
  readonly number: number;
  /** Device number 0..65535. */
  readonly device: number;
}

/** The io region of vfio-ccw, bytes, big endian. Source: struct ccw_io_region. */
const IO = { INDEX: 0, SIZE: 124, ORB: 0, SCSW: 12, IRB: 24 } as const;
/** The async command region. Source: struct ccw_cmd_region. */
const ASYNC = { INDEX: 1, SIZE: 8, HALT: 1, CLEAR: 2 } as const;
const ORB_SIZE = 12;
const IRB_SIZE = 96;
export const SCHIB_SIZE = 52;
/** Function control: start, as a subchannel status word has it. */
const FCTL_START = 0x4000;
/** PMCW word 1: enabled, device number valid. */
const PMCW = { PARAMETER: 0, FLAGS: 4, ENABLED: 0x0080_0000, VALID: 0x0001_0000, SCSW: 28 } as const;
/** Status of a start that the host could not do: alert, primary, secondary, pending; unit exception. */
const UNIT_EXCEPTION = { WORD0: 0x17, WORD2: 0x0100_0000 } as const;

interface Subchannel extends SubchannelIdentity {
  readonly file: DeviceFile;
  enabled: boolean;
  parameter: number;
  /** The interruption response block that TSCH has not taken yet. */
  pending: Uint8Array | undefined;
  /** The interruption parameter of the start that the interruption is for. */
  readonly interrupts: EventQueue<number>;
}

/**
 * The channel subsystem of a guest: its I/O instructions, executed on vfio-ccw devices. What a processor would do with
 * blocks in guest memory happens here; what a channel does, happens in the device.
 * Source: z/Architecture chapter 14; reference B.1-B.3; condition codes of a failed start as QEMU's hw/vfio/ccw gives them.
 */
export class ChannelSubsystem {
  readonly #memory: GuestMemory;
  readonly #subchannels = new Map<number, Subchannel>();

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Puts a device behind a subchannel. @returns the undo, which takes a reason for whoever waits. @throws VM_SUBCHANNEL_TAKEN (EEXIST). */
  connect(identity: SubchannelIdentity, file: DeviceFile): (reason: unknown) => void {
    if (this.#subchannels.has(identity.number)) throw vmErrors.SUBCHANNEL_TAKEN({ subchannel: identity.number });
    const interrupts = new EventQueue<number>();
    const subchannel: Subchannel = { ...identity, file, enabled: false, parameter: 0, pending: undefined, interrupts };
    this.#subchannels.set(identity.number, subchannel);
    file.device.ops.setIrqSink?.((index) => {
      if (index === 0) this.#present(subchannel, this.#readIrb(subchannel));
    });
    return (reason) => {
      file.device.ops.setIrqSink?.(undefined);
      this.#subchannels.delete(identity.number);
      interrupts.end(reason);
    };
  }

  /** Numbers of the subchannels that are there, ascending. */
  get subchannels(): readonly number[] {
    return [...this.#subchannels.keys()].sort((a, b) => a - b);
  }

  /** Start subchannel with the operation request block at guest-physical `orb`. cc 0 started, 1 status pending, 2 busy, 3 not operational. */
  ssch(number: number, orb: bigint): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined || !subchannel.enabled) return 3;
    if (subchannel.pending !== undefined) return 1;
    const block = this.#memory.read(orb, ORB_SIZE);
    const region = new Uint8Array(IO.SIZE);
    region.set(block, IO.ORB);
    const view = new DataView(region.buffer);
    view.setUint32(IO.SCSW, FCTL_START);
    subchannel.parameter = view.getUint32(IO.ORB);
    return this.#execute(subchannel, IO.INDEX, region);
  }

  /** Test subchannel: stores the response block at guest-physical `irb`. cc 0 status was pending (and is no more), 1 not, 3 no such subchannel. */
  tsch(number: number, irb: bigint): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined || !subchannel.enabled) return 3;
    const { pending } = subchannel;
    this.#memory.write(irb, pending ?? new Uint8Array(IRB_SIZE));
    subchannel.pending = undefined;
    return pending === undefined ? 1 : 0;
  }

  /** Store subchannel: the subchannel information block goes to guest-physical `schib`. cc 0, or 3 no such subchannel. */
  stsch(number: number, schib: bigint): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined) return 3;
    const block = new DataView(new ArrayBuffer(SCHIB_SIZE));
    const flags = PMCW.VALID | (subchannel.enabled ? PMCW.ENABLED : 0);
    block.setUint32(PMCW.PARAMETER, subchannel.parameter);
    block.setUint32(PMCW.FLAGS, flags | subchannel.device);
    if (subchannel.pending !== undefined)
      new Uint8Array(block.buffer).set(subchannel.pending.subarray(0, 12), PMCW.SCSW);
    this.#memory.write(schib, new Uint8Array(block.buffer));
    return 0;
  }

  /** Modify subchannel: takes the enabled bit and the interruption parameter. cc 0 done, 1 status pending, 3 no such subchannel. */
  msch(number: number, schib: bigint): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined) return 3;
    if (subchannel.pending !== undefined) return 1;
    const block = new DataView(this.#memory.read(schib, SCHIB_SIZE).buffer);
    subchannel.enabled = (block.getUint32(PMCW.FLAGS) & PMCW.ENABLED) !== 0;
    subchannel.parameter = block.getUint32(PMCW.PARAMETER);
    return 0;
  }

  /** Halt subchannel. cc 0, 2 busy, 3 not operational. */
  hsch(number: number): ConditionCode {
    return this.#command(number, ASYNC.HALT);
  }

  /** Clear subchannel. cc 0, 3 not operational. */
  csch(number: number): ConditionCode {
    return this.#command(number, ASYNC.CLEAR);
  }

  /** Resume subchannel: a suspended program goes on. cc 0, 1 status pending, 2 nothing is suspended, 3 not operational. */
  rsch(number: number): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined || !subchannel.enabled) return 3;
    if (subchannel.pending !== undefined) return 1;
    const { ops } = subchannel.file.device;
    return ops instanceof CcwDevice && ops.resume() ? 0 : 2;
  }

  /** Cancel subchannel. No region of vfio-ccw can: cc 2 not applicable, 1 status pending, 3 not operational. */
  xsch(number: number): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined || !subchannel.enabled) return 3;
    return subchannel.pending === undefined ? 2 : 1;
  }

  /**
   * The next I/O interruption of a subchannel: its parameter. (A real machine delivers by subclass and the guest's kernel
   * looks who it is for; that look is done here.) Rejects when the device goes or the guest is killed, or with VM_NO_SUBCHANNEL (ENODEV).
   */
  interrupt(number: number): Promise<number> {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined) return Promise.reject(vmErrors.NO_SUBCHANNEL({ subchannel: number }));
    return subchannel.interrupts.next();
  }

  #command(number: number, command: number): ConditionCode {
    const subchannel = this.#subchannels.get(number);
    if (subchannel === undefined || !subchannel.enabled) return 3;
    const region = new DataView(new ArrayBuffer(ASYNC.SIZE));
    region.setUint32(0, command);
    return this.#execute(subchannel, ASYNC.INDEX, new Uint8Array(region.buffer));
  }

  #execute(subchannel: Subchannel, region: number, bytes: Uint8Array): ConditionCode {
    try {
      subchannel.file.writeRegion(region, 0, bytes);
      return 0;
    } catch (cause) {
      if (isErrno(cause, 'EBUSY') || isErrno(cause, 'EAGAIN')) return 2;
      if (isErrno(cause, 'ENODEV') || isErrno(cause, 'EACCES') || isErrno(cause, 'EIO')) return 3;
      if (region !== IO.INDEX) return 3;
      this.#present(subchannel, unitException());
      return 0;
    }
  }

  #readIrb({ file }: Subchannel): Uint8Array {
    const region = new Uint8Array(IO.SIZE);
    file.readRegion(IO.INDEX, 0, region);
    return region.slice(IO.IRB, IO.IRB + IRB_SIZE);
  }

  #present(subchannel: Subchannel, irb: Uint8Array): void {
    subchannel.pending = irb;
    subchannel.interrupts.push(subchannel.parameter);
  }
}

/** What the guest sees of a program the host refused: the unit ends it with an exception. */
function unitException(): Uint8Array {
  const irb = new DataView(new ArrayBuffer(IRB_SIZE));
  irb.setUint32(0, UNIT_EXCEPTION.WORD0);
  irb.setUint32(8, UNIT_EXCEPTION.WORD2);
  return new Uint8Array(irb.buffer);
}
