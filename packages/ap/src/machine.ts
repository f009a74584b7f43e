import { errors } from './errors.js';
import { ApMask, type ApMatrix, apqnAdapter, apqnDomain, apqnsOf, formatApqn, hasApqn, MASK_BITS } from './matrix.js';
import { answer } from './rsa.js';

/** The crypto hardware of the simulated machine, shared by all devices of one driver. */
export interface ApMachineOptions {
  /** Adapters (cards) that are plugged, 0..maxAdapter. */
  readonly adapters: readonly number[];
  /** Usage domains that are configured, 0..maxDomain. With the adapters: the queues that exist. */
  readonly domains: readonly number[];
  /** Control domains; default: the usage domains. */
  readonly controlDomains?: readonly number[];
  /** Highest index; default 255. Without the APXA facility 63 and 15. */
  readonly maxAdapter?: number;
  readonly maxDomain?: number;
  /** sysfs apmask and aqmask: a queue whose adapter **and** domain are listed belongs to the host's own driver. Default: none. */
  readonly hostAdapters?: readonly number[];
  readonly hostDomains?: readonly number[];
  /** Messages a queue holds until their replies are taken, 1..16; default 8. */
  readonly depth?: number;
  /** Longest message in bytes, a multiple of 4096 up to 61440; default 12288. */
  readonly maxMessage?: number;
  /** What answers the messages; default: an RSA accelerator. */
  readonly card?: ApCard;
}

/** The work of a card: message in, reply out, at once. If it throws, the sender gets a reply of type 88 with code 10. */
export type ApCard = (message: Uint8Array) => Uint8Array;

/** Who has a matrix: what an error names. */
export interface MatrixOwner {
  readonly name: string;
}

const ML_UNIT = 4096;
const FIELD_MAX = 16;

function checkIndices(option: string, indices: readonly number[], max: number): ApMask {
  const bad = indices.find((index) => !Number.isInteger(index) || index < 0 || index > max);
  if (bad !== undefined) throw errors.BAD_OPTION({ option, value: bad, want: `indices 0..${max}` });
  return ApMask.of(indices);
}

function checkNumber(option: string, value: number, [min, max, step]: readonly [number, number, number]): number {
  const valid = Number.isInteger(value) && value >= min && value <= max && value % step === 0;
  if (!valid) throw errors.BAD_OPTION({ option, value, want: `${min}..${max} in steps of ${step}` });
  return value;
}

/** The machine: which queues exist, which the host keeps, and which device owns the others. */
export class ApMachine {
  readonly maxAdapter: number;
  readonly maxDomain: number;
  readonly depth: number;
  readonly maxMessage: number;
  readonly card: ApCard;
  /** Everything that is plugged and configured. */
  readonly matrix: ApMatrix;
  readonly #host: ApMatrix;
  readonly #claims = new Map<MatrixOwner, ApMatrix>();
  readonly #guests = new Map<object, MatrixOwner>();

  /** @throws AP_BAD_OPTION (EINVAL). */
  constructor(options: ApMachineOptions) {
    this.maxAdapter = checkNumber('maxAdapter', options.maxAdapter ?? MASK_BITS - 1, [0, MASK_BITS - 1, 1]);
    this.maxDomain = checkNumber('maxDomain', options.maxDomain ?? MASK_BITS - 1, [0, MASK_BITS - 1, 1]);
    this.depth = checkNumber('depth', options.depth ?? 8, [1, FIELD_MAX, 1]);
    this.maxMessage = checkNumber('maxMessage', options.maxMessage ?? 3 * ML_UNIT, [ML_UNIT, 15 * ML_UNIT, ML_UNIT]);
    this.card = options.card ?? answer;
    if (typeof this.card !== 'function')
      throw errors.BAD_OPTION({ option: 'card', value: this.card, want: 'a function' });
    this.matrix = {
      adapters: checkIndices('adapters', options.adapters, this.maxAdapter),
      domains: checkIndices('domains', options.domains, this.maxDomain),
      controlDomains: checkIndices('controlDomains', options.controlDomains ?? options.domains, this.maxDomain),
    };
    this.#host = {
      adapters: checkIndices('hostAdapters', options.hostAdapters ?? [], this.maxAdapter),
      domains: checkIndices('hostDomains', options.hostDomains ?? [], this.maxDomain),
      controlDomains: ApMask.empty,
    };
  }

  /** APQNs of eight bits each; without it six for the adapter and four for the domain. Source: APXA facility. */
  get apxa(): boolean {
    return this.maxAdapter > 63 || this.maxDomain > 15;
  }

  /**
   * Makes `wanted` the matrix of `owner`; the owner's former one is forgotten. All or nothing.
   * Nothing is checked while there is no adapter or no domain, because then there is no queue. Control domains are shared freely.
   * @throws AP_RESERVED (EADDRNOTAVAIL), then AP_IN_USE (EADDRINUSE). Source: vfio_ap_mdev_validate_masks().
   */
  claim(owner: MatrixOwner, wanted: ApMatrix): void {
    const apqns = apqnsOf(wanted);
    const reserved = apqns.find((apqn) => hasApqn(this.#host, apqn));
    if (reserved !== undefined) throw errors.RESERVED({ device: owner.name, apqn: formatApqn(reserved) });
    for (const [other, matrix] of this.#claims) {
      const shared = other === owner ? undefined : apqns.find((apqn) => hasApqn(matrix, apqn));
      if (shared !== undefined)
        throw errors.IN_USE({ device: owner.name, apqn: formatApqn(shared), owner: other.name });
    }
    this.#claims.set(owner, wanted);
  }

  /** Frees the queues of `owner` for others. */
  disclaim(owner: MatrixOwner): void {
    this.#claims.delete(owner);
  }

  /** Gives `guest` the matrix of `owner`. @throws AP_GUEST_TAKEN (EPERM) if it has another's. Source: vfio_ap_mdev_set_kvm(). */
  enter(guest: object, owner: MatrixOwner): void {
    const other = this.#guests.get(guest);
    if (other !== undefined) throw errors.GUEST_TAKEN({ device: owner.name, other: other.name });
    this.#guests.set(guest, owner);
  }

  leave(guest: object): void {
    this.#guests.delete(guest);
  }

  /** Whether general register 0 can name this queue on this machine. */
  addressable(apqn: number): boolean {
    return this.apxa || (apqnAdapter(apqn) <= 63 && apqnDomain(apqn) <= 15);
  }
}
