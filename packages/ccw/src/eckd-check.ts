import { SENSE0, SENSE1 } from './control-unit.js';

/** Sense byte 1 of a 3390. */
export const TRACK_SENSE = { INVALID_FORMAT: 0x40, END_OF_CYLINDER: 0x20 } as const;

/** Sense byte 7 of a command reject: format 0, and which message. Source: IBM internal disk subsystem reference, sense data. */
export const REJECT = { NONE: 0, COMMAND: 1, SEQUENCE: 2, SHORT: 3, PARAMETER: 4 } as const;

/** Ends a command with a unit check and these sense bytes. */
export class Check extends Error {
  readonly byte0: number;
  readonly byte1: number;
  readonly byte7: number;

  constructor(byte0: number, byte1 = 0, byte7 = 0) {
    super(`sense ${byte0.toString(16)} ${byte1.toString(16)}, message ${byte7}`);
    this.byte0 = byte0;
    this.byte1 = byte1;
    this.byte7 = byte7;
  }
}

/** A command reject; `message`: one of `REJECT`. */
export const reject = (message: number): Check => new Check(SENSE0.COMMAND_REJECT, 0, message);

export const noRecord = (): Check => new Check(0, SENSE1.NO_RECORD);
export const fileProtected = (): Check => new Check(0, SENSE1.FILE_PROTECTED);
export const invalidTrack = (): Check => new Check(0, TRACK_SENSE.INVALID_FORMAT);
