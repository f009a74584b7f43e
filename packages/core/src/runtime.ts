import { type MediatorBus, type MediatorEvents, publish } from './bus.js';
import type { Clock } from './clock.js';
import type { DutyGuard } from './duty-guard.js';
import type { Log } from './log.js';
import type { HostMemory } from './memory.js';

/** What every part of one mediator shares. */
export class Runtime {
  readonly bus: MediatorBus;
  readonly log: Log;
  readonly clock: Clock;
  readonly guard: DutyGuard;
  readonly memory: HostMemory;

  constructor(parts: { bus: MediatorBus; log: Log; clock: Clock; guard: DutyGuard; memory: HostMemory }) {
    this.bus = parts.bus;
    this.log = parts.log;
    this.clock = parts.clock;
    this.guard = parts.guard;
    this.memory = parts.memory;
  }

  publish<K extends keyof MediatorEvents>(event: K, ...args: MediatorEvents[K]): void {
    publish(this.bus, this.log, event, ...args);
  }
}
