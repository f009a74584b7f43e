import type { Log } from '@pinion/core';
import { ChannelEngine, type ProgramEnd } from './channel-engine.js';
import type { ChannelProgram, HostOrb } from './channel-program.js';
import type { ControlUnit } from './control-unit.js';
import type { ConditionCode, Subchannel, SubchannelStatus } from './subchannel.js';
import { encodeIrb, type Irb, ORB, SCHIB, SCHIB_SIZE, SCSW } from './wire.js';

/** The one path. */
export const PATH = 0x80;

interface Run {
  readonly engine: ChannelEngine;
  readonly ended: Promise<void>;
}

type Stop = 'halt' | 'clear';
const FUNCTION = { halt: SCSW.HALT, clear: SCSW.CLEAR } as const;
const PENDING = { halt: SCSW.HALT_PENDING, clear: SCSW.CLEAR_PENDING } as const;

/**
 * A subchannel with a `ChannelEngine` and a control unit behind it. A program begins after the turn of whoever started
 * it; a halt or clear ends it when its I/O has ended. Statuses are presented at once, so none is ever pending (cc 1).
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
  #lastCpa = 0;
  #lastCount = 0;

  constructor(unit: ControlUnit, log: Log) {
    this.#unit = unit;
    this.#log = log;
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
    for (const at of [SCHIB.pathInstalled, SCHIB.pathAvailable]) view.setUint8(at, PATH);
    view.setUint8(SCHIB.lastPathUsed, this.#lastPathUsed);
    view.setUint32(SCHIB.scsw, activity === 0 ? 0 : SCSW.FORMAT1 | this.#function | activity);
    return { enabled: this.#enabled, activity, lastPathUsed: this.#lastPathUsed, schib };
  }

  enable(enabled: boolean): ConditionCode {
    if (this.#gone) return 3;
    if (this.#activity !== 0) return 2;
    this.#enabled = enabled;
    return 0;
  }

  ssch(orb: HostOrb, program: ChannelProgram): ConditionCode | 'operand-exception' {
    if ((orb.word1 & ORB.RESERVED) !== 0) return 'operand-exception';
    if (!this.#usable || (orb.word1 & ORB.LPM & (PATH << 8)) === 0) return 3;
    if (this.#activity !== 0) return 2;
    const intermediate = (irb: Irb): void => {
      if (this.#run?.engine === engine) this.onInterrupt(encodeIrb(irb));
    };
    const engine = new ChannelEngine({ program, unit: this.#unit, log: this.#log, intermediate });
    this.#lastPathUsed = PATH;
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
    this.#lastPathUsed = PATH;
    this.#run?.engine.cancel();
    if (alone) queueMicrotask(() => this.#finishIdle());
  }

  /** A halt or clear that found no program: the same interruption, after the instruction has answered. */
  #finishIdle(): void {
    if (this.#run === undefined && this.#stop !== undefined) this.#tellStop();
  }

  #finish(engine: ChannelEngine, end: ProgramEnd): void {
    if (this.#run?.engine !== engine) return;
    this.#run = undefined;
    this.#lastCpa = end.irb.cpa;
    this.#lastCount = end.irb.count;
    if (this.#stop !== undefined || end.cancelled) this.#tellStop();
    else this.onInterrupt(encodeIrb(end.irb));
  }

  #tellStop(): void {
    const word0 = SCSW.FORMAT1 | FUNCTION[this.#stop ?? 'clear'] | SCSW.PENDING;
    this.#stop = undefined;
    const irb = { word0, cpa: this.#lastCpa, deviceStatus: 0, channelStatus: 0, count: this.#lastCount };
    this.onInterrupt(encodeIrb(irb));
  }
}
