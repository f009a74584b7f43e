import type { Clock } from '@pinion/core';

/** Each period of this many milliseconds is shared out by weight. */
const PERIOD = 100;
/** Periods after which shares that were saved up, and debts, are forgotten. */
const STAGES = 10;
const TICK = 1;
/** How long a vGPU that just started goes first, milliseconds. */
const PRIORITY = 2000;

/** A vGPU as the scheduler sees it. */
export interface SchedulerClient {
  readonly weight: number;
  /** Whether work of it waits or runs on any engine. */
  readonly busy: boolean;
}

/** The engines as the scheduler sees them. */
export interface ScheduledEngines {
  /** Whether no engine runs anything. */
  readonly drained: boolean;
  /** Another vGPU may dispatch now. */
  wake(): void;
}

interface Share {
  readonly client: SchedulerClient;
  allocated: number;
  left: number;
  since: number;
  used: number;
  /** Until when it goes first; undefined: no longer. */
  priorityUntil: number | undefined;
}

/**
 * Which vGPU may use the engines of its GPU: one at a time, for its share of each period of 100 ms. The least recently used one that has work and
 * time left is next; a switch waits until the engines have finished what they run. A share that is not used is not given to others. Runs a tick of
 * 1 ms while there is work for more than one, or none with time left. Source: i915 gvt sched_policy.c.
 */
export class Scheduler {
  readonly #clock: Clock;
  readonly #engines: ScheduledEngines;
  /** Least recently used first. */
  #shares: Share[] = [];
  #current: Share | undefined;
  #next: Share | undefined;
  #switching = false;
  #stage = 0;
  #periodEnd = Number.NEGATIVE_INFINITY;
  #cancelTick: (() => void) | undefined;
  #cancelKick: (() => void) | undefined;

  constructor(clock: Clock, engines: ScheduledEngines) {
    this.#clock = clock;
    this.#engines = engines;
  }

  /** The vGPU that may dispatch; undefined while none may, or while engines drain for another one. */
  get current(): SchedulerClient | undefined {
    return this.#switching ? undefined : this.#current?.client;
  }

  /** Milliseconds for which a vGPU had the engines since it started. */
  used(client: SchedulerClient): number {
    const share = this.#shares.find((other) => other.client === client);
    return share === undefined ? 0 : share.used + (share === this.#current ? this.#clock.now() - share.since : 0);
  }

  /** A vGPU begins to submit; it goes first for two seconds. A second time does nothing. */
  start(client: SchedulerClient): void {
    if (this.#shares.some((share) => share.client === client)) return;
    const now = this.#clock.now();
    this.#shares.unshift({ client, allocated: 0, left: 0, since: now, used: 0, priorityUntil: now + PRIORITY });
  }

  /** A vGPU submits no more. Its running work is the caller's business. */
  stop(client: SchedulerClient): void {
    this.#shares = this.#shares.filter((share) => share.client !== client);
    if (this.#next?.client === client) this.#next = undefined;
    if (this.#current?.client === client) this.#current = undefined;
    if (this.#next === undefined) this.#switching = false;
    if (this.#shares.some((share) => share.client.busy)) {
      this.kick();
      return;
    }
    this.#rest();
    this.#cancelKick?.();
    this.#cancelKick = undefined;
  }

  /** Something changed: work arrived or ended. Decides soon, on the clock. */
  kick(): void {
    this.#cancelKick ??= this.#clock.after(0, () => {
      this.#cancelKick = undefined;
      this.#schedule();
    });
  }

  /** An engine finished a job. Decides on the clock, too: a job must not begin inside the end of another. */
  finished(): void {
    if (this.#switching || !(this.#current?.client.busy ?? false)) this.kick();
  }

  #schedule(): void {
    const now = this.#clock.now();
    this.#turnPeriods(now);
    this.#charge(now);
    this.#next ??= this.#choose(now);
    this.#trySwitch(now);
    this.#keepTicking();
  }

  /** Every period that has ended is settled by itself, unless all of them are long forgotten. */
  #turnPeriods(now: number): void {
    if (now - this.#periodEnd >= PERIOD * STAGES) {
      this.#stage = 0;
      this.#periodEnd = now;
    }
    for (; now >= this.#periodEnd; this.#periodEnd += PERIOD) {
      this.#charge(this.#periodEnd);
      this.#shareOut();
    }
  }

  /** The first stage forgets what was left; the others add to it. */
  #shareOut(): void {
    const total = this.#shares.reduce((sum, { client }) => sum + client.weight, 0);
    for (const share of this.#shares) {
      if (this.#stage === 0) {
        share.allocated = (PERIOD / total) * share.client.weight;
        share.left = share.allocated;
      } else {
        share.left += share.allocated;
      }
    }
    this.#stage = (this.#stage + 1) % STAGES;
  }

  #charge(now: number): void {
    const share = this.#current;
    if (share === undefined) return;
    share.left -= now - share.since;
    share.used += now - share.since;
    share.since = now;
  }

  #choose(now: number): Share | undefined {
    for (const share of this.#shares) {
      if (!share.client.busy) continue;
      if (share.priorityUntil !== undefined && now < share.priorityUntil) return share;
      share.priorityUntil = undefined;
      if (share.left > 0) {
        this.#shares = [...this.#shares.filter((other) => other !== share), share];
        return share;
      }
    }
    return undefined;
  }

  #trySwitch(now: number): void {
    if (this.#next === this.#current) {
      this.#next = undefined;
      this.#switching = false;
      if (this.#current !== undefined) this.#engines.wake();
      return;
    }
    this.#switching = true;
    if (!this.#engines.drained) return;
    this.#charge(now);
    this.#current = this.#next;
    if (this.#current !== undefined) this.#current.since = now;
    this.#next = undefined;
    this.#switching = false;
    this.#engines.wake();
  }

  /** A lone vGPU with time left needs no tick: nobody could take its place. */
  #keepTicking(): void {
    const busy = this.#shares.filter(({ client }) => client.busy);
    const alone = busy.length === 1 && busy[0] === this.#current && this.#shares.length === 1;
    if (busy.length === 0 || alone) this.#rest();
    else
      this.#cancelTick ??= this.#clock.after(TICK, () => {
        this.#cancelTick = undefined;
        this.#schedule();
      });
  }

  #rest(): void {
    this.#cancelTick?.();
    this.#cancelTick = undefined;
  }
}
