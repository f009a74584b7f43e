import { type DmaApi, type Log, type PinApi, PinionError, type Prot } from '@pinion/core';
import { GuestBuffer } from './guest-buffer.js';
import { collectPieces } from './prp.js';
import { STATUS, type Status } from './registers.js';
import type { Command, Outcome } from './wire.js';

/** A command under way: its guest memory stays pinned until `outcome` settles, which it always does, and never with a failure. */
export interface InFlight {
  readonly buffer: GuestBuffer | undefined;
  readonly outcome: Promise<Outcome>;
}

/** What became of a command so far; undefined: it waits for an event. */
export type Execution = Outcome | InFlight | undefined;

/** Gets at the memory that commands name. */
export class GuestData {
  readonly #pins: PinApi;
  readonly #dma: DmaApi;
  readonly #log: Log;

  constructor(about: { readonly pins: PinApi; readonly dma: DmaApi; readonly log: Log }) {
    this.#pins = about.pins;
    this.#dma = about.dma;
    this.#log = about.log;
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
