import { SENSE_SIZE } from './wire.js';

/**
 * The guest memory of one command, data chaining already followed. Pieces are live bytes of pinned pages: they may be
 * used until the command's promise settles, not longer.
 */
export interface ChannelData {
  /** Somebody stopped the program: end the command soon; its status is not looked at. */
  readonly cancelled: boolean;
  /**
   * The next `length` bytes in order, fewer when the program gives no more (the channel then reports an incorrect
   * length unless the program suppresses it). `to-guest`: the pieces are written, and what the program skips is a
   * piece that nobody sees; `to-device`: they are read.
   */
  take(length: number, direction: 'to-guest' | 'to-device'): readonly Uint8Array[];
}

/**
 * What stands behind a subchannel. Called by one program at a time; the caller waits for every promise, also after it
 * cancelled, because until then the unit may touch guest memory.
 */
export interface ControlUnit {
  readonly name: string;
  /** Back to the state after power-on: no sense, nothing selected. Never called while a command runs. */
  reset(): void;
  /** A new program starts: what the last one selected is void; sense bytes stay. */
  begin(): void;
  /**
   * Whether somebody else holds the unit: a program whose first command is `command` stays pending (it can be cancelled)
   * until the promise settles, and is then asked again. Undefined: it may begin. Absent: the unit is never held.
   */
  whenFree?(command: number): Promise<void> | undefined;
  /** Set by the subchannel: tells a device status (`DEVICE_STATUS`) that no program asked for, such as an attention. */
  onSignal?: (deviceStatus: number) => void;
  /** Executes one command. @returns device status (`DEVICE_STATUS`). A throw becomes an interface-control check. */
  execute(command: number, data: ChannelData): number | Promise<number>;
  /** The 32 bytes that explain the last unit check. */
  readonly sense: Uint8Array;
}

/** Sense byte 0. */
export const SENSE0 = { COMMAND_REJECT: 0x80, INTERVENTION: 0x40, EQUIPMENT_CHECK: 0x10, DATA_CHECK: 0x08 } as const;
/** Sense byte 1. */
export const SENSE1 = { PERMANENT: 0x80, NO_RECORD: 0x08, FILE_PROTECTED: 0x04, WRITE_INHIBITED: 0x02 } as const;

/** 32 sense bytes; byte 7 is the format and message of a disk, all others say nothing. */
export function senseBytes(byte0: number, byte1 = 0, byte7 = 0): Uint8Array {
  const sense = new Uint8Array(SENSE_SIZE);
  sense.set([byte0, byte1]);
  sense[7] = byte7;
  return sense;
}

/** Moves `bytes` to the guest, as far as the program takes them. @returns bytes moved. */
export function storeBytes(data: ChannelData, bytes: Uint8Array): number {
  let at = 0;
  for (const piece of data.take(bytes.length, 'to-guest')) {
    piece.set(bytes.subarray(at, at + piece.length));
    at += piece.length;
  }
  return at;
}

/** Copies up to `length` bytes from the guest. */
export function fetchBytes(data: ChannelData, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of data.take(length, 'to-device')) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes.subarray(0, at);
}
