import {
  type ApDevice,
  type ApDriverOptions,
  type ApGuest,
  aqicRegister1,
  createApDriver,
  PQAP_FUNCTION,
  pqapRegister0,
} from '@pinion/ap';
import { asIovaFrame, type Clock, type FrameRange, type IovaFrame, type Log } from '@pinion/core';
import { FakePins } from './fake-pins.js';

/** Adapter 5, domains 0x47 and 0x48. */
export const Q47 = 0x0547;
export const Q48 = 0x0548;

export const frames = (first: number, last: number): FrameRange => ({
  first: asIovaFrame(first),
  last: asIovaFrame(last),
});

/** A clock that only moves when told. */
export class ManualClock implements Clock {
  readonly #waiting: { action: () => void }[] = [];

  get pending(): number {
    return this.#waiting.length;
  }

  now(): number {
    return 0;
  }

  after(_delay: number, action: () => void): () => void {
    const timer = { action };
    this.#waiting.push(timer);
    return () => {
      const index = this.#waiting.indexOf(timer);
      if (index >= 0) this.#waiting.splice(index, 1);
    };
  }

  /** Runs the oldest timer. */
  step(): void {
    this.#waiting.shift()?.action();
  }

  /** Runs timers until none is left. */
  run(): void {
    while (this.#waiting.length > 0) this.step();
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

/** A closed device of `driver`, with everything around it pretended. */
export function makeDevice(driver: Driver, name = 'mdev-1'): Room {
  const pins = new FakePins();
  pins.mapped = [frames(1, 0x1000)];
  const clock = new ManualClock();
  const warnings: string[] = [];
  const log: Log = { info: () => {}, warn: (message) => warnings.push(message) };
  const dma = { read: () => {}, write: () => {} };
  const device = driver.create({ name, type: 'passthrough', parent: 'matrix', dma, pins, clock, log });
  const guest = new FakeGuest();
  device.setGuest(guest);
  return { device, pins, clock, guest, warnings };
}

/** A machine with adapters 5 and 6 and domains 0x47 and 0x48. */
export const MACHINE = { adapters: [5, 6], domains: [0x47, 0x48] } as const;

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

/** The status word that PQAP(TAPQ) leaves. */
export const test = (device: ApDevice, apqn: number): bigint =>
  device.pqap(pqapRegister0(PQAP_FUNCTION.TAPQ, apqn), 0n, 0n).gr1;
