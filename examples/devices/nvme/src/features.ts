import { FEATURE, LIMIT, STATUS } from './registers.js';
import type { Command, Outcome } from './wire.js';

/** What the features depend on. */
export interface FeatureWorld {
  /** I/O queues were created already. */
  queuesExist(): boolean;
  readonly vectors: number;
}

const OVER_TEMPERATURE = 343;
const DEFAULTS: ReadonlyMap<number, number> = new Map([
  [FEATURE.ARBITRATION, 0x07],
  [FEATURE.POWER, 0],
  [FEATURE.TEMPERATURE, OVER_TEMPERATURE],
  [FEATURE.ERROR_RECOVERY, 0],
  [FEATURE.WRITE_CACHE, 1],
  [FEATURE.QUEUES, ((LIMIT.QUEUES - 1) << 16) | (LIMIT.QUEUES - 1)],
  [FEATURE.COALESCING, 0],
  [FEATURE.VECTOR, 0],
  [FEATURE.ATOMICITY, 0],
  [FEATURE.EVENTS, 0],
]);
const CHANGEABLE = 0x4;
const SAVE = 0x8000_0000;
const SELECT = { CURRENT: 0, DEFAULT: 1, SAVED: 2, CAPABILITIES: 3 } as const;
const NO_LIMIT = 0xffff;

/** Get Features and Set Features. Nothing is saved over a reset. Source: NVMe 1.4 sections 5.13 and 5.21. */
export class Features {
  readonly #world: FeatureWorld;
  readonly #values = new Map(DEFAULTS);

  constructor(world: FeatureWorld) {
    this.#world = world;
  }

  /** Writes must be safe before they complete. */
  get writeThrough(): boolean {
    return this.#values.get(FEATURE.WRITE_CACHE) === 0;
  }

  reset(): void {
    for (const [feature, value] of DEFAULTS) this.#values.set(feature, value);
  }

  get({ dwords: [dword10] }: Command): Outcome {
    const feature = dword10 & 0xff;
    const select = (dword10 >>> 8) & 7;
    const initial = DEFAULTS.get(feature);
    if (initial === undefined || select > SELECT.CAPABILITIES) return { status: STATUS.INVALID_FIELD };
    const current = this.#values.get(feature) ?? initial;
    const result = [current, initial, initial, CHANGEABLE][select] ?? 0;
    return { status: STATUS.SUCCESS, result };
  }

  set({ dwords: [dword10, value] }: Command): Outcome {
    const feature = dword10 & 0xff;
    if (!DEFAULTS.has(feature)) return { status: STATUS.INVALID_FIELD };
    if ((dword10 & SAVE) !== 0) return { status: STATUS.NOT_SAVEABLE };
    if (feature === FEATURE.QUEUES) return this.#setQueues(value);
    const bad =
      (feature === FEATURE.POWER && (value & 0x1f) !== 0) ||
      (feature === FEATURE.VECTOR && (value & 0xffff) >= this.#world.vectors);
    if (bad) return { status: STATUS.INVALID_FIELD };
    this.#values.set(feature, feature === FEATURE.WRITE_CACHE ? value & 1 : value);
    return { status: STATUS.SUCCESS };
  }

  /** Counts are one less than meant. The host gets what it asked for, as far as there is. */
  #setQueues(value: number): Outcome {
    const [submission, completion] = [value & 0xffff, value >>> 16];
    if (submission === NO_LIMIT || completion === NO_LIMIT) return { status: STATUS.INVALID_FIELD };
    if (this.#world.queuesExist()) return { status: STATUS.SEQUENCE_ERROR };
    const most = LIMIT.QUEUES - 1;
    const result = (Math.min(completion, most) << 16) | Math.min(submission, most);
    this.#values.set(FEATURE.QUEUES, result);
    return { status: STATUS.SUCCESS, result };
  }
}
