import { type Log, silentLog } from '@pinion/core';
import {
  type ChannelData,
  type ControlUnit,
  fetchBytes,
  SENSE0,
  SENSE1,
  senseBytes,
  storeBytes,
} from './control-unit.js';
import type { DiskImage } from './disk-image.js';
import { ccwErrors } from './errors.js';
import {
  decodeExtent,
  decodeLocate,
  deviceCharacteristics,
  EXTENT_SIZE,
  FBA_COMMAND,
  FBA_OPERATION,
  FBA_PERMISSION,
  FBA_SENSE_ID,
  type FbaExtent,
  LOCATE_SIZE,
} from './fba-wire.js';
import { DEVICE_STATUS } from './wire.js';

export const FBA_BLOCK_SIZE = 512;
const MAX_BLOCKS = 2 ** 32 - 1;

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
const CHECKED = DONE | DEVICE_STATUS.UNIT_CHECK;
const NO_SENSE = senseBytes(0);

/** Blocks that a locate selected. `position`: bytes from the image's start. */
interface Located {
  readonly operation: number;
  readonly position: number;
  readonly length: number;
}

/**
 * A fixed-block disk (9336) on a raw image. A program defines an extent (63), locates blocks in it (43) and at once
 * reads (42) or writes (41) them; data goes straight between the image and the guest's pinned pages. The image
 * belongs to the caller.
 *
 * Unit checks and sense bytes 0, 1: command reject 80 (unknown command, malformed or out-of-order parameters), 80 02
 * write inhibited (read-only image or extent), 00 04 file protected (locate outside the extent), 10 80 equipment
 * check (the image failed). Source: F.1.2 layouts of dasd_fba.h; sense bits as 3370/9336 use them.
 */
export class FbaDisk implements ControlUnit {
  readonly name: string;
  readonly #image: DiskImage;
  readonly #log: Log;
  readonly #blocks: number;
  #extent: FbaExtent | undefined;
  #located: Located | undefined;
  #sense = NO_SENSE;

  /** @throws PinionError CCW_BAD_IMAGE (EINVAL) unless the image is 1 to 2^32-1 whole blocks of 512 bytes. */
  constructor(image: DiskImage, options: { readonly log?: Log } = {}) {
    const blocks = image.size / FBA_BLOCK_SIZE;
    if (!Number.isInteger(blocks) || blocks < 1 || blocks > MAX_BLOCKS)
      throw ccwErrors.BAD_IMAGE({ image: image.name, why: `${image.size} bytes are not 1..2^32-1 blocks of 512` });
    this.name = `fba ${image.name}`;
    this.#image = image;
    this.#log = options.log ?? silentLog;
    this.#blocks = blocks;
  }

  get sense(): Uint8Array {
    return this.#sense;
  }

  reset(): void {
    this.begin();
    this.#sense = NO_SENSE;
  }

  begin(): void {
    this.#extent = undefined;
    this.#located = undefined;
  }

  async execute(command: number, data: ChannelData): Promise<number> {
    const located = this.#located;
    this.#located = undefined;
    switch (command) {
      case FBA_COMMAND.NOP:
        return DONE;
      case FBA_COMMAND.SENSE:
        return this.#answer(data, this.#takeSense());
    }
    this.#sense = NO_SENSE;
    switch (command) {
      case FBA_COMMAND.SENSE_ID:
        return this.#answer(data, FBA_SENSE_ID);
      case FBA_COMMAND.READ_DEVICE_CHARACTERISTICS:
        return this.#answer(data, deviceCharacteristics(FBA_BLOCK_SIZE, this.#blocks));
      case FBA_COMMAND.DEFINE_EXTENT:
        return this.#defineExtent(fetchBytes(data, EXTENT_SIZE));
      case FBA_COMMAND.LOCATE:
        return this.#locate(fetchBytes(data, LOCATE_SIZE));
      case FBA_COMMAND.READ:
        return this.#read(located, data);
      case FBA_COMMAND.WRITE:
        return this.#write(located, data);
      default:
        return this.#check(SENSE0.COMMAND_REJECT);
    }
  }

  #answer(data: ChannelData, bytes: Uint8Array): number {
    storeBytes(data, bytes);
    return DONE;
  }

  #takeSense(): Uint8Array {
    const sense = this.#sense;
    this.#sense = NO_SENSE;
    return sense;
  }

  #check(byte0: number, byte1 = 0): number {
    this.#sense = senseBytes(byte0, byte1);
    return CHECKED;
  }

  /** One extent per program. */
  #defineExtent(bytes: Uint8Array): number {
    if (bytes.length < EXTENT_SIZE || this.#extent !== undefined) return this.#check(SENSE0.COMMAND_REJECT);
    const extent = decodeExtent(bytes);
    const ownSize = extent.blockSize === 0 || extent.blockSize === FBA_BLOCK_SIZE;
    const fits = extent.locator + (extent.end - extent.begin) < this.#blocks;
    if (!ownSize || extent.begin > extent.end || !fits) return this.#check(SENSE0.COMMAND_REJECT);
    this.#extent = extent;
    return DONE;
  }

  #locate(bytes: Uint8Array): number {
    const extent = this.#extent;
    if (bytes.length < LOCATE_SIZE || extent === undefined) return this.#check(SENSE0.COMMAND_REJECT);
    const { operation, count, block } = decodeLocate(bytes);
    if (!isOperation(operation) || count === 0) return this.#check(SENSE0.COMMAND_REJECT);
    if (block < extent.begin || block + count - 1 > extent.end) return this.#check(0, SENSE1.FILE_PROTECTED);
    if (operation === FBA_OPERATION.WRITE && this.#writeInhibited(extent))
      return this.#check(SENSE0.COMMAND_REJECT, SENSE1.WRITE_INHIBITED);
    const position = (extent.locator + block - extent.begin) * FBA_BLOCK_SIZE;
    this.#located = { operation, position, length: count * FBA_BLOCK_SIZE };
    return DONE;
  }

  #writeInhibited(extent: FbaExtent): boolean {
    const { permission } = extent;
    return this.#image.readOnly || (permission !== FBA_PERMISSION.UPDATE && permission !== FBA_PERMISSION.ALL);
  }

  async #read(located: Located | undefined, data: ChannelData): Promise<number> {
    if (located?.operation !== FBA_OPERATION.READ) return this.#check(SENSE0.COMMAND_REJECT);
    const pieces = data.take(located.length, 'to-guest');
    return this.#transfer(() => this.#image.read(located.position, pieces));
  }

  /** A program that gives less than a whole block gets the block's rest filled with zeros. */
  async #write(located: Located | undefined, data: ChannelData): Promise<number> {
    if (located?.operation !== FBA_OPERATION.WRITE) return this.#check(SENSE0.COMMAND_REJECT);
    const pieces = data.take(located.length, 'to-device');
    const given = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const missing = (FBA_BLOCK_SIZE - (given % FBA_BLOCK_SIZE)) % FBA_BLOCK_SIZE;
    return this.#transfer(() => this.#image.write(located.position, [...pieces, new Uint8Array(missing)]));
  }

  async #transfer(move: () => Promise<void>): Promise<number> {
    try {
      await move();
      return DONE;
    } catch (cause) {
      this.#log.warn(`${this.name}: the image failed`, cause);
      return this.#check(SENSE0.EQUIPMENT_CHECK, SENSE1.PERMANENT);
    }
  }
}

const isOperation = (operation: number): boolean =>
  operation === FBA_OPERATION.READ || operation === FBA_OPERATION.WRITE || operation === FBA_OPERATION.VERIFY;
