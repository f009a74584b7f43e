import {
  type FrameRange,
  type IrqInfo,
  type IrqSink,
  PinionError,
  type PinningDeviceContext,
  type PinningDeviceOps,
  type RegionInfo,
} from '@pinion/core';
import type { PathEvent } from './channel-paths.js';
import { ccwErrors } from './errors.js';
import { type IrqSet, IrqTriggers, type Trigger } from './irq-triggers.js';
import type { CcwQuirk } from './quirks.js';
import { ReportQueue } from './report-queue.js';
import { type CcwState, StateMachine } from './state-machine.js';
import type { Subchannel } from './subchannel.js';
import {
  ASYNC_COMMAND,
  ASYNC_REGION,
  CCW_IRQ,
  CRW,
  CRW_REGION,
  decodeIrb,
  decodeOrb,
  encodeOrb,
  IO_REGION,
  type Irb,
  type Orb,
  SCHIB_REGION,
  SCSW,
} from './wire.js';

/** What a driver's options mean for one device. `lost`: the subchannel went; whoever owns the device should remove it. */
export interface CcwDeviceOptions {
  readonly subchannel: Subchannel;
  readonly quirks: ReadonlySet<CcwQuirk>;
  readonly reportLost: boolean;
  readonly lost: () => void;
}

/** Every 10th request for the device is worth a line in the log. Source: vfio_ccw_mdev_request(). */
const REQUEST_LOG_INTERVAL = 10;
/** Mask bit of path 0; path n is n bits below. */
const FIRST_PATH = 0x80;

const REGIONS: readonly RegionInfo[] = [
  { index: IO_REGION.index, name: 'io', size: IO_REGION.size, readable: true, writable: true },
  { index: ASYNC_REGION.index, name: 'async-command', size: ASYNC_REGION.size, readable: true, writable: true },
  { index: SCHIB_REGION.index, name: 'schib', size: SCHIB_REGION.size, readable: true, writable: false },
  { index: CRW_REGION.index, name: 'crw', size: CRW_REGION.size, readable: true, writable: false },
];
const IRQS: readonly IrqInfo[] = [
  { index: CCW_IRQ.IO, name: 'io', count: 1 },
  { index: CCW_IRQ.CRW, name: 'crw', count: 1 },
  { index: CCW_IRQ.REQUEST, name: 'request', count: 1 },
];

/** Moves the caller's bytes; false if its buffer cannot be reached. */
export type CopyBytes = (bytes: Uint8Array) => boolean;

/**
 * One subchannel as a VFIO device. A guest's start is a write of region 0 (or `start`): the program is copied, its data
 * pages are pinned, and it runs when the write has returned; its end is an IRB in region 0 and interrupt 0. Its pages
 * are pinned for exactly that long. States and events: see `StateMachine`.
 * Source: vfio_ccw_ops.c, vfio_ccw_async.c, vfio_ccw_chp.c; recorded answers of Linux 6.12.
 */
export class CcwDevice implements PinningDeviceOps {
  readonly regions = REGIONS;
  readonly irqs = IRQS;
  readonly #context: PinningDeviceContext;
  readonly #options: CcwDeviceOptions;
  readonly #machine: StateMachine;
  readonly #io = new Uint8Array(IO_REGION.size);
  readonly #async = new Uint8Array(ASYNC_REGION.size);
  readonly #reports = new ReportQueue();
  readonly #triggers: IrqTriggers;
  /** Somebody is inside a write. */
  #busy = false;
  #sink: IrqSink | undefined;

  constructor(context: PinningDeviceContext, options: CcwDeviceOptions) {
    this.#context = context;
    this.#options = options;
    this.#triggers = new IrqTriggers(options.quirks.has('irq-count-ignored'));
    const { subchannel, quirks, reportLost, lost } = options;
    const present = (irb: Uint8Array): void => this.#present(irb);
    this.#machine = new StateMachine({ context, subchannel, quirks, reportLost, present, lost });
  }

  get name(): string {
    return this.#context.name;
  }

  get state(): CcwState {
    return this.#machine.state;
  }

  /** Page references the program in flight holds. */
  get pinnedPages(): number {
    return this.#machine.pinnedPages;
  }

  /** The IRB of the last interrupt (or what was last written there). */
  get irb(): Irb {
    return decodeIrb(this.#io.subarray(IO_REGION.irb));
  }

  /** Paths that a start without a path mask uses, and paths that the operator allows; one bit each. */
  get paths(): { readonly usable: number; readonly allowed: number } {
    return this.#machine.paths;
  }

  /**
   * Settles when the program that is in flight now, if any, has ended: its pages are given back and its end was told.
   */
  whenIdle(): Promise<void> {
    return this.#machine.whenIdle();
  }

  // --- what a guest asks for

  /**
   * SSCH: what a write of the whole region 0 does. When this returns the program is accepted and its pages are
   * pinned; it begins to run after the caller's turn. A throw leaves nothing pinned, and the region holds the ORB and
   * the negative errno.
   * @throws PinionError CCW_NOT_OPERATIONAL (EIO), CCW_PROCESSING, CCW_RANGE_LEAVING (EAGAIN), CCW_PENDING,
   * CCW_FUNCTION_BUSY (EBUSY), CCW_TRANSPORT_MODE (EOPNOTSUPP), CCW_BAD_ORB (EIO), CCW_CHAIN_TOO_LONG,
   * CCW_TOO_MANY_CHAINS (EINVAL), CCW_SUBCHANNEL_GONE (ENODEV), CCW_PATH_LOST (EACCES), and those of the pin and DMA APIs.
   */
  start(orb: Orb): void {
    this.#io.set(encodeOrb(orb), IO_REGION.orb);
    setWord(this.#io, IO_REGION.scsw, SCSW.START);
    this.#ioRequest();
  }

  /** HSCH: ends the program in flight, if any; an interrupt with the halt function follows when it no longer touches
   * memory.
   *  @throws PinionError CCW_NOT_OPERATIONAL (EIO), CCW_PROCESSING (EAGAIN), CCW_FUNCTION_BUSY (EBUSY),
   *  CCW_SUBCHANNEL_GONE (ENODEV). */
  halt(): void {
    setWord(this.#async, ASYNC_REGION.command, ASYNC_COMMAND.HALT);
    this.#asyncRequest();
  }

  /** CSCH: the same with the clear function; takes precedence over a halt that has not ended. */
  clear(): void {
    setWord(this.#async, ASYNC_REGION.command, ASYNC_COMMAND.CLEAR);
    this.#asyncRequest();
  }

  /** RSCH, which no region of vfio-ccw can ask for: a suspended program goes on. @returns whether there was one. */
  resume(): boolean {
    return this.#options.subchannel.resume?.() ?? false;
  }

  /** STSCH: the 52 bytes of region 2. @throws PinionError CCW_SUBCHANNEL_GONE (ENODEV). */
  schib(): Uint8Array {
    const status = this.#options.subchannel.stsch();
    if (status === undefined) throw ccwErrors.SUBCHANNEL_GONE({ device: this.name, instruction: 'STSCH' });
    return status.schib;
  }

  /**
   * Reading region 3 takes the oldest report off the queue; if more are left, interrupt 1 comes again.
   * @throws PinionError CCW_BAD_REGION (EINVAL), CCW_SUBCHANNEL_GONE (ENODEV).
   */
  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#read({ index, offset, length: bytes.length }, (source) => {
      bytes.set(source);
      return true;
    });
  }

  /**
   * Stores the bytes, also of a request that then fails, and acts on the region's whole content, as Linux does: a
   * partial write starts what the ORB and the START bit say by then. Without START, HALT or CLEAR in the SCSW nothing
   * is started, and unlike in Linux an old return code is not reported again.
   * @throws PinionError CCW_BAD_REGION (EINVAL), CCW_READ_ONLY_REGION (EINVAL), CCW_REGION_BUSY (EAGAIN),
   * CCW_USE_ASYNC_REGION (EOPNOTSUPP), CCW_BAD_COMMAND (EINVAL), and what `start` and `halt` throw.
   */
  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    const code = this.#write({ index, offset, length: bytes.length }, (target) => {
      target.set(bytes);
      return true;
    });
    if (code < 0) throw ccwErrors.STALE_CODE({ device: this.name, code });
  }

  /**
   * pread(2) of a region. `copy` gets the bytes. @returns the number of bytes, or a negative errno: as `readRegion`
   * throws, and EFAULT.
   */
  pread(access: RegionAccess, copy: CopyBytes): number {
    return this.#answered(() => {
      this.#read(access, copy);
      return access.length;
    });
  }

  /** pwrite(2) of a region. `copy` fills the bytes, and may run long. @returns as `pread`, as `writeRegion` throws. */
  pwrite(access: RegionAccess, copy: CopyBytes): number {
    return this.#answered(() => this.#write(access, copy));
  }

  /** VFIO_DEVICE_SET_IRQS. @throws as `IrqTriggers.set`. */
  setIrqs(request: IrqSet, open: (descriptor: number) => Trigger): void {
    this.#triggers.set(request, open);
  }

  // --- duties towards core

  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** @throws PinionError CCW_LOST (EINVAL). */
  open(): void {
    this.#options.subchannel.resetUnit?.();
    this.#machine.open();
    this.#checkKept();
  }

  /** Ends the program in flight without an interrupt; regions keep their content. @throws PinionError CCW_STUCK (EIO). */
  close(): Promise<void> {
    return this.#machine.close();
  }

  /** The same, and the control unit forgets what it knew. @throws PinionError CCW_LOST (EINVAL), CCW_STUCK (EIO). */
  async reset(): Promise<void> {
    this.#checkKept();
    await this.#machine.close();
    this.#options.subchannel.resetUnit?.();
    this.#machine.open();
    this.#checkKept();
  }

  request(count: number): void {
    if (count % REQUEST_LOG_INTERVAL === 0)
      this.#context.log.info(`${this.name}: somebody waits for this device to be closed (request ${count})`);
    this.#raise(CCW_IRQ.REQUEST);
  }

  async remove(): Promise<void> {
    await this.notOperational();
  }

  /** The subchannel is lost (hot unplug): the program in flight ends without an interrupt; from now on EIO. */
  notOperational(): Promise<void> {
    return this.#machine.notOperational();
  }

  /** Somebody looked at the subchannel: if it is gone, so is the device. Source: vfio_ccw_sch_event(). */
  checkSubchannel(): void {
    if (this.#options.subchannel.stsch() === undefined) void this.notOperational();
  }

  /**
   * The channel path `path` (0..7; nothing happens for one that is not installed) comes or goes. `offline` and `online` queue a report in region 3, with
   * interrupt 1; `offline` and `vary-off` halt a program in flight that uses the path. Source: vfio_ccw_chp_event().
   */
  pathEvent(event: PathEvent, path = 0): void {
    if (!this.#machine.pathEvent(event, FIRST_PATH >> path)) return;
    if (event === 'online') this.#report(CRW.PATH_AVAILABLE | path);
    if (event === 'offline') this.#report(CRW.PATH_GONE | path);
  }

  /**
   * A mapping goes away. If any page that the program in flight has pinned lies in `range`, the program ends as by a
   * reset: its disk I/O is waited for, all its pages are given back (also those outside of the range), and the
   * subchannel is idle. No interrupt tells, as in Linux, unless the driver's `reportLost` asks for one with the clear
   * function. Otherwise nothing happens to the program. While this runs, a start that would pin inside the range gets
   * CCW_RANGE_LEAVING. @throws PinionError CCW_STUCK (EIO). Source: vfio_ccw_dma_unmap(), threads/2022-07.
   */
  dmaUnmap(range: FrameRange): Promise<void> {
    return this.#machine.dmaUnmap(range);
  }

  // --- regions

  #read({ index, offset, length }: RegionAccess, copy: CopyBytes): void {
    this.#checkAccess(index, offset, length);
    const source = this.#content(index);
    const pops = index === CRW_REGION.index && this.#options.quirks.has('crw-read-pops');
    if (pops) this.#reports.shift();
    const copied = copy(source.slice(offset, offset + length));
    if (!copied) throw ccwErrors.BAD_BUFFER({ device: this.name });
    if (index !== CRW_REGION.index) return;
    if (!pops && offset === 0 && length >= 4) this.#reports.shift();
    if (this.#reports.length > 0) this.#raise(CCW_IRQ.CRW);
  }

  #content(index: number): Uint8Array {
    if (index === SCHIB_REGION.index) return this.schib();
    if (index !== CRW_REGION.index) return index === IO_REGION.index ? this.#io : this.#async;
    const bytes = new Uint8Array(CRW_REGION.size);
    setWord(bytes, CRW_REGION.word, this.#reports.oldest);
    return bytes;
  }

  /** @returns what pwrite(2) would. */
  #write({ index, offset, length }: RegionAccess, copy: CopyBytes): number {
    this.#checkAccess(index, offset, length);
    if (index > ASYNC_REGION.index) throw ccwErrors.READ_ONLY_REGION({ device: this.name, index });
    if (this.#busy) throw ccwErrors.REGION_BUSY({ device: this.name });
    this.#busy = true;
    try {
      this.#fill(index === IO_REGION.index ? this.#io : this.#async, { offset, length, copy });
      const code = index === IO_REGION.index ? this.#ioRequest() : this.#asyncRequest();
      return code === 0 ? length : code;
    } finally {
      this.#busy = false;
    }
  }

  #fill(region: Uint8Array, what: { offset: number; length: number; copy: CopyBytes }): void {
    const bytes = region.slice(what.offset, what.offset + what.length);
    const copied = what.copy(bytes);
    if (copied) {
      region.set(bytes, what.offset);
      return;
    }
    if (this.#options.quirks.has('failed-copy-clears')) region.fill(0, what.offset, what.offset + what.length);
    throw ccwErrors.BAD_BUFFER({ device: this.name });
  }

  /** @returns a stale return code, else 0. */
  #ioRequest(): number {
    return this.#answer(this.#io, IO_REGION.returnCode, () => {
      const wanted = getWord(this.#io, IO_REGION.scsw);
      if ((wanted & SCSW.START) !== 0) {
        this.#machine.start(decodeOrb(this.#io.subarray(IO_REGION.orb)));
        return 0;
      }
      this.#machine.checkStart();
      if ((wanted & (SCSW.HALT | SCSW.CLEAR)) !== 0) throw ccwErrors.USE_ASYNC_REGION({ device: this.name });
      return this.#options.quirks.has('stale-return-code') ? getWord(this.#io, IO_REGION.returnCode) | 0 : 0;
    });
  }

  #asyncRequest(): number {
    const command = getWord(this.#async, ASYNC_REGION.command);
    return this.#answer(this.#async, ASYNC_REGION.returnCode, () => this.#machine.command(command));
  }

  /** Runs a request and leaves its outcome in the region: its code, or a negative errno. */
  #answer(region: Uint8Array, returnCode: number, request: () => number): number {
    try {
      const code = request();
      setWord(region, returnCode, code);
      return code;
    } catch (failure) {
      if (failure instanceof PinionError) setWord(region, returnCode, -failure.code);
      throw failure;
    }
  }

  #answered(request: () => number): number {
    try {
      return request();
    } catch (failure) {
      if (failure instanceof PinionError) return -failure.code;
      throw failure;
    }
  }

  #checkAccess(index: number, offset: number, length: number): void {
    const region = REGIONS[index];
    if (region !== undefined && Number.isInteger(offset) && offset >= 0 && offset + length <= region.size) return;
    throw ccwErrors.BAD_REGION({ device: this.name, index, offset, length });
  }

  #checkKept(): void {
    if (this.state === 'not-oper') throw ccwErrors.LOST({ device: this.name });
  }

  // --- interrupts

  #present(irb: Uint8Array): void {
    this.#io.set(irb, IO_REGION.irb);
    this.#raise(CCW_IRQ.IO);
  }

  #report(word: number): void {
    this.#reports.push(word);
    this.#raise(CCW_IRQ.CRW);
  }

  /** Whoever listens cannot break the device. */
  #raise(index: number): void {
    try {
      this.#triggers.signal(index);
      this.#sink?.(index, 0);
    } catch (cause) {
      this.#context.log.warn(`${this.name}: the receiver of interrupt ${index} failed`, cause);
    }
  }
}

/** Bytes of one region. */
export interface RegionAccess {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

const getWord = (bytes: Uint8Array, offset: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset);
const setWord = (bytes: Uint8Array, offset: number, value: number): void =>
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, value >>> 0);
