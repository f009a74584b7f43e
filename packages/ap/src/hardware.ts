import { type Clock, type Log, silentLog, systemClock } from '@pinion/core';
import { answer } from './answer.js';
import { type ApCardOptions, type ApMode, type Card, checkNumber, makeCard } from './card.js';
import { errors } from './errors.js';
import { type CardExecutor, inlineExecutor } from './executor.js';
import { ApMask, type ApMatrix, type Apqn, apqnAdapter, apqnDomain, apqnsOf, hasApqn, MASK_BITS } from './matrix.js';
import type { ResponseCode } from './pqap.js';
import { ApQueue, type CardCondition, type Latency, type QueueInstruction } from './queue.js';
import type { Limits } from './queue-info.js';
import { ThreadExecutor } from './thread-executor.js';

/** What is plugged and configured. */
export interface ApConfiguration {
  /** Adapters that are plugged, 0..maxAdapter; a number is a card with the machine's defaults. */
  readonly adapters: readonly (number | ApCardOptions)[];
  /** Usage domains that are configured, 0..maxDomain. With the adapters: the queues that exist. */
  readonly domains: readonly number[];
  /** Control domains; default: the usage domains. */
  readonly controlDomains?: readonly number[];
}

/** The crypto hardware of the simulated machine, shared by all devices of one driver. */
export interface ApHardwareOptions extends ApConfiguration {
  /** Highest index; default 255. Without the APXA facility 63 and 15. */
  readonly maxAdapter?: number;
  readonly maxDomain?: number;
  /** What cards are unless they say otherwise: `accelerator`, 8 messages, 12288 bytes. */
  readonly mode?: ApMode;
  readonly depth?: number;
  readonly maxMessage?: number;
  /** Milliseconds the hardware takes for resets and for turning signals on and off; default none. */
  readonly latency?: Partial<Latency>;
  /** A card of your own: message in, reply out, on the caller's stack. If it throws, the sender gets a reply of type 88 with code 10. */
  readonly card?: ApCard;
  /** Threads that compute for the cards; default 2, 0: the caller's own. Without a meaning if `card` or `executor` is given. */
  readonly threads?: number;
  /** Who computes; default: threads. */
  readonly executor?: CardExecutor;
  /** Makes the hardware answer an instruction with a code instead of executing it: for tests and experiments. */
  readonly respond?: (instruction: QueueInstruction, apqn: Apqn) => ResponseCode | undefined;
}

/** The work of a card: message in, reply out. */
export type ApCard = (message: Uint8Array) => Uint8Array;

const THREADS_MAX = 256;
const DEFAULT_THREADS = 2;
const NO_LATENCY: Latency = { reset: 0, aqic: 0 };

/** @throws AP_BAD_OPTION (EINVAL) for an index that is none, or above `max`. */
export function checkIndices(option: string, indices: readonly number[], max: number): ApMask {
  const bad = indices.find((index) => !Number.isInteger(index) || index < 0 || index > max);
  if (bad !== undefined) throw errors.BAD_OPTION({ option, value: bad, want: `indices 0..${max}` });
  return ApMask.of(indices);
}

function executorOf({ card, executor, threads = DEFAULT_THREADS }: ApHardwareOptions): CardExecutor {
  if (card !== undefined && typeof card !== 'function') {
    throw errors.BAD_OPTION({ option: 'card', value: card, want: 'a function' });
  }
  if (card !== undefined) return inlineExecutor(({ message }) => card(message));
  checkNumber('threads', threads, [0, THREADS_MAX, 1]);
  return executor ?? (threads === 0 ? inlineExecutor(answer) : new ThreadExecutor(threads));
}

/** Cards, domains, and the queues where they meet. Knows nothing of hosts, drivers and guests. */
export class ApHardware implements Limits {
  readonly maxAdapter: number;
  readonly maxDomain: number;
  readonly executor: CardExecutor;
  readonly #options: ApHardwareOptions;
  readonly #queues = new Map<Apqn, ApQueue>();
  #cards: ReadonlyMap<number, Card>;
  #matrix: ApMatrix;
  #clock: Clock = systemClock;
  #log: Log = silentLog;

  /** @throws AP_BAD_OPTION (EINVAL). */
  constructor(options: ApHardwareOptions) {
    this.#options = options;
    this.maxAdapter = checkNumber('maxAdapter', options.maxAdapter ?? MASK_BITS - 1, [0, MASK_BITS - 1, 1]);
    this.maxDomain = checkNumber('maxDomain', options.maxDomain ?? MASK_BITS - 1, [0, MASK_BITS - 1, 1]);
    this.executor = executorOf(options);
    const { cards, matrix } = this.check(options);
    this.#cards = cards;
    this.#matrix = matrix;
    this.#makeQueues();
  }

  /** APQNs of eight bits each; without it six for the adapter and four for the domain. Source: APXA facility. */
  get apxa(): boolean {
    return this.maxAdapter > 63 || this.maxDomain > 15;
  }

  /** Everything that is plugged and configured. Source: struct ap_config_info as the host gets it. */
  get matrix(): ApMatrix {
    return this.#matrix;
  }

  get cards(): readonly Card[] {
    return [...this.#cards.values()];
  }

  queue(apqn: Apqn): ApQueue | undefined {
    return this.#queues.get(apqn);
  }

  /** Whether general register 0 can name this queue on this machine. */
  addressable(apqn: Apqn): boolean {
    return this.apxa || (apqnAdapter(apqn) <= 63 && apqnDomain(apqn) <= 15);
  }

  /** Time and log of the mediator that the devices belong to. */
  use(services: { clock: Clock; log: Log }): void {
    this.#clock = services.clock;
    this.#log = services.log;
  }

  /** What a configuration means. Changes nothing. @throws AP_BAD_OPTION (EINVAL). */
  check(configuration: ApConfiguration): { cards: ReadonlyMap<number, Card>; matrix: ApMatrix } {
    const cards = configuration.adapters.map((card) => makeCard(card, defaultsOf(this.#options)));
    const indices = cards.map(({ adapter }) => adapter);
    const matrix = {
      adapters: checkIndices('adapters', indices, this.maxAdapter),
      domains: checkIndices('domains', configuration.domains, this.maxDomain),
      controlDomains: checkIndices(
        'controlDomains',
        configuration.controlDomains ?? configuration.domains,
        this.maxDomain,
      ),
    };
    return { cards: new Map(cards.map((card) => [card.adapter, card])), matrix };
  }

  /** Takes cards out and puts others in: queues that go lose everything, those that stay notice nothing. */
  configure({ cards, matrix }: ReturnType<ApHardware['check']>): void {
    const exchanged = (apqn: Apqn): boolean => !sameCard(cards.get(apqnAdapter(apqn)), this.#queues.get(apqn)?.card);
    for (const [apqn, queue] of this.#queues) {
      if (hasApqn(matrix, apqn) && !exchanged(apqn)) continue;
      queue.condition = 'gone';
      this.#queues.delete(apqn);
    }
    this.#cards = cards;
    this.#matrix = matrix;
    this.#makeQueues();
  }

  /** The condition of a card and so of all its queues. */
  setCondition(adapter: number, condition: Exclude<CardCondition, 'gone'>): void {
    for (const queue of this.#queues.values()) if (apqnAdapter(queue.apqn) === adapter) queue.condition = condition;
  }

  #makeQueues(): void {
    for (const apqn of apqnsOf(this.#matrix)) {
      const card = this.#cards.get(apqnAdapter(apqn));
      if (card !== undefined && !this.#queues.has(apqn)) this.#queues.set(apqn, this.#makeQueue(apqn, card));
    }
  }

  #makeQueue(apqn: Apqn, card: Card): ApQueue {
    return new ApQueue(apqn, {
      card,
      executor: this.executor,
      latency: { ...NO_LATENCY, ...this.#options.latency },
      clock: { now: () => this.#clock.now(), after: (delay, action) => this.#clock.after(delay, action) },
      respond: this.#options.respond ?? (() => undefined),
      warn: (message, cause) => this.#log.warn(message, cause),
    });
  }
}

/** The options that hold for every card; absent ones stay absent. */
function defaultsOf({ mode, depth, maxMessage }: ApHardwareOptions): Omit<ApCardOptions, 'adapter'> {
  return {
    ...(mode === undefined ? {} : { mode }),
    ...(depth === undefined ? {} : { depth }),
    ...(maxMessage === undefined ? {} : { maxMessage }),
  };
}

const sameCard = (a: Card | undefined, b: Card | undefined): boolean =>
  a?.mode === b?.mode && a?.type === b?.type && a?.depth === b?.depth && a?.maxMessage === b?.maxMessage;
