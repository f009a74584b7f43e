import { PinionError } from '@pinion/core';
import { simErrors } from '../errors.js';
import type { ExploredWorld, Scenario } from './scenario.js';
import { printSchedule, type Schedule } from './schedule.js';

/** Turns of the microtask queue between two steps that a schedule may use, one by one; then everything settles. */
const HOPS = 24;
/** Steps in one schedule; a scenario that needs more never ends. */
const MOST_STEPS = 20_000;

/** How a schedule went. */
export interface Played {
  /** How many options there were at each choice point. */
  readonly options: readonly number[];
  /** What happened, in order: `guest: maps a page`. A line for every step, `clock: 3` for a timer at 3 ms. */
  readonly trace: readonly string[];
  /** What was thrown, by a step, a check or the end. */
  readonly failure?: { readonly error: unknown };
}

interface Running {
  readonly name: string;
  readonly steps: readonly (readonly [name: string, run: () => void | Promise<void>])[];
  next: number;
  waiting: boolean;
}

type Option = () => void | Promise<void>;

/** Turns of the event loop in which a promise that needs no time has settled, or never will. */
const PATIENCE = 100;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Plays one schedule in a world of its own. What the scenario throws is an answer. @throws SIM_BAD_SCHEDULE (EINVAL) when the schedule does not fit. */
export async function play(scenario: Scenario, schedule: Schedule): Promise<Played> {
  const world = await scenario.start();
  const player = new Player(world, schedule);
  try {
    await player.run();
    await world.end();
  } catch (error) {
    await Promise.allSettled([world.abandon?.()]);
    if (error instanceof PinionError && error.name === 'SIM_BAD_SCHEDULE') throw error;
    return { ...player.record, failure: { error } };
  }
  player.checkUsed();
  return player.record;
}

/** Makes the choices of one schedule. */
class Player {
  readonly #world: ExploredWorld;
  readonly #schedule: Schedule;
  readonly #actors: readonly Running[];
  readonly #horizon: number;
  readonly #options: number[] = [];
  readonly #trace: string[] = [];
  #used = 0;
  #current: Running | undefined;
  #hops = 0;
  #failed: { readonly error: unknown } | undefined;

  constructor(world: ExploredWorld, schedule: Schedule) {
    this.#world = world;
    this.#schedule = schedule;
    this.#actors = world.actors.map(({ name, steps }) => ({
      name,
      steps: Object.entries(steps),
      next: 0,
      waiting: false,
    }));
    this.#horizon = world.horizon ?? world.clock?.now() ?? 0;
  }

  get record(): Played {
    return { options: this.#options, trace: this.#trace };
  }

  async run(): Promise<void> {
    for (let steps = 0; steps < MOST_STEPS; steps++) {
      if (this.#waiting && this.#hops === HOPS) await this.#settle();
      const options = this.#whatCanHappen();
      if (options.length > 0) await this.#choose(options)();
      else if (this.#waiting) await this.#waitForLast();
      else return;
      if (this.#failed !== undefined) throw this.#failed.error;
      this.#world.check?.();
    }
    throw simErrors.ENDLESS({ steps: MOST_STEPS, last: this.#trace.at(-1) ?? '' });
  }

  /** @throws SIM_BAD_SCHEDULE (EINVAL) when deviations are left over. */
  checkUsed(): void {
    if (this.#used === this.#schedule.length) return;
    const why = `the scenario has ${this.#options.length} choice points`;
    throw simErrors.BAD_SCHEDULE({ text: printSchedule(this.#schedule), why });
  }

  get #waiting(): boolean {
    return this.#actors.some(({ waiting }) => waiting);
  }

  /** What goes on by itself first, then the actor whose turn it was, then the others, then time. */
  #whatCanHappen(): readonly Option[] {
    const options: Option[] = [];
    if (this.#waiting && this.#hops < HOPS) options.push(() => this.#hop());
    const current = this.#current;
    for (const actor of [...this.#actors].sort((a, b) => Number(b === current) - Number(a === current))) {
      if (!actor.waiting && actor.next < actor.steps.length) options.push(() => this.#begin(actor));
    }
    const due = this.#world.clock?.nextDue;
    if (due !== undefined && due <= this.#horizon) options.push(() => this.#runTimer(due));
    return options;
  }

  /** @throws SIM_BAD_SCHEDULE (EINVAL). */
  #choose(options: readonly Option[]): Option {
    const first = options[0] ?? (() => {});
    if (options.length === 1) return first;
    const deviation = this.#schedule[this.#used];
    const at = this.#options.push(options.length) - 1;
    if (deviation?.at !== at) return first;
    this.#used += 1;
    const chosen = options[deviation.option];
    if (chosen !== undefined) return chosen;
    const why = `there are ${options.length} options at choice point ${at}`;
    throw simErrors.BAD_SCHEDULE({ text: printSchedule(this.#schedule), why });
  }

  async #hop(): Promise<void> {
    this.#hops += 1;
    await null;
  }

  #begin(actor: Running): void {
    const [name, run] = actor.steps[actor.next] ?? ['', () => {}];
    this.#happens(`${actor.name}: ${name}`);
    actor.next += 1;
    this.#current = actor;
    const result = run();
    if (!(result instanceof Promise)) return;
    actor.waiting = true;
    result
      .catch((error: unknown) => {
        this.#failed ??= { error };
      })
      .finally(() => {
        actor.waiting = false;
        this.#trace.push(`${actor.name}: ${name}: done`);
      });
  }

  #runTimer(due: number): void {
    this.#happens(`clock: ${due}`);
    this.#world.clock?.step();
  }

  #happens(line: string): void {
    this.#hops = 0;
    this.#trace.push(line);
  }

  /** Everything that goes on gets as far as it gets by itself. */
  async #settle(): Promise<void> {
    this.#hops += 1;
    await turn();
  }

  /** @throws SIM_STUCK (EDEADLK). */
  async #waitForLast(): Promise<void> {
    for (let turns = 0; turns < PATIENCE && this.#waiting; turns++) await turn();
    if (!this.#waiting) return;
    const who = this.#actors.filter(({ waiting }) => waiting).map(({ name }) => name);
    throw simErrors.STUCK({ who, last: this.#trace.at(-1) ?? '' });
  }
}
