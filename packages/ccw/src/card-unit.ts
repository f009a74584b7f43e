import { type ChannelData, type ControlUnit, fetchBytes, SENSE0, senseBytes, storeBytes } from './control-unit.js';
import { DEVICE_STATUS } from './wire.js';

export const CARD_SIZE = 80;
export const CARD_COMMAND = { PUNCH: 0x01, READ: 0x02, NOP: 0x03, SENSE: 0x04, SENSE_ID: 0xe4 } as const;
/** A 2540 reader and punch. */
const SENSE_ID = Uint8Array.of(0xff, 0x28, 0x21, 0x01, 0x25, 0x40, 0x00, 0x00);
const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;

/** `punched`: receives every card instead of `stacker`; may throw, which is an interface control check. */
export interface CardUnitOptions {
  readonly punched?: (card: Uint8Array) => void;
}

/**
 * A card reader and punch (2540): reads the cards of `hopper` in order, 80 bytes each, and punches into `stacker`. An
 * empty hopper is a unit exception once (end of file), then intervention required.
 */
export class CardUnit implements ControlUnit {
  readonly name = 'cards 2540';
  readonly hopper: Uint8Array[];
  readonly stacker: Uint8Array[] = [];
  #sense = senseBytes(0);
  #ended = false;

  readonly #punched: (card: Uint8Array) => void;

  constructor(hopper: readonly Uint8Array[] = [], options: CardUnitOptions = {}) {
    this.hopper = [...hopper];
    this.#punched = options.punched ?? ((punched) => void this.stacker.push(punched));
  }

  get sense(): Uint8Array {
    return this.#sense;
  }

  reset(): void {
    this.#sense = senseBytes(0);
    this.#ended = false;
  }

  begin(): void {}

  execute(command: number, data: ChannelData): number {
    switch (command) {
      case CARD_COMMAND.NOP:
        return DONE;
      case CARD_COMMAND.SENSE:
        storeBytes(data, this.#sense);
        return DONE;
      case CARD_COMMAND.SENSE_ID:
        storeBytes(data, SENSE_ID);
        return DONE;
      case CARD_COMMAND.READ:
        return this.#read(data);
      case CARD_COMMAND.PUNCH:
        this.#punched(card(fetchBytes(data, CARD_SIZE)));
        return DONE;
      default:
        return this.#check(SENSE0.COMMAND_REJECT);
    }
  }

  #read(data: ChannelData): number {
    const next = this.hopper.shift();
    if (next !== undefined) {
      this.#ended = false;
      storeBytes(data, card(next));
      return DONE;
    }
    if (this.#ended) return this.#check(SENSE0.INTERVENTION);
    this.#ended = true;
    return DONE | DEVICE_STATUS.UNIT_EXCEPTION;
  }

  #check(byte0: number): number {
    this.#sense = senseBytes(byte0);
    return DONE | DEVICE_STATUS.UNIT_CHECK;
  }
}

/** A card has 80 columns, whatever was punched. */
function card(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(CARD_SIZE);
  whole.set(bytes.subarray(0, CARD_SIZE));
  return whole;
}
