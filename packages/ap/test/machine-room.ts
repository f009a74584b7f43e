import {
  type ApDevice,
  type ApDriverOptions,
  type ApGuest,
  aqicRegister1,
  createApDriver,
  PQAP_FUNCTION,
  pqapRegister0,
  statusWord,
} from '@pinion/ap';
import { asIovaFrame, type Clock, type DmaApi, type FrameRange, type IovaFrame, type Log } from '@pinion/core';
import { FakePins } from './fake-pins.js';

/** Adapter 5, domains 0x47 and 0x48. */
export const Q47 = 0x0547;
export const Q48 = 0x0548;

export const frames = (first: number, last: number): FrameRange => ({
  first: asIovaFrame(first),
  last: asIovaFrame(last),
});

interface Timer {
  readonly due: number;
  readonly action: () => void;
}

/** A clock that only moves when told, one timer at a time if need be. */
export class ManualClock implements Clock {
  #now = 0;
  #timers: Timer[] = [];

  get pending(): number {
    return this.#timers.length;
  }

  now(): number {
    return this.#now;
  }

  after(delay: number, action: () => void): () => void {
    const timer = { due: this.#now + delay, action };
    this.#timers.push(timer);
    this.#timers.sort((a, b) => a.due - b.due);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Runs the oldest timer that is due by `end`. @returns whether there was one. */
  step(end = this.#now): boolean {
    const next = this.#timers[0];
    if (next === undefined || next.due > end) return false;
    this.#timers.shift();
    this.#now = next.due;
    next.action();
    return true;
  }

  /** Runs what is due now, and what that starts, until nothing is. */
  run(): void {
    while (this.step());
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    while (this.step(end));
    this.#now = end;
  }
}

/** A guest that notes its interrupts and counts the subclasses that are registered. */
export class FakeGuest implements ApGuest {
  readonly interrupts: number[] = [];
  readonly registered = new Map<number, number>();
  refuseIsc = false;
  ownsPages = true;
  shares = true;
  onInterrupt: () => void = () => {};

  interrupt(isc: number): void {
    this.interrupts.push(isc);
    this.onInterrupt();
  }

  hasPage(_page: IovaFrame): boolean {
    return this.ownsPages;
  }

  sharesPage(_page: IovaFrame): boolean {
    return this.shares;
  }

  registerIsc(isc: number): boolean {
    if (!this.refuseIsc) this.registered.set(isc, (this.registered.get(isc) ?? 0) + 1);
    return !this.refuseIsc;
  }

  unregisterIsc(isc: number): void {
    const count = (this.registered.get(isc) ?? 0) - 1;
    if (count === 0) this.registered.delete(isc);
    else this.registered.set(isc, count);
  }
}

export interface Room {
  readonly device: ApDevice;
  readonly pins: FakePins;
  readonly clock: ManualClock;
  readonly guest: FakeGuest;
  readonly warnings: string[];
}

type Driver = ReturnType<typeof createApDriver>;

const NO_DMA: DmaApi = { read: () => {}, write: () => {} };

/** A closed device of `driver`, with everything around it pretended. */
export function makeDevice(driver: Driver, name = 'mdev-1', dma: DmaApi = NO_DMA): Room {
  const pins = new FakePins();
  pins.mapped = [frames(1, 0x1000)];
  const clock = new ManualClock();
  const warnings: string[] = [];
  const log: Log = { info: () => {}, warn: (message) => warnings.push(message) };
  const device = driver.create({ name, type: 'passthrough', parent: 'matrix', dma, pins, clock, log });
  const guest = new FakeGuest();
  device.setGuest(guest);
  return { device, pins, clock, guest, warnings };
}

/** A machine with adapters 5 and 6 and domains 0x47 and 0x48, whose cards compute on the caller's stack. */
export const MACHINE = { adapters: [5, 6], domains: [0x47, 0x48], threads: 0 } as const;

/** An open device that has the queues 05.0047 and 05.0048. */
export function openRoom(options: Partial<ApDriverOptions> = {}): Room {
  const driver = createApDriver({ ...MACHINE, matrix: { adapters: [5], domains: [0x47, 0x48] }, ...options });
  const room = makeDevice(driver);
  room.device.open();
  return room;
}

/** The status word that PQAP(AQIC) with the interrupt bit on leaves in general register 1. */
export const enable = (device: ApDevice, apqn: number, at: { isc: number; nib: bigint }): bigint =>
  device.pqap(pqapRegister0(PQAP_FUNCTION.AQIC, apqn), aqicRegister1(at.isc), at.nib).gr1;

export const disable = (device: ApDevice, apqn: number): bigint =>
  device.pqap(pqapRegister0(PQAP_FUNCTION.AQIC, apqn), 0n, 0n).gr1;

/** The status word of the queue itself, whoever may reach it. */
export const hardwareStatus = (device: ApDevice, apqn: number): bigint => {
  const queue = device.machine.hardware.queue(apqn);
  return queue === undefined ? -1n : BigInt(statusWord(queue.tapq()));
};

/** Lets every promise settle that can settle without time. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const RETRY = 20;

/** Moves time on in steps of the driver's retries, and lets it see each. */
export async function pass(clock: Pick<ManualClock, 'advance'>, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += RETRY) {
    await settled();
    clock.advance(Math.min(RETRY, ms - passed));
  }
  await settled();
}

/** The status word that PQAP(TAPQ) leaves. */
export const test = (device: ApDevice, apqn: number): bigint =>
  device.pqap(pqapRegister0(PQAP_FUNCTION.TAPQ, apqn), 0n, 0n).gr1;
