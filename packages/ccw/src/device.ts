import {
  type FrameRange,
  type IrqInfo,
  type IrqSink,
  PinionError,
  type PinningDeviceContext,
  type PinningDeviceOps,
  type RegionInfo,
} from '@pinion/core';
import { ChannelEngine, type ProgramEnd } from './channel-engine.js';
import { ChannelProgram } from './channel-program.js';
import type { ControlUnit } from './control-unit.js';
import { ccwErrors } from './errors.js';
import type { CcwQuirk } from './quirks.js';
import {
  ASYNC_COMMAND,
  ASYNC_REGION,
  CCW_IRQ,
  decodeIrb,
  decodeOrb,
  encodeIrb,
  encodeOrb,
  IO_REGION,
  type Irb,
  ORB,
  type Orb,
  SCSW,
} from './wire.js';

/** Source: enum vfio_ccw_state. */
export type CcwState = 'not-oper' | 'standby' | 'idle' | 'cp-processing' | 'cp-pending';

/** What a driver's options mean for one device. */
export interface CcwDeviceOptions {
  readonly unit: ControlUnit;
  readonly quirks: ReadonlySet<CcwQuirk>;
  readonly reportLost: boolean;
}

/** A program in flight. `done` settles when its pages are given back and its end was told. */
interface Run {
  readonly program: ChannelProgram;
  readonly engine: ChannelEngine;
  readonly done: Promise<void>;
}

/** Who ends a program early: the guest, a reset or close, or an unmapping. */
type Stop = 'halt' | 'clear' | 'reset' | 'unmap';

const STOP_FUNCTION = { halt: SCSW.HALT, clear: SCSW.CLEAR, unmap: SCSW.CLEAR } as const;

/** Every 10th request for the device is worth a line in the log. Source: vfio_ccw_mdev_request(). */
const REQUEST_LOG_INTERVAL = 10;

const REGIONS: readonly RegionInfo[] = [
  { index: IO_REGION.index, name: 'io', size: IO_REGION.size, readable: true, writable: true },
  { index: ASYNC_REGION.index, name: 'async-command', size: ASYNC_REGION.size, readable: true, writable: true },
];
const IRQS: readonly IrqInfo[] = [
  { index: CCW_IRQ.IO, name: 'io', count: 1 },
  { index: CCW_IRQ.REQUEST, name: 'request', count: 1 },
];

/**
 * One subchannel with its control unit. A guest's start is a write of region 0 (or `start`): the program is copied,
 * its data pages are pinned, and it runs when the write has returned; its end is an IRB in region 0 and interrupt 0.
 * Its pages are pinned for exactly that long. Source: vfio_ccw_fsm.c, vfio_ccw_ops.c; recorded answers of Linux 6.12.
 *
 * | state | start | halt, clear |
 * |---|---|---|
 * | not-oper, standby | EIO | EIO |
 * | idle | runs | interrupt |
 * | cp-processing (inside a start) | EAGAIN | EAGAIN |
 * | cp-pending | EBUSY | ends the program, then interrupt |
 */
export class CcwDevice implements PinningDeviceOps {
  readonly regions = REGIONS;
  readonly irqs = IRQS;
  readonly #context: PinningDeviceContext;
  readonly #options: CcwDeviceOptions;
  readonly #io = new Uint8Array(IO_REGION.size);
  readonly #async = new Uint8Array(ASYNC_REGION.size);
  /** Ranges that are being unmapped right now: no new program may pin there. */
  readonly #leaving = new Set<FrameRange>();
  #state: CcwState = 'standby';
  #run: Run | undefined;
  #stop: Stop | undefined;
  #sink: IrqSink | undefined;

  constructor(context: PinningDeviceContext, options: CcwDeviceOptions) {
    this.#context = context;
    this.#options = options;
  }

  get name(): string {
    return this.#context.name;
  }

  get state(): CcwState {
    return this.#state;
  }

  /** Page references the program in flight holds. */
  get pinnedPages(): number {
    return this.#run?.program.pages ?? 0;
  }

  /** The IRB of the last interrupt (or what was last written there). */
  get irb(): Irb {
    return decodeIrb(this.#io.subarray(IO_REGION.irb));
  }

  /**
   * Settles when the program that is in flight now, if any, has ended: its pages are given back and its end was told.
   */
  async whenIdle(): Promise<void> {
    await this.#run?.done;
  }

  // --- what a guest asks for

  /**
   * SSCH: what a write of the whole region 0 does. When this returns the program is accepted and its pages are
   * pinned; it begins to run after the caller's turn. A throw leaves nothing pinned, and the region holds the ORB and
   * the negative errno.
   * @throws PinionError CCW_NOT_OPERATIONAL (EIO), CCW_PROCESSING, CCW_RANGE_LEAVING (EAGAIN), CCW_PENDING,
   * CCW_FUNCTION_BUSY (EBUSY), CCW_TRANSPORT_MODE (EOPNOTSUPP), CCW_BAD_ORB (EIO), CCW_CHAIN_TOO_LONG,
   * CCW_TOO_MANY_CHAINS (EINVAL), and those of the pin and DMA APIs.
   */
  start(orb: Orb): void {
    this.#io.set(encodeOrb(orb), IO_REGION.orb);
    setWord(this.#io, IO_REGION.scsw, SCSW.START);
    this.#ioRequest();
  }

  /** HSCH: ends the program in flight, if any; an interrupt with the halt function follows when it no longer touches
   * memory.
   *  @throws PinionError CCW_NOT_OPERATIONAL (EIO), CCW_PROCESSING (EAGAIN), CCW_FUNCTION_BUSY (EBUSY). */
  halt(): void {
    this.#asyncCommand(ASYNC_COMMAND.HALT);
  }

  /** CSCH: the same with the clear function; takes precedence over a halt that has not ended. */
  clear(): void {
    this.#asyncCommand(ASYNC_COMMAND.CLEAR);
  }

  /** @throws PinionError CCW_BAD_REGION (EINVAL). */
  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    bytes.set(this.#region(index, offset, bytes.length).subarray(offset, offset + bytes.length));
  }

  /**
   * Stores the bytes, also of a request that then fails, and acts on the region's whole content, as Linux does: a
   * partial write starts what the ORB and the START bit say by then. Without START, HALT or CLEAR in the SCSW nothing
   * is started, and unlike in Linux an old return code is not reported again.
   * @throws PinionError CCW_BAD_REGION (EINVAL), CCW_USE_ASYNC_REGION (EOPNOTSUPP), CCW_BAD_COMMAND (EINVAL), and
   * what `start` and `halt` throw.
   */
  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    const region = this.#region(index, offset, bytes.length);
    region.set(bytes, offset);
    if (region === this.#io) this.#ioRequest();
    else this.#asyncRequest();
  }

  // --- duties towards core

  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** @throws PinionError CCW_LOST (EINVAL). */
  open(): void {
    if (this.#state === 'not-oper') throw ccwErrors.LOST({ device: this.name });
    this.#options.unit.reset();
    this.#state = 'idle';
  }

  /** Ends the program in flight without an interrupt; regions keep their content. */
  async close(): Promise<void> {
    await this.#quiesce('reset');
    if (this.#state !== 'not-oper') this.#state = 'standby';
  }

  /** The same, and the control unit forgets what it knew. @throws PinionError CCW_LOST (EINVAL). */
  async reset(): Promise<void> {
    if (this.#state === 'not-oper') throw ccwErrors.LOST({ device: this.name });
    await this.#quiesce('reset');
    this.#options.unit.reset();
  }

  request(count: number): void {
    if ((count - 1) % REQUEST_LOG_INTERVAL === 0)
      this.#context.log.info(`${this.name}: somebody waits for this device to be closed (request ${count})`);
    this.#raise(CCW_IRQ.REQUEST);
  }

  async remove(): Promise<void> {
    await this.notOperational();
  }

  /** The subchannel is lost (hot unplug): the program in flight ends without an interrupt; from now on EIO. */
  async notOperational(): Promise<void> {
    this.#state = 'not-oper';
    await this.#quiesce('reset');
  }

  /**
   * A mapping goes away. If any page that the program in flight has pinned lies in `range`, the program ends as by a
   * reset: its disk I/O is waited for, all its pages are given back (also those outside of the range), and the
   * subchannel is idle. No interrupt tells, as in Linux, unless the driver's `reportLost` asks for one with the clear
   * function. Otherwise nothing happens to the program. While this runs, a start that would pin inside the range gets
   * CCW_RANGE_LEAVING. Source: vfio_ccw_dma_unmap(), threads/2022-07.
   */
  async dmaUnmap(range: FrameRange): Promise<void> {
    const watched = this.#options.quirks.has('first-iova-only') ? { first: range.first, last: range.first } : range;
    this.#leaving.add(watched);
    try {
      await this.#prepared();
      while (this.#run?.program.overlaps(watched) === true) await this.#quiesce('unmap');
    } finally {
      this.#leaving.delete(watched);
    }
  }

  // --- the state machine

  #ioRequest(): void {
    this.#answer(this.#io, IO_REGION.returnCode, () => {
      this.#checkReady();
      if (this.#run !== undefined) throw ccwErrors.PENDING({ device: this.name, cpa: this.#run.program.orb.cpa });
      const wanted = getWord(this.#io, IO_REGION.scsw);
      if ((wanted & SCSW.START) !== 0) this.#ssch(decodeOrb(this.#io.subarray(IO_REGION.orb)));
      else if ((wanted & (SCSW.HALT | SCSW.CLEAR)) !== 0) throw ccwErrors.USE_ASYNC_REGION({ device: this.name });
    });
  }

  #asyncCommand(command: number): void {
    setWord(this.#async, ASYNC_REGION.command, command);
    this.#asyncRequest();
  }

  #asyncRequest(): void {
    const command = getWord(this.#async, ASYNC_REGION.command);
    this.#answer(this.#async, ASYNC_REGION.returnCode, () => {
      this.#checkReady();
      if (command === ASYNC_COMMAND.HALT) this.#hsch();
      else if (command === ASYNC_COMMAND.CLEAR) this.#csch();
      else throw ccwErrors.BAD_COMMAND({ device: this.name, command });
    });
  }

  #checkReady(): void {
    const state = this.#state;
    if (state === 'not-oper' || state === 'standby') throw ccwErrors.NOT_OPERATIONAL({ device: this.name, state });
    if (state === 'cp-processing') throw ccwErrors.PROCESSING({ device: this.name });
  }

  /** Runs a request and leaves its outcome in the region: 0 or a negative errno. */
  #answer(region: Uint8Array, returnCode: number, request: () => void): void {
    try {
      request();
      setWord(region, returnCode, 0);
    } catch (failure) {
      if (failure instanceof PinionError) setWord(region, returnCode, -failure.code);
      throw failure;
    }
  }

  #ssch(orb: Orb): void {
    if (this.#stop !== undefined) throw ccwErrors.FUNCTION_BUSY({ device: this.name });
    if ((orb.word1 & ORB.TRANSPORT) !== 0) throw ccwErrors.TRANSPORT_MODE({ device: this.name });
    this.#state = 'cp-processing';
    try {
      this.#launch(this.#prepare(orb));
      this.#state = 'cp-pending';
    } finally {
      if (this.#state === 'cp-processing') this.#state = 'idle';
    }
  }

  /** @returns the program with its pages pinned. A throw leaves none. */
  #prepare(orb: Orb): ChannelProgram {
    const { dma, pins } = this.#context;
    const program = ChannelProgram.init(dma, orb);
    program.prefetch(dma, pins);
    try {
      this.#checkPrepared(program);
    } catch (refusal) {
      program.free();
      throw refusal;
    }
    return program;
  }

  #checkPrepared(program: ChannelProgram): void {
    const { word1 } = program.orb;
    if (this.#state !== 'cp-processing') throw ccwErrors.NOT_OPERATIONAL({ device: this.name, state: this.#state });
    if ((word1 & ORB.RESERVED) !== 0) throw ccwErrors.BAD_ORB({ device: this.name, word1 });
    for (const range of this.#leaving)
      if (program.overlaps(range)) throw ccwErrors.RANGE_LEAVING({ device: this.name, range });
  }

  #launch(program: ChannelProgram): void {
    const intermediate = (irb: Irb): void => this.#present(irb);
    const engine = new ChannelEngine({ program, unit: this.#options.unit, log: this.#context.log, intermediate });
    const done = engine.run().then((end) => this.#finish(program, end));
    this.#run = { program, engine, done };
    this.#stop = undefined;
  }

  #hsch(): void {
    if (this.#stop !== undefined) throw ccwErrors.FUNCTION_BUSY({ device: this.name });
    this.#end('halt');
  }

  #csch(): void {
    if (this.#stop === 'reset' || this.#stop === 'unmap') throw ccwErrors.FUNCTION_BUSY({ device: this.name });
    this.#end('clear');
  }

  #end(stop: 'halt' | 'clear'): void {
    this.#stop = stop;
    if (this.#run !== undefined) this.#run.engine.cancel();
    else queueMicrotask(() => this.#finishIdle());
  }

  /** A halt or clear that found no program: the same interrupt, after the request has returned. */
  #finishIdle(): void {
    const stop = this.#stop;
    if (this.#run !== undefined || stop === undefined) return;
    this.#stop = undefined;
    if (this.#state === 'idle') this.#tellStop(stop, this.irb);
  }

  /** The only place where a program's pages are given back after it ran. */
  #finish(program: ChannelProgram, end: ProgramEnd): void {
    const stop = this.#stop;
    program.free();
    this.#run = undefined;
    this.#stop = undefined;
    if (this.#state === 'cp-pending') this.#state = 'idle';
    if (stop === undefined) this.#present(end.irb);
    else this.#tellStop(stop, end.irb);
  }

  #tellStop(stop: Stop, last: Irb): void {
    if (stop === 'reset' || (stop === 'unmap' && !this.#options.reportLost)) return;
    const word0 = SCSW.FORMAT1 | STOP_FUNCTION[stop] | SCSW.PENDING;
    this.#present({ word0, cpa: last.cpa, deviceStatus: 0, channelStatus: 0, count: last.count });
  }

  /**
   * Stops the program in flight and waits until its pages are given back. After a reset nothing is told; an unmapping
   * leaves a halt or clear that the guest already asked for its interrupt.
   */
  async #quiesce(stop: 'reset' | 'unmap'): Promise<void> {
    await this.#prepared();
    const run = this.#run;
    if (run === undefined) {
      if (stop === 'reset') this.#stop = undefined;
      return;
    }
    this.#stop = stop === 'reset' ? stop : (this.#stop ?? stop);
    run.engine.cancel();
    await run.done;
  }

  /** A start in progress ends with the caller's turn. */
  async #prepared(): Promise<void> {
    if (this.#state === 'cp-processing') await Promise.resolve();
  }

  #present(irb: Irb): void {
    this.#io.set(encodeIrb(irb), IO_REGION.irb);
    this.#raise(CCW_IRQ.IO);
  }

  /** Whoever listens cannot break the device. */
  #raise(index: number): void {
    try {
      this.#sink?.(index, 0);
    } catch (cause) {
      this.#context.log.warn(`${this.name}: the receiver of interrupt ${index} failed`, cause);
    }
  }

  #region(index: number, offset: number, length: number): Uint8Array {
    const region = [this.#io, this.#async][index];
    if (region !== undefined && Number.isInteger(offset) && offset >= 0 && offset + length <= region.length)
      return region;
    throw ccwErrors.BAD_REGION({ device: this.name, index, offset, length });
  }
}

const getWord = (bytes: Uint8Array, offset: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset);
const setWord = (bytes: Uint8Array, offset: number, value: number): void =>
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, value >>> 0);
