/** What TAPQ and QCI tell of cards and matrix. Source: struct ap_tapq_hwinfo, struct ap_config_info; reference C.6. */
import type { ApMode, Card } from './card.js';
import { ApMask, type ApMatrix } from './matrix.js';

/** Facility bits of TAPQ: general register 2, top byte. */
const FACILITY = { MEX4K: 0x40n, CRT4K: 0x20n, CCA: 0x10n, ACCELERATOR: 0x08n, APXA: 0x02n } as const;
const SHIFT = { FACILITIES: 56n, TYPE: 24n, DOMAINS: 16n, MESSAGE: 8n } as const;
const ML_SHIFT = 12;
const BYTE = 0xffn;
const NIBBLE = 0xfn;

/** The machine's limits: highest adapter and domain index. */
export interface Limits {
  readonly apxa: boolean;
  readonly maxAdapter: number;
  readonly maxDomain: number;
}

/**
 * What TAPQ puts into general register 2. From the top: facilities (8 bits), class, bind state (0: usable, there is nothing to bind),
 * ..., type (8), highest domain (8), longest message in 4 KiB (4 of 8), depth less one (4 of 8).
 */
export function queueInfo(card: Card, limits: Limits): bigint {
  const mode = card.mode === 'cca' ? FACILITY.CCA : FACILITY.ACCELERATOR;
  const facilities = FACILITY.MEX4K | FACILITY.CRT4K | mode | (limits.apxa ? FACILITY.APXA : 0n);
  return (
    (facilities << SHIFT.FACILITIES) |
    (BigInt(card.type) << SHIFT.TYPE) |
    (BigInt(limits.maxDomain) << SHIFT.DOMAINS) |
    (BigInt(card.maxMessage >> ML_SHIFT) << SHIFT.MESSAGE) |
    BigInt(card.depth - 1)
  );
}

/** What a guest reads out of TAPQ's general register 2. `maxMessage`: bytes. */
export interface QueueDescription {
  readonly mode: ApMode | 'other';
  readonly type: number;
  readonly depth: number;
  readonly maxMessage: number;
}

export function decodeQueueInfo(gr2: bigint): QueueDescription {
  const facilities = gr2 >> SHIFT.FACILITIES;
  const mode = facilities & FACILITY.ACCELERATOR ? 'accelerator' : facilities & FACILITY.CCA ? 'cca' : 'other';
  return {
    mode,
    type: Number((gr2 >> SHIFT.TYPE) & BYTE),
    depth: Number(gr2 & NIBBLE) + 1,
    maxMessage: Number((gr2 >> SHIFT.MESSAGE) & NIBBLE) << ML_SHIFT,
  };
}

/** Bytes of the block that QCI stores. */
export const CONFIG_INFO_SIZE = 128;
const CONFIG = { FLAGS: 0, MAX_ADAPTER: 4, MAX_DOMAIN: 5, ADAPTERS: 16, DOMAINS: 48, CONTROL_DOMAINS: 80 } as const;
/** N: APXA. The other facilities (S, C, R, ...) are not installed. */
const APXA_FLAG = 0x40;
const MASK_BYTES = 32;

/** The block that QCI stores: the guest's own masks, and the machine's limits. */
export function configInfo(matrix: ApMatrix, limits: Limits): Uint8Array {
  const block = new Uint8Array(CONFIG_INFO_SIZE);
  block[CONFIG.FLAGS] = limits.apxa ? APXA_FLAG : 0;
  block[CONFIG.MAX_ADAPTER] = limits.maxAdapter;
  block[CONFIG.MAX_DOMAIN] = limits.maxDomain;
  block.set(matrix.adapters.bytes(), CONFIG.ADAPTERS);
  block.set(matrix.domains.bytes(), CONFIG.DOMAINS);
  block.set(matrix.controlDomains.bytes(), CONFIG.CONTROL_DOMAINS);
  return block;
}

/** The masks out of a block that QCI stored. What a guest's program does. */
export function decodeConfigInfo(block: Uint8Array): ApMatrix {
  const mask = (offset: number): ApMask => ApMask.from(block.subarray(offset, offset + MASK_BYTES));
  return {
    adapters: mask(CONFIG.ADAPTERS),
    domains: mask(CONFIG.DOMAINS),
    controlDomains: mask(CONFIG.CONTROL_DOMAINS),
  };
}
