import type { ConfigSpace } from './config-space.js';
import { pciErrors } from './errors.js';
import { BAR_COUNT, COMMAND, CONFIG } from './registers.js';

/** What stands behind an address window: `offset` counts from its start, in bytes; accesses never leave the window. */
export interface BarHandler {
  /** Fills `bytes`. */
  read(offset: number, bytes: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
}

/** One base address register (a 64-bit one takes `index` and `index + 1`). */
export interface BarSpec {
  readonly index: number;
  readonly kind: 'memory32' | 'memory64' | 'io';
  /** Bytes: a power of two; memory from 16, I/O from 4 to 256. */
  readonly size: number;
  /** Memory without side effects on reads. */
  readonly prefetchable?: boolean;
  readonly handler: BarHandler;
}

/** Where software placed a BAR. */
export interface BarWindow {
  readonly index: number;
  readonly kind: BarSpec['kind'];
  /** Bus address, bytes. */
  readonly address: bigint;
  readonly size: number;
}

const SMALLEST = { io: 4, memory32: 16, memory64: 16 } as const;
const LARGEST = { io: 256, memory32: 2 ** 31, memory64: 2 ** 52 } as const;
/** Low bits of a register that say what it is. Source: PCI 3.0 section 6.2.5.1. */
const KIND_BITS = { io: 0b01, memory32: 0b000, memory64: 0b100 } as const;
const PREFETCHABLE = 0b1000;
const FLAG_MASK = { io: 0b11n, memory32: 0b1111n, memory64: 0b1111n } as const;
const ALL_ONES = (1n << 64n) - 1n;
const LOW_HALF = 0xffff_ffffn;

const isPowerOfTwo = (size: number): boolean => Number.isInteger(Math.log2(size));
const widthOf = (bar: BarSpec): number => (bar.kind === 'memory64' ? 2 : 1);

function problemOf(bar: BarSpec): string | undefined {
  const { index, kind, size } = bar;
  if (!Number.isInteger(index) || index < 0 || index >= BAR_COUNT) return 'the index must be 0 to 5';
  if (index + widthOf(bar) > BAR_COUNT) return 'a 64-bit BAR needs the register behind it, so at most index 4';
  if (!(size > 0) || !isPowerOfTwo(size)) return `its size ${size} is no power of two`;
  if (size < SMALLEST[kind] || size > LARGEST[kind])
    return `its size ${size} is outside ${SMALLEST[kind]}..${LARGEST[kind]}`;
  return kind === 'io' && bar.prefetchable === true ? 'I/O space cannot be prefetchable' : undefined;
}

const littleEndian = (value: bigint, length: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes.subarray(0, length);
};

/** The low bits of a BAR's register, which software cannot change. */
export const barFlags = (bar: BarSpec): number => KIND_BITS[bar.kind] | (bar.prefetchable === true ? PREFETCHABLE : 0);

/**
 * Declares the registers of all BARs. Sizing is what the masks do: software writes ones and reads back which stayed.
 * @throws PCI_BAD_BAR (EINVAL), PCI_BAR_TAKEN (EEXIST). Source: PCI 3.0 section 6.2.5.1.
 */
export function defineBars(config: ConfigSpace, bars: readonly BarSpec[]): void {
  const owner = new Map<number, number>();
  for (const bar of bars) {
    const problem = problemOf(bar);
    if (problem !== undefined) throw pciErrors.BAD_BAR({ index: bar.index, problem });
    for (let register = bar.index; register < bar.index + widthOf(bar); register += 1) {
      const by = owner.get(register);
      if (by !== undefined) throw pciErrors.BAR_TAKEN({ index: register, by });
      owner.set(register, bar.index);
    }
    const writable = (ALL_ONES - BigInt(bar.size - 1)) & (ALL_ONES - FLAG_MASK[bar.kind]);
    const length = widthOf(bar) * 4;
    config.define(CONFIG.BAR0 + bar.index * 4, {
      value: littleEndian(BigInt(barFlags(bar)), length),
      writable: littleEndian(writable, length),
    });
  }
}

/** The address that software wrote into a BAR, bytes. */
export function barAddress(config: ConfigSpace, bar: BarSpec): bigint {
  const at = CONFIG.BAR0 + bar.index * 4;
  const high = bar.kind === 'memory64' ? BigInt(config.get32(at + 4)) << 32n : 0n;
  return high | (BigInt(config.get32(at)) & (LOW_HALF - FLAG_MASK[bar.kind]));
}

/** The bit of the command register that lets this kind of space answer. */
export const decodeBit = (kind: BarSpec['kind']): number => (kind === 'io' ? COMMAND.IO : COMMAND.MEMORY);
