import { type ChannelData, type ControlUnit, fetchBytes, SENSE0, senseBytes, storeBytes } from './control-unit.js';
import { DEVICE_STATUS } from './wire.js';

export const CONSOLE_COMMAND = {
  WRITE: 0x01,
  NOP: 0x03,
  SENSE: 0x04,
  WRITE_RETURN: 0x09,
  READ: 0x0a,
  SENSE_ID: 0xe4,
} as const;
/** A 3215 console-printer keyboard. */
const SENSE_ID = Uint8Array.of(0xff, 0x32, 0x15, 0x00, 0x32, 0x15, 0x00, 0x00);
const LINE_MAX = 1920;
const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;

/**
 * A line-mode console (3215): what a guest writes goes to `print`; what somebody types raises an attention and is read
 * line by line. What was typed survives a reset: the operator has not gone.
 */
export class ConsoleUnit implements ControlUnit {
  readonly name = 'console 3215';
  onSignal?: (deviceStatus: number) => void;
  readonly #print: (line: Uint8Array) => void;
  readonly #typed: Uint8Array[] = [];
  #sense = senseBytes(0);

  /** `print`: gets the bytes of each write as they are (EBCDIC, usually); may throw, which is an interface control check. */
  constructor(print: (line: Uint8Array) => void) {
    this.#print = print;
  }

  get sense(): Uint8Array {
    return this.#sense;
  }

  /** Somebody typed a line, 1920 bytes at most count: the guest gets an attention. A read that finds none gets no bytes. */
  type(line: Uint8Array): void {
    this.#typed.push(line.slice(0, LINE_MAX));
    this.onSignal?.(DEVICE_STATUS.ATTENTION);
  }

  reset(): void {
    this.#sense = senseBytes(0);
  }

  begin(): void {}

  execute(command: number, data: ChannelData): number {
    switch (command) {
      case CONSOLE_COMMAND.NOP:
        return DONE;
      case CONSOLE_COMMAND.SENSE:
        storeBytes(data, this.#sense);
        return DONE;
      case CONSOLE_COMMAND.SENSE_ID:
        storeBytes(data, SENSE_ID);
        return DONE;
      case CONSOLE_COMMAND.WRITE:
      case CONSOLE_COMMAND.WRITE_RETURN:
        this.#print(fetchBytes(data, LINE_MAX));
        return DONE;
      case CONSOLE_COMMAND.READ:
        storeBytes(data, this.#typed.shift() ?? new Uint8Array(0));
        return DONE;
      default:
        this.#sense = senseBytes(SENSE0.COMMAND_REJECT);
        return DONE | DEVICE_STATUS.UNIT_CHECK;
    }
  }
}
