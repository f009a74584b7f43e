/**
 * The register side of the AP instructions: function codes, response codes, the status word.
 * Bits are numbered from the least significant one, as masks. Source: struct ap_queue_status, union ap_qirq_ctrl; reference C.3, C.6.
 */
import type { Apqn } from './matrix.js';

/** PQAP function codes: general register 0, bits 31..24. */
export const PQAP_FUNCTION = { TAPQ: 0, RAPQ: 1, ZAPQ: 2, AQIC: 3, QCI: 4, QACT: 5, BAPQ: 7, AAPQ: 8 } as const;

/** Response codes of the AP instructions: what the guest reads in the status word. Source: AP_RESPONSE_* in asm/ap.h. */
export const RESPONSE = {
  NORMAL: 0x00,
  /** The queue is not in the guest's matrix, or no device is open. */
  QUEUE_NOT_AVAILABLE: 0x01,
  RESET_IN_PROGRESS: 0x02,
  DECONFIGURED: 0x03,
  CHECKSTOPPED: 0x04,
  BUSY: 0x05,
  /** AQIC: the notification byte's page is no page of the guest, cannot be pinned, or its interrupts cannot be delivered. */
  INVALID_ADDRESS: 0x06,
  /** AQIC: the queue is already in the state that was asked for. */
  OTHERWISE_CHANGED: 0x07,
  /** AQIC: the guest's interruption structure is not usable. Given by old kernels only; see quirk `isc-failure-leaks`. */
  INVALID_GISA: 0x08,
  BOUND_TO_ANOTHER: 0x09,
  STATE_CHANGE_IN_PROGRESS: 0x0a,
  NOT_BOUND: 0x0b,
  /** NQAP: as many messages as the queue holds. */
  QUEUE_FULL: 0x10,
  /** DQAP: no reply is waiting. The same number as QUEUE_FULL; which one is meant depends on the instruction. */
  NO_PENDING_REPLY: 0x10,
  INDEX_TOO_BIG: 0x11,
  NO_FIRST_PART: 0x13,
  MESSAGE_TOO_BIG: 0x15,
  /** The function needs a facility that the machine does not have. */
  FACILITY_MISSING: 0x16,
  BIND_ERROR_FIRST: 0x30,
  BIND_ERROR_RETRY: 0x35,
  BIND_ERROR_LAST: 0x36,
  INVALID_DOMAIN: 0x42,
} as const;
export type ResponseCode = (typeof RESPONSE)[keyof typeof RESPONSE];

/** What every AP instruction answers. Source: struct ap_queue_status. */
export interface ApStatus {
  readonly code: ResponseCode;
  /** E: neither a message nor a reply is in the queue. */
  readonly empty: boolean;
  /** R: at least one reply waits for DQAP. */
  readonly replies: boolean;
  /** F: the next NQAP would get QUEUE_FULL. */
  readonly full: boolean;
  /** A change that was asked for - a reset, interrupts on or off - has not happened yet. */
  readonly async: boolean;
  /** The queue signals its replies through the notification byte. */
  readonly irqEnabled: boolean;
}

const STATUS = {
  EMPTY: 0x8000_0000,
  REPLIES: 0x4000_0000,
  FULL: 0x2000_0000,
  ASYNC: 0x0200_0000,
  IRQ: 0x0100_0000,
  CODE_SHIFT: 16,
} as const;

/** The status word: the low 32 bits of general register 1. */
export const statusWord = (status: ApStatus): number =>
  (status.empty ? STATUS.EMPTY : 0) +
  (status.replies ? STATUS.REPLIES : 0) +
  (status.full ? STATUS.FULL : 0) +
  (status.async ? STATUS.ASYNC : 0) +
  (status.irqEnabled ? STATUS.IRQ : 0) +
  status.code * 2 ** STATUS.CODE_SHIFT;

/** Condition code of any AP instruction: 3 when there is something to read in the response code. */
export const conditionCode = (status: ApStatus): 0 | 3 => (status.code === RESPONSE.NORMAL ? 0 : 3);

/** What the guest gets who names a queue it does not have. */
export const NOT_AVAILABLE: ApStatus = Object.freeze({
  code: RESPONSE.QUEUE_NOT_AVAILABLE,
  empty: false,
  replies: false,
  full: false,
  async: false,
  irqEnabled: false,
});

const GR0 = { APQN: 0xffffn, RESERVED: 0x7f_0000n, TEST: 0x80_0000n, FUNCTION_SHIFT: 24n } as const;
const GR1 = { INTERRUPT: 0x8000_0000_0000n, ISC: 0x7n } as const;

/** General register 0 of PQAP: which function, which queue. */
export const pqapRegister0 = (code: number, apqn: Apqn): bigint => (BigInt(code) << GR0.FUNCTION_SHIFT) | BigInt(apqn);

/** General register 1 of PQAP(AQIC) that turns interrupts on, with the interruption subclass 0..7. Zero turns them off. */
export const aqicRegister1 = (isc: number): bigint => GR1.INTERRUPT | BigInt(isc);

/** General register 0 taken apart. `test`: the T bit, which asks TAPQ for what it answers anyway. */
export interface PqapRegister0 {
  readonly code: number;
  readonly apqn: Apqn;
  readonly reserved: boolean;
  readonly test: boolean;
}

export const decodePqap = (gr0: bigint): PqapRegister0 => ({
  code: Number((gr0 >> GR0.FUNCTION_SHIFT) & 0xffn),
  apqn: Number(gr0 & GR0.APQN),
  reserved: (gr0 & GR0.RESERVED) !== 0n,
  test: (gr0 & GR0.TEST) !== 0n,
});

/** General register 1 of AQIC taken apart. */
export const decodeAqic = (gr1: bigint): { enable: boolean; isc: number } => ({
  enable: (gr1 & GR1.INTERRUPT) !== 0n,
  isc: Number(gr1 & GR1.ISC),
});
