import { coreErrors } from './errors.js';

/** VFIO_MIGRATION_*: what a device's migration can do. */
export const MIGRATION_FLAG = { STOP_COPY: 1, P2P: 2, PRE_COPY: 4 } as const;

/** enum vfio_device_mig_state, without the peer-to-peer states, which no device here has. */
export const MIGRATION_STATE = { ERROR: 0, STOP: 1, RUNNING: 2, STOP_COPY: 3, RESUMING: 4, PRE_COPY: 6 } as const;

export type MigrationState = (typeof MIGRATION_STATE)[keyof typeof MIGRATION_STATE];

/** How a driver's device is saved and restored. */
export interface MigrationOps {
  /** Its state can be read while it runs. Default: only when it is stopped. */
  readonly preCopy?: boolean;
  /**
   * One arc of the state machine. Into STOP: no DMA and no interrupt after this settles. Into STOP_COPY: what `read` gives is the state
   * as of now. Into RESUMING: `write` begins at the beginning. From RESUMING to STOP: all that was written is looked at before
   * anything changes. A throw leaves the device where it was, except on leaving RESUMING: then it is in ERROR, and has changed nothing.
   */
  enter(to: MigrationState, from: MigrationState): void | Promise<void>;
  /** The next bytes of its state, as many as fit. @returns how many; 0: there are no more. In STOP_COPY, and in PRE_COPY if it has that. */
  read(into: Uint8Array): number | Promise<number>;
  /** Takes all of them; they are valid until this settles. In RESUMING. */
  write(bytes: Uint8Array): void | Promise<void>;
}

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = MIGRATION_STATE;

/** The arcs. Source: linux/vfio.h, "The FSM"; vfio_mig_get_next_state(). */
const ARCS: ReadonlyMap<MigrationState, readonly MigrationState[]> = new Map([
  [RUNNING, [STOP, PRE_COPY]],
  [STOP, [RUNNING, STOP_COPY, RESUMING]],
  [STOP_COPY, [STOP]],
  [RESUMING, [STOP]],
  [PRE_COPY, [RUNNING, STOP_COPY]],
]);
/** States that are a beginning or an end, never on the way. */
const SAVING: readonly MigrationState[] = [STOP_COPY, PRE_COPY];

/**
 * The states on the shortest way, the last of them `to`; none if it is there. Undefined: there is no way - into ERROR, out of it,
 * from STOP_COPY back to PRE_COPY, or through PRE_COPY for a device without it.
 */
export function migrationPath(
  from: MigrationState,
  to: MigrationState,
  preCopy: boolean,
): readonly MigrationState[] | undefined {
  if (from === to) return [];
  if (from === STOP_COPY && to === PRE_COPY) return undefined;
  const ways: (readonly MigrationState[])[] = [[]];
  const seen = new Set<MigrationState>([from]);
  for (let way = ways.shift(); way !== undefined; way = ways.shift()) {
    for (const next of ARCS.get(way.at(-1) ?? from) ?? []) {
      if (seen.has(next) || (next === PRE_COPY && !preCopy)) continue;
      if (next === to) return [...way, next];
      seen.add(next);
      if (!SAVING.includes(next)) ways.push([...way, next]);
    }
  }
  return undefined;
}

const NAMES = new Map<number, string>(Object.entries(MIGRATION_STATE).map(([name, value]) => [value, name]));
/** A state for people. */
export const migrationStateName = (state: number): string => NAMES.get(state) ?? `state ${state}`;

/** Whether a number is a state that is known here. */
export const isMigrationState = (state: number): state is MigrationState => NAMES.has(state);

/** Runs a section while nothing else is done to the device. */
type Alone = (section: () => Promise<void>) => Promise<void>;

/** The migration state of one device: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE and the data behind it. */
export class Migration {
  readonly #device: string;
  readonly #ops: MigrationOps;
  readonly #alone: Alone;
  #state: MigrationState = RUNNING;

  constructor(device: string, ops: MigrationOps, alone: Alone) {
    this.#device = device;
    this.#ops = ops;
    this.#alone = alone;
  }

  /** Bits of MIGRATION_FLAG. */
  get flags(): number {
    return MIGRATION_FLAG.STOP_COPY | (this.#ops.preCopy === true ? MIGRATION_FLAG.PRE_COPY : 0);
  }

  get state(): MigrationState {
    return this.#state;
  }

  /**
   * Goes to a state, by the states in between. Settles when it is there. A failure on the way leaves it at the last state that it reached.
   * @throws CORE_BAD_MIGRATION (EINVAL) when no way leads there: nothing has happened; what the driver throws.
   */
  async enter(to: MigrationState): Promise<void> {
    await this.#alone(async () => {
      const path = migrationPath(this.#state, to, this.#ops.preCopy === true);
      if (path === undefined) throw this.#bad(`it cannot go to ${migrationStateName(to)}`);
      for (const next of path) await this.#step(next);
    });
  }

  /** Fills `into` with the next bytes of the device's state. @returns how many; 0: the end. @throws CORE_BAD_MIGRATION (EINVAL), the driver's. */
  async read(into: Uint8Array): Promise<number> {
    if (!SAVING.includes(this.#state)) throw this.#bad('its state can be read in STOP_COPY and PRE_COPY');
    return this.#ops.read(into);
  }

  /** Gives the device the next bytes of a state. @throws CORE_BAD_MIGRATION (EINVAL), the driver's. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#state !== RESUMING) throw this.#bad('its state can be written in RESUMING');
    await this.#ops.write(bytes);
  }

  /** The device was reset or closed: it runs. */
  reset(): void {
    this.#state = RUNNING;
  }

  async #step(to: MigrationState): Promise<void> {
    const from = this.#state;
    try {
      await this.#ops.enter(to, from);
    } catch (cause) {
      if (from === RESUMING) this.#state = ERROR;
      throw cause;
    }
    this.#state = to;
  }

  #bad(problem: string): unknown {
    return coreErrors.BAD_MIGRATION({ device: this.#device, state: migrationStateName(this.#state), problem });
  }
}
