import { type FrameRange, frameAddress, type PinningDeviceContext } from '@pinion/core';
import { ChannelPaths, type PathEvent } from './channel-paths.js';
import { ChannelProgram } from './channel-program.js';
import { ccwErrors } from './errors.js';
import { CancelHaltClear, QUIESCE_WAIT } from './quiesce.js';
import type { CcwQuirk } from './quirks.js';
import type { ConditionCode, Subchannel } from './subchannel.js';
import { ASYNC_COMMAND, decodeIrb, encodeIrb, ORB, type Orb, SCSW } from './wire.js';

/** Source: enum vfio_ccw_state. */
export type CcwState = 'not-oper' | 'standby' | 'idle' | 'cp-processing' | 'cp-pending';

export interface StateMachineRequest {
  readonly context: PinningDeviceContext;
  readonly subchannel: Subchannel;
  readonly quirks: ReadonlySet<CcwQuirk>;
  readonly reportLost: boolean;
  /** Receives every IRB (96 bytes, guest addresses) that the guest is to see. */
  readonly present: (irb: Uint8Array) => void;
  /** The subchannel is lost: whoever owns the device should remove it. */
  readonly lost: () => void;
}

/** Why a program is being ended: its interruption is told unless a reset or an unmapping wanted it. */
type Ending = 'reset' | 'unmap';

const FIRST_PATH = 0x80;
const STATUS = SCSW.ALERT | SCSW.INTERMEDIATE | SCSW.PRIMARY | SCSW.SECONDARY | SCSW.PENDING;
const DEFERRED_CC = 0x0300_0000;

/**
 * The states of one subchannel and what each event does in each of them. Source: vfio_ccw_fsm.c.
 *
 * | event | not-oper | standby | idle | cp-processing | cp-pending |
 * |---|---|---|---|---|---|
 * | start | EIO | EIO | runs | EAGAIN | EBUSY |
 * | halt, clear | EIO | EIO | done | EAGAIN | done |
 * | interruption | disables | disables | taken | taken | taken; the last one frees the program |
 * | open | - | idle | not-oper | not-oper | not-oper |
 * | close | - | not-oper | standby | standby | standby, the program ended |
 * | lost | - | not-oper | not-oper | not-oper | not-oper, the program freed |
 */
export class StateMachine {
  #state: CcwState = 'standby';
  #program: ChannelProgram | undefined;
  /** The last program, which knows what a host address that still turns up means. */
  #last: ChannelProgram | undefined;
  readonly #request: StateMachineRequest;
  readonly #subchannel: Subchannel;
  /** Ranges that are being unmapped right now: no new program may pin there. */
  readonly #leaving = new Set<FrameRange>();
  readonly #waiters = new Set<() => void>();
  #completion: () => void = () => {};
  #ending: Ending | undefined;
  /** The guest asked for a halt or clear whose interruption has not come. */
  #guestWaits = false;
  /** I/O of a lost subchannel that still touches pages. */
  #remains: Promise<void> | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #paths: ChannelPaths;

  constructor(request: StateMachineRequest) {
    this.#request = request;
    this.#subchannel = request.subchannel;
    this.#paths = new ChannelPaths(request.subchannel.stsch()?.paths ?? FIRST_PATH);
    this.#subchannel.onInterrupt = (irb) => this.interrupt(irb);
  }

  get state(): CcwState {
    return this.#state;
  }

  get pinnedPages(): number {
    return this.#program?.pages ?? 0;
  }

  /** Paths that a start uses by default, and paths that an operator allows. */
  get paths(): { readonly usable: number; readonly allowed: number } {
    return { usable: this.#paths.usable, allowed: this.#paths.allowed };
  }

  /** Settles when no program is in flight. */
  async whenIdle(): Promise<void> {
    if (this.#program === undefined) return this.#remains;
    await new Promise<void>((resolve) => this.#waiters.add(resolve));
  }

  // --- what the guest asks for

  /** @throws as `CcwDevice.start`. */
  start(orb: Orb): void {
    this.#checkStart();
    if ((orb.word1 & ORB.TRANSPORT) !== 0) throw ccwErrors.TRANSPORT_MODE({ device: this.#name });
    this.#state = 'cp-processing';
    try {
      this.#ssch(this.#prepare(orb));
      this.#state = 'cp-pending';
    } finally {
      if (this.#state === 'cp-processing') this.#state = 'idle';
    }
  }

  /** What a request without a start comes to: only its state counts. @throws as `CcwDevice.start`. */
  checkStart(): void {
    this.#checkStart();
  }

  /**
   * HSCH or CSCH. @returns 0, or the condition code of a CSCH that was refused (quirk `positive-return-code`).
   * @throws as `CcwDevice.halt`.
   */
  command(command: number): number {
    this.#checkReady();
    if (command === ASYNC_COMMAND.HALT) return this.#guestFunction('HSCH', this.#subchannel.hsch());
    if (command === ASYNC_COMMAND.CLEAR) return this.#guestFunction('CSCH', this.#subchannel.csch());
    throw ccwErrors.BAD_COMMAND({ device: this.#name, command });
  }

  // --- what the subchannel tells

  /** An interruption with this IRB (96 bytes, host addresses). */
  interrupt(irb: Uint8Array): void {
    if (this.#state === 'not-oper' || this.#state === 'standby') {
      this.#subchannel.enable(false);
      return;
    }
    const told = this.#translate(irb);
    const { word0 } = decodeIrb(irb);
    const final = (word0 & (SCSW.SUBCHANNEL_ACTIVE | SCSW.DEVICE_ACTIVE)) === 0;
    if (final && isSolicited(word0) && this.#state === 'cp-pending') {
      this.#free();
      this.#state = 'idle';
    }
    const silent = this.#isSilent(word0);
    if ((word0 & (SCSW.HALT | SCSW.CLEAR)) !== 0) this.#guestWaits = false;
    this.#completion();
    if (!silent) this.#request.present(told);
    this.#settle();
  }

  /**
   * A path (one mask bit) comes or goes. @returns false if it is not installed: nothing happens then.
   * Source: vfio_ccw_chp_event().
   */
  pathEvent(event: PathEvent, mask: number): boolean {
    if ((this.#paths.installed & mask) === 0) return false;
    if (event === 'online' || event === 'offline') this.#subchannel.setPath?.(mask, event === 'online');
    if (this.#paths.change(event, mask)) this.#stopPath(mask);
    return true;
  }

  /** The subchannel is lost. Pages go when nobody touches them any more. */
  async notOperational(): Promise<void> {
    if (this.#state !== 'not-oper') {
      this.#state = 'not-oper';
      this.#remains = this.#abandon();
      this.#completion();
      this.#request.lost();
    }
    await this.#remains;
  }

  // --- open, close, reset, unmap

  /** @throws nothing: look at `state`. */
  open(): void {
    if (this.#state === 'not-oper') return;
    if (this.#state === 'standby' && this.#subchannel.enable(true) === 0) this.#state = 'idle';
    else void this.notOperational();
  }

  /** @throws PinionError CCW_STUCK (EIO): the device is lost then, and its pages stay until their I/O ends. */
  async close(): Promise<void> {
    await this.#alone(async () => {
      await this.#prepared();
      await this.#close();
    });
  }

  async #close(): Promise<void> {
    if (this.#state === 'not-oper') return;
    if (this.#state === 'standby') return this.notOperational();
    let cc = this.#subchannel.enable(false);
    if (cc === 1 || cc === 2) cc = await this.#quiesce();
    if (this.#isLost()) return;
    if (cc !== 0) return this.notOperational();
    this.#state = 'standby';
    this.#guestWaits = false;
    this.#free();
    this.#settle();
  }

  /** Close, then open. */
  async reset(): Promise<void> {
    await this.close();
    this.open();
  }

  /** As `CcwDevice.dmaUnmap`. */
  async dmaUnmap(range: FrameRange): Promise<void> {
    this.#leaving.add(range);
    try {
      await this.#alone(async () => {
        await this.#prepared();
        while (this.#hits(range)) await this.#endProgram();
        await this.#remains;
      });
    } finally {
      this.#leaving.delete(range);
    }
  }

  // --- inside

  get #name(): string {
    return this.#request.context.name;
  }

  #quirk(name: CcwQuirk): boolean {
    return this.#request.quirks.has(name);
  }

  #checkReady(): void {
    const state = this.#state;
    if (state === 'not-oper' || state === 'standby') throw ccwErrors.NOT_OPERATIONAL({ device: this.#name, state });
    if (state === 'cp-processing') throw ccwErrors.PROCESSING({ device: this.#name });
  }

  #checkStart(): void {
    this.#checkReady();
    if (this.#state === 'cp-pending') throw ccwErrors.PENDING({ device: this.#name, cpa: this.#program?.orb.cpa ?? 0 });
  }

  /** @returns the program with its pages pinned. A throw leaves none. */
  #prepare(orb: Orb): ChannelProgram {
    const { dma, pins } = this.#request.context;
    const program = ChannelProgram.init(dma, orb, this.#request.quirks);
    program.prefetch(dma, pins);
    return program;
  }

  /** Hands the program to the channel; what is refused keeps no pages. */
  #ssch(program: ChannelProgram): void {
    try {
      this.#checkPrepared(program);
      const orb = program.hostOrb(0, this.#paths.usable);
      const cc = this.#subchannel.ssch(orb, program);
      if (cc !== 0) throw this.#refusedStart(cc, orb);
      this.#checkKept();
      this.#program = program;
      this.#last = program;
    } catch (refusal) {
      program.free();
      throw refusal;
    }
  }

  #checkPrepared(program: ChannelProgram): void {
    this.#checkKept();
    for (const range of this.#leaving)
      if (program.overlaps(range)) throw ccwErrors.RANGE_LEAVING({ device: this.#name, range });
  }

  /** Whether the subchannel was lost while its program was being prepared. */
  #checkKept(): void {
    if (this.#state !== 'cp-processing') throw ccwErrors.NOT_OPERATIONAL({ device: this.#name, state: this.#state });
  }

  /** Source: cio_start_handle_notoper(). */
  #refusedStart(cc: Exclude<ConditionCode, 0> | 'operand-exception', { word1 }: Orb): Error {
    const device = this.#name;
    if (cc === 'operand-exception') return ccwErrors.BAD_ORB({ device, word1 });
    if (cc !== 3) return ccwErrors.FUNCTION_BUSY({ device });
    const tried = (word1 & ORB.LPM) >>> 8;
    this.#paths.lose(tried);
    if (this.#paths.usable === 0 || this.#subchannel.stsch() === undefined)
      return ccwErrors.SUBCHANNEL_GONE({ device, instruction: 'SSCH' });
    return ccwErrors.PATH_LOST({ device });
  }

  #guestFunction(instruction: 'HSCH' | 'CSCH', cc: ConditionCode): number {
    const device = this.#name;
    if (cc === 3) throw ccwErrors.SUBCHANNEL_GONE({ device, instruction });
    if (cc === 0) this.#guestWaits = true;
    else if (instruction === 'HSCH' || !this.#quirk('positive-return-code')) throw ccwErrors.FUNCTION_BUSY({ device });
    return cc;
  }

  /** A host address means nothing to a guest. */
  #translate(irb: Uint8Array): Uint8Array {
    const told = irb.slice();
    const view = new DataView(told.buffer);
    const program = this.#program ?? this.#last;
    if (program !== undefined) view.setUint32(4, program.toGuest(view.getUint32(4)));
    return told;
  }

  /** A status that only a reset or an unmapping wanted is not the guest's. */
  #isSilent(word0: number): boolean {
    if (this.#ending === undefined || this.#quirk('quiesce-tells')) return false;
    return this.#ending === 'reset' || !this.#guestWaits || (word0 & (SCSW.HALT | SCSW.CLEAR)) === 0;
  }

  #stopPath(mask: number): void {
    const used = ((this.#subchannel.stsch()?.lastPathUsed ?? 0) & mask) !== 0;
    if (!used) return;
    if (this.#state === 'cp-pending' && !this.#quirk('path-strands-program'))
      this.#guestFunction('HSCH', this.#subchannel.hsch());
    else if (this.#state === 'cp-pending' || this.#quirk('path-halts-idle'))
      new CancelHaltClear(this.#subchannel).attempt();
  }

  /** Ends what is in progress and disables the subchannel. Source: vfio_ccw_sch_quiesce(). */
  async #quiesce(): Promise<ConditionCode> {
    const attempts = new CancelHaltClear(this.#subchannel);
    this.#ending = 'reset';
    try {
      for (;;) {
        const outcome = attempts.attempt();
        if (outcome === 'stuck') throw await this.#stuck();
        if (outcome === 'busy') await this.#completed();
        if (this.#isLost()) return 3;
        const cc = this.#subchannel.enable(false);
        if (cc !== 1 && cc !== 2) return cc;
      }
    } finally {
      this.#ending = undefined;
    }
  }

  /** The program in flight goes: its pages are given back, and the subchannel is idle. */
  async #endProgram(): Promise<void> {
    const attempts = new CancelHaltClear(this.#subchannel);
    this.#ending = 'unmap';
    const ended = this.#program;
    const told = this.#guestWaits;
    try {
      while (this.#program === ended && !this.#isLost()) {
        const outcome = this.#guestWaits ? 'busy' : attempts.attempt();
        if (outcome === 'stuck') throw await this.#stuck();
        if (outcome === 'gone') return await this.notOperational();
        if (outcome === 'busy') await this.#completed();
        else this.#cancelled();
      }
    } finally {
      this.#ending = undefined;
    }
    if (this.#request.reportLost && !told && !this.#isLost()) this.#tellLost(ended);
  }

  /** XSCH ended the program: no interruption will. */
  #cancelled(): void {
    this.#free();
    if (this.#state === 'cp-pending') this.#state = 'idle';
    this.#settle();
  }

  #tellLost(program: ChannelProgram | undefined): void {
    const word0 = SCSW.FORMAT1 | SCSW.CLEAR | SCSW.PENDING;
    const cpa = program?.orb.cpa ?? 0;
    this.#request.present(encodeIrb({ word0, cpa, deviceStatus: 0, channelStatus: 0, count: 0 }));
  }

  async #stuck(): Promise<Error> {
    void this.notOperational();
    return ccwErrors.STUCK({ device: this.#name });
  }

  #isLost(): boolean {
    return this.#state === 'not-oper';
  }

  /** The next interruption, or 3 s. */
  #completed(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#request.context.clock.after(QUIESCE_WAIT, () => done());
      const done = (): void => {
        cancel();
        this.#completion = () => {};
        resolve();
      };
      this.#completion = done;
    });
  }

  /** Gives the pages back now if nobody touches them, else when that is so. */
  #abandon(): Promise<void> | undefined {
    const touching = this.#subchannel.vanish();
    if (touching === undefined) {
      this.#free();
      this.#settle();
      return undefined;
    }
    return touching.then(() => {
      this.#free();
      this.#settle();
    });
  }

  #free(): void {
    this.#program?.free();
    this.#program = undefined;
  }

  #settle(): void {
    if (this.#program !== undefined) return;
    for (const waiter of this.#waiters) waiter();
    this.#waiters.clear();
  }

  #hits(range: FrameRange): boolean {
    const program = this.#program;
    if (program === undefined || this.#isLost()) return false;
    if (this.#quirk('first-iova-only')) return program.overlaps({ first: range.first, last: range.first });
    if (this.#quirk('byte-compare')) return program.beginsAt(frameAddress(range.first));
    return program.overlaps(range);
  }

  /** A start in progress ends with the caller's turn. */
  async #prepared(): Promise<void> {
    if (this.#state === 'cp-processing') await Promise.resolve();
  }

  /** Close, reset and unmappings of one device come one after the other. */
  async #alone(section: () => Promise<void>): Promise<void> {
    const before = this.#turn;
    const mine = before.then(section, section);
    this.#turn = mine.catch(() => {});
    await mine;
  }
}

/** Not just an alert out of the blue. Source: scsw_cmd_is_solicited(). */
const isSolicited = (word0: number): boolean =>
  (word0 & DEFERRED_CC) !== 0 || (word0 & STATUS) !== (SCSW.ALERT | SCSW.PENDING);
