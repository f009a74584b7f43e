import { type DmaApi, type Log, type PinApi, PinionError, PROT_READ, type Prot } from '@pinion/core';
import { type FarMemory, statusOf } from './far-memory.js';
import { GuestBuffer } from './guest-buffer.js';
import { collectPieces } from './prp.js';
import { STATUS, type Status } from './registers.js';
import type { Command, Outcome } from './wire.js';

/** A command under way: its guest memory stays pinned until `outcome` settles, which it always does, and never with a failure. */
export interface InFlight {
  readonly buffer: GuestBuffer | undefined;
  /** Its data is copied by somebody who may be waiting for us: nobody may wait for it. */
  readonly far?: boolean;
  readonly outcome: Promise<Outcome>;
}

/** What became of a command so far; undefined: it waits for an event. */
export type Execution = Outcome | InFlight | undefined;

/** Gets at the memory that commands name. */
export class GuestData {
  readonly #pins: PinApi;
  readonly #dma: DmaApi;
  readonly #log: Log;
  readonly far: FarMemory;

  constructor(about: { readonly pins: PinApi; readonly dma: DmaApi; readonly far: FarMemory; readonly log: Log }) {
    this.#pins = about.pins;
    this.#dma = about.dma;
    this.#log = about.log;
    this.far = about.far;
  }

  /**
   * Copies a command's data instead: `work` gets the bytes, from the guest or for the guest. @returns what became of the copies.
   * @throws what `work` throws.
   */
  async copy(
    { prp1, prp2 }: Command,
    about: { readonly length: number; readonly prot: Prot },
    work: (views: readonly Uint8Array[]) => void | Promise<void>,
  ): Promise<Status> {
    const { length, prot } = about;
    const { epoch } = this.far;
    const pieces = await this.far.pieces({ prp1, prp2, length }).catch(statusOf);
    if (typeof pieces === 'number') return pieces;
    const bytes = prot === PROT_READ ? await this.far.gather(pieces, length).catch(statusOf) : new Uint8Array(length);
    if (typeof bytes === 'number') return bytes;
    await work([bytes]);
    if (prot === PROT_READ) return STATUS.SUCCESS;
    if (epoch !== this.far.epoch) return STATUS.DATA_TRANSFER_ERROR; // the controller was reset: not a byte more
    return this.far.scatter(pieces, bytes).then(() => STATUS.SUCCESS, statusOf);
  }

  /** Whether a status that `pin` gave leaves another way: `copy`. */
  mayCopy(status: Status): boolean {
    return status === STATUS.DATA_TRANSFER_ERROR && this.far.current !== undefined;
  }

  /** Pins `length` bytes (at least 1) of a command's data, or says why not. `prot`: what the device does with them. */
  pin({ prp1, prp2 }: Command, length: number, prot: Prot): GuestBuffer | Status {
    const pieces = collectPieces({ prp1, prp2, length }, (address, count) => this.#read(address, count));
    if (!Array.isArray(pieces)) return pieces;
    return this.#try(() => new GuestBuffer(this.#pins, pieces, prot)) ?? STATUS.DATA_TRANSFER_ERROR;
  }

  #read(address: bigint, count: number): Uint8Array | undefined {
    return this.#try(() => {
      const bytes = new Uint8Array(count);
      this.#dma.read(address, bytes);
      return bytes;
    });
  }

  /** What cannot be reached is the guest's mistake; anything else is ours. */
  #try<T>(action: () => T): T | undefined {
    try {
      return action();
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      this.#log.info(`nvme: guest memory cannot be reached: ${cause.message}`);
      return undefined;
    }
  }
}
