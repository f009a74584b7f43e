import { errors } from './errors.js';

/** What a card can do. An accelerator computes raw RSA (type 50); a CCA coprocessor takes requests of type 6. */
export type ApMode = 'accelerator' | 'cca';

/** A card that is plugged into the machine. */
export interface ApCardOptions {
  /** Its adapter index. */
  readonly adapter: number;
  /** Default: the machine's. */
  readonly mode?: ApMode;
  /** AP device type: 10 is a CEX4, 14 a CEX8. Cards below 10 are never given to guests. Default 14. */
  readonly type?: number;
  /** Messages a queue holds until their replies are taken, 1..16; default: the machine's. */
  readonly depth?: number;
  /** Longest message in bytes, a multiple of 4096 up to 61440; default: the machine's. */
  readonly maxMessage?: number;
}

export type Card = Required<ApCardOptions>;

/** The oldest type that vfio-ap takes: CEX4. Source: ap_queue_ids[] in vfio_ap_drv.c. */
export const OLDEST_TYPE = 10;

const ML_UNIT = 4096;
const DEPTH_MAX = 16;
const TYPE_MAX = 14;
const MODES: ReadonlySet<string> = new Set<ApMode>(['accelerator', 'cca']);

/** @throws AP_BAD_OPTION (EINVAL) for anything but `min`, `min + step` ... `max`. */
export function checkNumber(
  option: string,
  value: number,
  [min, max, step]: readonly [number, number, number],
): number {
  const valid = Number.isInteger(value) && value >= min && value <= max && value % step === 0;
  if (!valid) throw errors.BAD_OPTION({ option, value, want: `${min}..${max} in steps of ${step}` });
  return value;
}

/** Fills in what a card leaves open. @throws AP_BAD_OPTION (EINVAL). */
export function makeCard(options: number | ApCardOptions, defaults: Omit<ApCardOptions, 'adapter'>): Card {
  const given: ApCardOptions = { ...defaults, ...(typeof options === 'number' ? { adapter: options } : options) };
  const { adapter, mode = 'accelerator', type = TYPE_MAX, depth = 8, maxMessage = 3 * ML_UNIT } = given;
  if (!MODES.has(mode)) throw errors.BAD_OPTION({ option: 'mode', value: mode, want: [...MODES].join(' or ') });
  return {
    adapter,
    mode,
    type: checkNumber('type', type, [1, TYPE_MAX, 1]),
    depth: checkNumber('depth', depth, [1, DEPTH_MAX, 1]),
    maxMessage: checkNumber('maxMessage', maxMessage, [ML_UNIT, 15 * ML_UNIT, ML_UNIT]),
  };
}
