/** Names and numbers of the NVM Express Base Specification 1.4 (sections in brackets). */

/** Controller registers in BAR 0 [3.1]. */
export const REGISTER = {
  CAP_LOW: 0x00,
  CAP_HIGH: 0x04,
  VS: 0x08,
  INTMS: 0x0c,
  INTMC: 0x10,
  CC: 0x14,
  CSTS: 0x1c,
  AQA: 0x24,
  ASQ_LOW: 0x28,
  ASQ_HIGH: 0x2c,
  ACQ_LOW: 0x30,
  ACQ_HIGH: 0x34,
  DOORBELLS: 0x1000,
} as const;

/** Where MSI-X structures are in BAR 0, and how long it is. */
export const BAR = { SIZE: 0x4000, MSIX_TABLE: 0x2000, MSIX_PBA: 0x3000 } as const;

export const CC = { EN: 1, CSS: 0x70, MPS: 0x780, SHN: 0xc000, IOSQES: 0xf_0000, IOCQES: 0xf0_0000 } as const;
export const CSTS = { RDY: 0x1, CFS: 0x2, SHUTTING_DOWN: 0x4, SHUT_DOWN: 0x8, SHST: 0xc } as const;
/** Version 1.4.0. */
export const VERSION = 0x0001_0400;

/** Bytes of a queue's entries, and their exponents in CC. */
export const ENTRY = { SUBMISSION: 64, COMPLETION: 16, IOSQES: 6, IOCQES: 4 } as const;
/** Most entries of a queue (CAP.MQES + 1), and most I/O queues of each kind. */
export const LIMIT = { ENTRIES: 1024, QUEUES: 64, TRANSFER_EXPONENT: 8, EVENTS: 4, ABORTS: 4, ERRORS: 16 } as const;
/** Bytes that one command moves at most: 2^MDTS pages. */
export const MAX_TRANSFER = 4096 << LIMIT.TRANSFER_EXPONENT;

/** Admin opcodes [5]. */
export const ADMIN = {
  DELETE_SQ: 0x00,
  CREATE_SQ: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_CQ: 0x04,
  CREATE_CQ: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT: 0x0c,
} as const;

/** I/O opcodes [6]. */
export const IO = { FLUSH: 0x00, WRITE: 0x01, READ: 0x02, WRITE_ZEROES: 0x08 } as const;
export const FORCE_UNIT_ACCESS = 0x4000_0000;

/** Status codes, with the type in bits 8-10 and Do Not Retry in bit 14 [4.6.1]. */
export const STATUS = {
  SUCCESS: 0x000,
  INVALID_OPCODE: 0x4001,
  INVALID_FIELD: 0x4002,
  ID_CONFLICT: 0x4003,
  DATA_TRANSFER_ERROR: 0x0004,
  INTERNAL: 0x0006,
  ABORT_REQUESTED: 0x0007,
  INVALID_NAMESPACE: 0x400b,
  SEQUENCE_ERROR: 0x400c,
  INVALID_PRP_OFFSET: 0x4013,
  LBA_OUT_OF_RANGE: 0x4080,
  CQ_INVALID: 0x4100,
  INVALID_QUEUE_ID: 0x4101,
  INVALID_QUEUE_SIZE: 0x4102,
  ABORT_LIMIT: 0x0103,
  EVENT_LIMIT: 0x0105,
  INVALID_VECTOR: 0x4108,
  INVALID_LOG_PAGE: 0x4109,
  INVALID_QUEUE_DELETION: 0x410c,
  NOT_SAVEABLE: 0x410d,
  NOT_CHANGEABLE: 0x410e,
  READ_ONLY: 0x4182,
  WRITE_FAULT: 0x0280,
  READ_ERROR: 0x0281,
} as const;
/** Fifteen bits: status code, type, more, do not retry. */
export type Status = number;

/** Features [5.21.1]. */
export const FEATURE = {
  ARBITRATION: 0x01,
  POWER: 0x02,
  TEMPERATURE: 0x04,
  ERROR_RECOVERY: 0x05,
  WRITE_CACHE: 0x06,
  QUEUES: 0x07,
  COALESCING: 0x08,
  VECTOR: 0x09,
  ATOMICITY: 0x0a,
  EVENTS: 0x0b,
} as const;

/** Log pages [5.14.1]. */
export const LOG = { ERRORS: 0x01, HEALTH: 0x02, FIRMWARE: 0x03, CHANGED: 0x04, EFFECTS: 0x05 } as const;

/** Identify, CNS [5.15.1]. */
export const IDENTIFY = { NAMESPACE: 0x00, CONTROLLER: 0x01, ACTIVE: 0x02, DESCRIPTORS: 0x03 } as const;

/** Asynchronous events of type error [5.2.1]. */
export const EVENT = { TYPE_ERROR: 0, INVALID_DOORBELL: 0, INVALID_DOORBELL_VALUE: 1 } as const;

/** The only namespace, and the word for all of them. */
export const NAMESPACE = 1;
export const ALL_NAMESPACES = 0xffff_ffff;
