/**
 * Which queues a device has. A queue is named by its APQN: the adapter (card) in the high byte, the usage domain in the low
 * byte. A device owns the cross product of its adapters and its usage domains; control domains may be administered but not
 * used. Source: vfio-ap documentation, AP architectural overview; reference C.1.
 */

/** Adapter << 8 | usage domain. */
export type Apqn = number;

export const makeApqn = (adapter: number, domain: number): Apqn => (adapter << 8) | domain;
export const apqnAdapter = (apqn: Apqn): number => (apqn >> 8) & 0xff;
export const apqnDomain = (apqn: Apqn): number => apqn & 0xff;

const hexDigits = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
const adapterText = (adapter: number): string => hexDigits(adapter, 2);
const domainText = (domain: number): string => hexDigits(domain, 4);

/** An APQN for people and for sysfs: adapter 5, domain 0x47 is `05.0047`. */
export const formatApqn = (apqn: Apqn): string => `${adapterText(apqnAdapter(apqn))}.${domainText(apqnDomain(apqn))}`;

/** Bits in a mask: indices are 0..255. */
export const MASK_BITS = 256;

const bitOf = (index: number): number => 0x80 >> (index & 7);

/** A set of indices 0..255, immutable. In its byte form bit 0 is the most significant bit of byte 0. */
export class ApMask {
  static readonly empty = new ApMask(new Uint8Array(MASK_BITS / 8));
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The mask of these indices; each must be 0..255. */
  static of(indices: Iterable<number>): ApMask {
    const bytes = new Uint8Array(MASK_BITS / 8);
    for (const index of indices) bytes[index >> 3] = (bytes[index >> 3] ?? 0) | bitOf(index);
    return new ApMask(bytes);
  }

  /** The mask in its byte form: 32 bytes, copied. */
  static from(bytes: Uint8Array): ApMask {
    return new ApMask(bytes.slice(0, MASK_BITS / 8));
  }

  has(index: number): boolean {
    return ((this.#bytes[index >> 3] ?? 0) & bitOf(index)) !== 0;
  }

  with(index: number): ApMask {
    return ApMask.of([...this.indices(), index]);
  }

  without(index: number): ApMask {
    return ApMask.of(this.indices().filter((other) => other !== index));
  }

  and(other: ApMask): ApMask {
    return ApMask.of(this.indices().filter((index) => other.has(index)));
  }

  /** Ascending. */
  indices(): number[] {
    return Array.from({ length: MASK_BITS }, (_, index) => index).filter((index) => this.has(index));
  }

  /** A copy of the 32 bytes that the architecture stores. */
  bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** `0x` and 64 hex digits, as in sysfs. */
  toString(): string {
    return `0x${Buffer.from(this.#bytes).toString('hex')}`;
  }
}

/** The three masks of a device, or of a machine. */
export interface ApMatrix {
  readonly adapters: ApMask;
  readonly domains: ApMask;
  readonly controlDomains: ApMask;
}

export const EMPTY_MATRIX: ApMatrix = Object.freeze({
  adapters: ApMask.empty,
  domains: ApMask.empty,
  controlDomains: ApMask.empty,
});

/** The part of `a` that is also in `b`. */
export const intersect = (a: ApMatrix, b: ApMatrix): ApMatrix => ({
  adapters: a.adapters.and(b.adapters),
  domains: a.domains.and(b.domains),
  controlDomains: a.controlDomains.and(b.controlDomains),
});

export const sameMatrix = (a: ApMatrix, b: ApMatrix): boolean =>
  `${a.adapters},${a.domains},${a.controlDomains}` === `${b.adapters},${b.domains},${b.controlDomains}`;

export const hasApqn = (matrix: ApMatrix, apqn: Apqn): boolean =>
  matrix.adapters.has(apqnAdapter(apqn)) && matrix.domains.has(apqnDomain(apqn));

/** Every APQN of the cross product, ascending. */
export const apqnsOf = (matrix: ApMatrix): Apqn[] =>
  matrix.adapters.indices().flatMap((adapter) => matrix.domains.indices().map((domain) => makeApqn(adapter, domain)));

/**
 * The matrix as the lines of the sysfs attribute: `05.0047` for each APQN; with no domain the adapters alone (`05.`), with no
 * adapter the domains alone (`.0047`). Control domains are not part of it. Source: matrix_show().
 */
export function formatMatrix(matrix: ApMatrix): string[] {
  const adapters = matrix.adapters.indices();
  const domains = matrix.domains.indices();
  if (domains.length === 0) return adapters.map((adapter) => `${adapterText(adapter)}.`);
  if (adapters.length === 0) return domains.map((domain) => `.${domainText(domain)}`);
  return apqnsOf(matrix).map(formatApqn);
}
