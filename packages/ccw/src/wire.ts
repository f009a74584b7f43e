/**
 * Words that go between the guest, the channel subsystem and the region of a vfio-ccw device. All are big-endian.
 * Source: z/Architecture Principles of Operation, "I/O"; include/uapi/linux/vfio_ccw.h.
 *
 * A CCW address, a CPA and a TIC target are 31-bit byte addresses and are held as plain numbers here; data addresses
 * are 64 bits wide and are bigint.
 */

/** Bits of word 1 of an operation request block. */
export const ORB = {
  SUSPEND: 0x0800_0000,
  FORMAT1: 0x0080_0000,
  PREFETCH: 0x0040_0000,
  TRANSPORT: 0x0004_0000,
  /** Indirect lists hold 64-bit words (H). */
  IDAW64: 0x0002_0000,
  /** Indirect words step by 2 KiB (T). */
  BLOCKS_2K: 0x0001_0000,
  LPM: 0x0000_ff00,
  /** Must be zero: SSCH ends with an operand exception. */
  RESERVED: 0x0000_007e,
} as const;

/** An operation request block: what SSCH takes. `word1`: bits of `ORB`; `cpa`: address of the first CCW. */
export interface Orb {
  readonly intparm: number;
  readonly word1: number;
  readonly cpa: number;
}

export const ORB_SIZE = 12;

/** An ORB for format-1 CCWs and format-2 indirect lists of 4 KiB blocks, as today's guests use; `extra` adds bits. */
export const commandOrb = (cpa: number, extra = 0): Orb => ({
  intparm: 0,
  word1: (ORB.FORMAT1 | ORB.PREFETCH | ORB.IDAW64 | ORB.LPM | extra) >>> 0,
  cpa,
});

export const encodeOrb = (orb: Orb): Uint8Array => words(orb.intparm, orb.word1, orb.cpa);

/** @param bytes at least 12 bytes. */
export function decodeOrb(bytes: Uint8Array): Orb {
  const view = viewOf(bytes);
  return { intparm: view.getUint32(0), word1: view.getUint32(4), cpa: view.getUint32(8) };
}

/** CCW flags. */
export const CCW_FLAG = {
  CHAIN_DATA: 0x80,
  CHAIN_COMMAND: 0x40,
  /** Suppress the incorrect-length indication. */
  SLI: 0x20,
  SKIP: 0x10,
  /** Program-controlled interruption. */
  PCI: 0x08,
  /** The address leads to a list of indirect data address words. */
  IDA: 0x04,
  SUSPEND: 0x02,
  MIDA: 0x01,
} as const;

export const CCW_SIZE = 8;
/** Transfer in channel. */
export const TIC = 0x08;

/** A channel command word, whatever its format was. `address`: 31 bits; `count`: bytes, 0..65535. */
export interface Ccw {
  readonly command: number;
  readonly flags: number;
  readonly count: number;
  readonly address: number;
}

/** A format-1 CCW, 8 bytes. */
export function encodeCcw(ccw: Ccw): Uint8Array {
  return words(((ccw.command << 24) | (ccw.flags << 16) | ccw.count) >>> 0, ccw.address);
}

/** @param bytes at least 8 bytes: a format-1 CCW. */
export function decodeCcw(bytes: Uint8Array): Ccw {
  const view = viewOf(bytes);
  return { command: view.getUint8(0), flags: view.getUint8(1), count: view.getUint16(2), address: view.getUint32(4) };
}

/**
 * @param bytes at least 8 bytes: a format-0 CCW. Any command that ends in 8 is a TIC, and a TIC has neither flags nor
 * count.
 */
export function decodeCcw0(bytes: Uint8Array): Ccw {
  const view = viewOf(bytes);
  const address = view.getUint32(0) & 0x00ff_ffff;
  if ((view.getUint8(0) & 0x0f) === TIC) return { command: TIC, flags: 0, count: 0, address };
  return { command: view.getUint8(0), flags: view.getUint8(4), count: view.getUint16(6), address };
}

export const isTic = (ccw: Ccw): boolean => ccw.command === TIC;
/** The next CCW belongs to the program because of this one's flags. */
export const isChained = (ccw: Ccw): boolean => (ccw.flags & (CCW_FLAG.CHAIN_DATA | CCW_FLAG.CHAIN_COMMAND)) !== 0;

const COMMAND_NOP = 0x03;
const storesData = (command: number): boolean =>
  (command & 0x03) === 0x02 || (command & 0x0f) === 0x0c || (command & 0x0f) === 0x04;

/** Whether bytes of guest memory move: only then are pages pinned. Source: ccw_does_data_transfer(). */
export function movesData(ccw: Ccw): boolean {
  if (ccw.count === 0 || ccw.command === COMMAND_NOP) return false;
  return (ccw.flags & CCW_FLAG.SKIP) === 0 || !storesData(ccw.command);
}

/** Function control, activity control and status control of word 0 of a subchannel status word. */
export const SCSW = {
  START: 0x4000,
  HALT: 0x2000,
  CLEAR: 0x1000,
  RESUME_PENDING: 0x0800,
  START_PENDING: 0x0400,
  HALT_PENDING: 0x0200,
  CLEAR_PENDING: 0x0100,
  SUBCHANNEL_ACTIVE: 0x0080,
  DEVICE_ACTIVE: 0x0040,
  SUSPENDED: 0x0020,
  ALERT: 0x10,
  INTERMEDIATE: 0x08,
  PRIMARY: 0x04,
  SECONDARY: 0x02,
  PENDING: 0x01,
  /** Format-1 CCWs. */
  FORMAT1: 0x0080_0000,
  /** The extended control word holds sense bytes. */
  EXTENDED: 0x0002_0000,
} as const;

/** Device status. */
export const DEVICE_STATUS = {
  ATTENTION: 0x80,
  MODIFIER: 0x40,
  CONTROL_UNIT_END: 0x20,
  BUSY: 0x10,
  CHANNEL_END: 0x08,
  DEVICE_END: 0x04,
  UNIT_CHECK: 0x02,
  UNIT_EXCEPTION: 0x01,
} as const;

/** Subchannel status. */
export const CHANNEL_STATUS = {
  PCI: 0x80,
  INCORRECT_LENGTH: 0x40,
  PROGRAM_CHECK: 0x20,
  PROTECTION_CHECK: 0x10,
  DATA_CHECK: 0x08,
  CONTROL_CHECK: 0x04,
  INTERFACE_CHECK: 0x02,
  CHAINING_CHECK: 0x01,
} as const;

/**
 * What an interruption tells. `word0`: bits of `SCSW`; `cpa`: guest address of the last CCW used, plus 8; `count`:
 * residual bytes of that CCW; `sense`: 32 bytes, present after a unit check.
 */
export interface Irb {
  readonly word0: number;
  readonly cpa: number;
  readonly deviceStatus: number;
  readonly channelStatus: number;
  readonly count: number;
  readonly sense?: Uint8Array;
  /** Mask bit of the path that was used last; default 80, the first one. */
  readonly lastPathUsed?: number;
}

export const IRB_SIZE = 96;
export const SENSE_SIZE = 32;
const ESW = 12;
const ECW = 32;
/** Extended status, byte 1: the path that was used last. */
const LAST_PATH_USED = ESW + 1;
const FIRST_PATH = 0x80;
/** Extended report word: concurrent sense, 32 bytes. */
const CONCURRENT_SENSE = 0x0100_0000 | (SENSE_SIZE << 16);

/** The 96 bytes of an interruption response block: SCSW, extended status, extended control (sense), measurement. */
export function encodeIrb(irb: Irb): Uint8Array {
  const bytes = new Uint8Array(IRB_SIZE);
  const view = viewOf(bytes);
  view.setUint32(0, irb.word0);
  view.setUint32(4, irb.cpa);
  view.setUint32(8, ((irb.deviceStatus << 24) | (irb.channelStatus << 16) | irb.count) >>> 0);
  view.setUint8(LAST_PATH_USED, irb.lastPathUsed ?? FIRST_PATH);
  if (irb.sense === undefined) return bytes;
  view.setUint32(0, irb.word0 | SCSW.EXTENDED);
  view.setUint32(ESW + 4, CONCURRENT_SENSE);
  bytes.set(irb.sense.subarray(0, SENSE_SIZE), ECW);
  return bytes;
}

/** @param bytes at least 96 bytes. */
export function decodeIrb(bytes: Uint8Array): Irb {
  const view = viewOf(bytes);
  const word0 = view.getUint32(0);
  return {
    word0,
    cpa: view.getUint32(4),
    deviceStatus: view.getUint8(8),
    channelStatus: view.getUint8(9),
    count: view.getUint16(10),
    ...((word0 & SCSW.EXTENDED) === 0 ? {} : { sense: bytes.slice(ECW, ECW + SENSE_SIZE) }),
  };
}

/** Offsets in bytes in region 0: ORB, SCSW (what to do), IRB (what happened), return code as a negative errno. */
export const IO_REGION = { index: 0, size: 124, orb: 0, scsw: 12, irb: 24, returnCode: 120 } as const;
/** Offsets in bytes in region 1. */
export const ASYNC_REGION = { index: 1, size: 8, command: 0, returnCode: 4 } as const;
/** Commands of region 1. */
export const ASYNC_COMMAND = { HALT: 1, CLEAR: 2 } as const;
/** Region 2, read only: the subchannel information block as STSCH stores it. */
export const SCHIB_REGION = { index: 2, size: 52 } as const;
/** Region 3, read only: offsets in bytes of the oldest channel report word (0 if there is none). */
export const CRW_REGION = { index: 3, size: 8, word: 0 } as const;
/** Interrupt indexes: a status in region 0; a report in region 3; the device is wanted back. */
export const CCW_IRQ = { IO: 0, CRW: 1, REQUEST: 2 } as const;

export const SCHIB_SIZE = 52;
/** Offsets in bytes in a subchannel information block, and the bits of its flags word. Source: struct pmcw. */
export const SCHIB = {
  intparm: 0,
  flags: 4,
  logicalPaths: 8,
  lastPathUsed: 10,
  pathsInstalled: 11,
  pathsOperational: 14,
  pathsAvailable: 15,
  pathIdentifiers: 16,
  scsw: 28,
  ENABLED: 0x0080_0000,
  VALID: 0x0001_0000,
} as const;

/** Channel report words: the source is a channel path. Source: CRW_RSC_CPATH, CRW_ERC_INIT, CRW_ERC_PERRN. */
export const CRW = { PATH_AVAILABLE: 0x0402_0000, PATH_GONE: 0x0406_0000 } as const;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = viewOf(bytes);
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value);
  return bytes;
}
