import type { ChannelProgram, HostOrb } from './channel-program.js';

/** Condition code of an I/O instruction: 0 done, 1 status pending, 2 busy (XSCH: nothing to cancel), 3 not operational. */
export type ConditionCode = 0 | 1 | 2 | 3;

/** What STSCH stores, as far as a driver looks at it. */
export interface SubchannelStatus {
  readonly enabled: boolean;
  /** Activity control bits of `SCSW`. */
  readonly activity: number;
  /** Paths that I/O has used, one bit each. */
  readonly lastPathUsed: number;
  /** Paths that are installed; absent: the first one. */
  readonly paths?: number;
  /** The whole block, 52 bytes. */
  readonly schib: Uint8Array;
}

/**
 * The host's subchannel, below the driver: its I/O instructions, one method each. All answer at once; the end of a
 * function is told by `onInterrupt`, never from within the call that started it. Source: drivers/s390/cio/cio.c, ioasm.c.
 */
export interface Subchannel {
  /**
   * Receives the IRB (96 bytes, host addresses) of every interruption. When a program's last one is told, nobody
   * touches its pages any more.
   */
  onInterrupt: (irb: Uint8Array) => void;
  /** STSCH. @returns undefined when the subchannel is gone. */
  stsch(): SubchannelStatus | undefined;
  /** MSCH that sets the enabled bit. cc 2: a function is in progress. */
  enable(enabled: boolean): ConditionCode;
  /** SSCH. `program`: whose copy the ORB points to. `operand-exception`: reserved bits are set. */
  ssch(orb: HostOrb, program: ChannelProgram): ConditionCode | 'operand-exception';
  hsch(): ConditionCode;
  csch(): ConditionCode;
  /** Ends a program that has not begun or is suspended, at once and without an interruption. */
  xsch(): ConditionCode;
  /**
   * The subchannel is lost for good. @returns what settles when nobody touches the program's pages any more, undefined
   * if that is so already. No interruption follows.
   */
  vanish(): Promise<void> | undefined;
  /** Paths come (again) or go, as mask bits: a start must not use one that has gone. */
  setPath?(mask: number, works: boolean): void;
  /** The unit behind it is as after power-on: on open and on reset of the device. */
  resetUnit?(): void;
  /** RSCH: a suspended program goes on. @returns whether there was one. */
  resume?(): boolean;
}
