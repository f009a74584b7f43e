import type { Log } from '@pinion/core';
import { ChannelEngine, type ProgramEnd } from './channel-engine.js';
import type { ChannelProgram, HostOrb } from './channel-program.js';
import type { ControlUnit } from './control-unit.js';
import { ccwErrors } from './errors.js';
import type { ConditionCode, Subchannel, SubchannelStatus } from './subchannel.js';
import { encodeIrb, type Irb, ORB, SCHIB, SCHIB_SIZE, SCSW } from './wire.js';

/** The first path of a subchannel; the others are the bits below it. */
export const FIRST_PATH = 0x80;
const PATHS_MAX = 8;

interface Run {
  readonly engine: ChannelEngine;
  readonly ended: Promise<void>;
}

type Stop = 'halt' | 'clear';
const FUNCTION = { halt: SCSW.HALT, clear: SCSW.CLEAR } as const;
const PENDING = { halt: SCSW.HALT_PENDING, clear: SCSW.CLEAR_PENDING } as const;

/** `paths`: how many lead to the unit, 1 (the default) to 8. Path n is mask bit 0x80 >> n, its identifier is n. */
export interface EngineSubchannelOptions {
  readonly log: Log;
  readonly paths?: number;
}

/**
 * A subchannel with a `ChannelEngine` and a control unit behind it. A program begins after the turn of whoever started
 * it; a halt or clear ends it when its I/O has ended. Statuses are presented at once, so none is ever pending (cc 1).
 * A start takes the first path that its mask names and that works. What the unit tells unasked waits for the program's end.
 */
export class EngineSubchannel implements Subchannel {
  onInterrupt: (irb: Uint8Array) => void = () => {};
  readonly #unit: ControlUnit;
  readonly #log: Log;
  #enabled = false;
  #gone = false;
  #run: Run | undefined;
  #stop: Stop | undefined;
  #lastPathUsed = 0;
  /** Device status that the unit told while a program ran, or 0. */
  #signalled = 0;
  readonly #installed: number;
  #working: number;
  #lastCpa = 0;
  #lastCount = 0;

  /** @throws PinionError CCW_BAD_PATHS (EINVAL). */
  constructor(unit: ControlUnit, { log, paths = 1 }: EngineSubchannelOptions) {
    if (!Number.isInteger(paths) || paths < 1 || paths > PATHS_MAX)
      throw ccwErrors.BAD_PATHS({ unit: unit.name, paths });
    this.#unit = unit;
    this.#log = log;
    this.#installed = (0xff00 >> paths) & 0xff;
    this.#working = this.#installed;
    unit.onSignal = (status) => this.#signal(status);
  }

  /** Paths come or go, as mask bits. A program that runs is not stopped. */
  setPath(mask: number, works: boolean): void {
    this.#working = works ? this.#working | (mask & this.#installed) : this.#working & ~mask;
  }

  vanish(): Promise<void> | undefined {
    this.#gone = true;
    const run = this.#run;
    this.#run = undefined;
    this.#stop = undefined;
    const touching = run?.engine.phase === 'active';
    run?.engine.cancel();
    return touching ? run?.ended : undefined;
  }

  resetUnit(): void {
    this.#unit.reset();
  }

  resume(): boolean {
    return this.#run?.engine.resume() ?? false;
  }

  stsch(): SubchannelStatus | undefined {
    if (this.#gone) return undefined;
    const activity = this.#activity;
    const schib = new Uint8Array(SCHIB_SIZE);
    const view = new DataView(schib.buffer);
    view.setUint32(SCHIB.flags, SCHIB.VALID | (this.#enabled ? SCHIB.ENABLED : 0));
    for (const at of [SCHIB.logicalPaths, SCHIB.pathsInstalled]) view.setUint8(at, this.#installed);
    view.setUint8(SCHIB.pathsOperational, 0xff);
    view.setUint8(SCHIB.pathsAvailable, this.#working);
    for (let path = 0; path < PATHS_MAX; path += 1)
      if ((this.#installed & (FIRST_PATH >> path)) !== 0) view.setUint8(SCHIB.pathIdentifiers + path, path);
    view.setUint8(SCHIB.lastPathUsed, this.#lastPathUsed);
    view.setUint32(SCHIB.scsw, activity === 0 ? 0 : SCSW.FORMAT1 | this.#function | activity);
    return { enabled: this.#enabled, activity, lastPathUsed: this.#lastPathUsed, paths: this.#installed, schib };
  }

  enable(enabled: boolean): ConditionCode {
    if (this.#gone) return 3;
    if (this.#activity !== 0) return 2;
    this.#enabled = enabled;
    return 0;
  }

  ssch(orb: HostOrb, program: ChannelProgram): ConditionCode | 'operand-exception' {
    if ((orb.word1 & ORB.RESERVED) !== 0) return 'operand-exception';
    const paths = ((orb.word1 & ORB.LPM) >>> 8) & this.#working;
    if (!this.#usable || paths === 0) return 3;
    if (this.#activity !== 0) return 2;
    const intermediate = (irb: Irb): void => {
      if (this.#run?.engine === engine) this.onInterrupt(encodeIrb({ ...irb, lastPathUsed: this.#lastPathUsed }));
    };
    const engine = new ChannelEngine({ program, unit: this.#unit, log: this.#log, intermediate });
    this.#lastPathUsed = FIRST_PATH >> (Math.clz32(paths) - 24);
    const ended = engine.run().then((end) => this.#finish(engine, end));
    this.#run = { engine, ended };
    return 0;
  }

  hsch(): ConditionCode {
    if (!this.#usable) return 3;
    if (this.#stop !== undefined) return 2;
    this.#end('halt');
    return 0;
  }

  csch(): ConditionCode {
    if (!this.#usable) return 3;
    this.#end('clear');
    return 0;
  }

  xsch(): ConditionCode {
    if (!this.#usable) return 3;
    if (this.#stop !== undefined || this.#run === undefined || this.#run.engine.phase === 'active') return 2;
    this.#run.engine.cancel();
    this.#run = undefined;
    return 0;
  }

  get #usable(): boolean {
    return this.#enabled && !this.#gone;
  }

  get #function(): number {
    const start = this.#run === undefined ? 0 : SCSW.START;
    return this.#stop === undefined ? start : start | FUNCTION[this.#stop];
  }

  get #activity(): number {
    const stop = this.#stop === undefined ? 0 : PENDING[this.#stop];
    if (this.#run === undefined) return stop;
    const { phase } = this.#run.engine;
    if (phase === 'pending') return SCSW.START_PENDING | stop;
    if (phase === 'suspended') return SCSW.SUSPENDED | stop;
    return SCSW.SUBCHANNEL_ACTIVE | SCSW.DEVICE_ACTIVE | stop;
  }

  #end(stop: Stop): void {
    const alone = this.#stop === undefined && this.#run === undefined;
    this.#stop = stop;
    if (this.#lastPathUsed === 0) this.#lastPathUsed = FIRST_PATH;
    this.#run?.engine.cancel();
    if (alone) queueMicrotask(() => this.#finishIdle());
  }

  /** A halt or clear that found no program: the same interruption, after the instruction has answered. */
  #finishIdle(): void {
    if (this.#run === undefined && this.#stop !== undefined) this.#tellStop();
    this.#tellSignal();
  }

  #finish(engine: ChannelEngine, end: ProgramEnd): void {
    if (this.#run?.engine !== engine) return;
    this.#run = undefined;
    this.#lastCpa = end.irb.cpa;
    this.#lastCount = end.irb.count;
    if (this.#stop !== undefined || end.cancelled) this.#tellStop();
    else this.onInterrupt(encodeIrb({ ...end.irb, lastPathUsed: this.#lastPathUsed }));
    this.#tellSignal();
  }

  #signal(status: number): void {
    this.#signalled |= status;
    if (this.#run === undefined && this.#stop === undefined) queueMicrotask(() => this.#tellSignal());
  }

  /** What the unit told unasked: an alert that answers no function. A subchannel that is disabled loses it. */
  #tellSignal(): void {
    const status = this.#signalled;
    if (status === 0 || this.#run !== undefined || this.#stop !== undefined) return;
    this.#signalled = 0;
    if (!this.#usable) return;
    const word0 = SCSW.ALERT | SCSW.PENDING;
    const irb = { word0, cpa: 0, deviceStatus: status, channelStatus: 0, count: 0 };
    this.onInterrupt(encodeIrb({ ...irb, lastPathUsed: this.#lastPathUsed }));
  }

  #tellStop(): void {
    const word0 = SCSW.FORMAT1 | FUNCTION[this.#stop ?? 'clear'] | SCSW.PENDING;
    this.#stop = undefined;
    const irb = { word0, cpa: this.#lastCpa, deviceStatus: 0, channelStatus: 0, count: this.#lastCount };
    this.onInterrupt(encodeIrb({ ...irb, lastPathUsed: this.#lastPathUsed }));
  }
}
