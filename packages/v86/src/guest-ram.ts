import { PAGE_SIZE } from '@pinion/core';
import type { MachineMemory, MemoryPiece, MemoryRegion, MemoryWindow } from '@pinion/vm';
import type { X86Cpu } from './cpu.js';
import { v86Errors } from './errors.js';

/** The RAM of a CPU is a multiple of this. */
const GRANULE = 128n * 1024n;
/** What is less the emulator would round up. */
const LEAST = 1n << 20n;
/** Where the last byte of RAM may be at most, plus one: less than what is left to devices below 4 GiB, and the emulator's half. */
export const LAST_REGION_END = 1n << 30n;
/** Where a PC has the display's window instead of RAM: the CPU cannot reach what lies below it. */
const HOLE = { at: 0xa_0000n, end: 0xc_0000n } as const;

const endOf = ({ at, size }: MemoryRegion): bigint => at + size;

/**
 * What a CPU needs as RAM to have all of these regions. @throws V86_BAD_MEMORY (EINVAL): none, or beyond the first GiB (this CPU has
 * 32-bit addresses, and the emulator less RAM than that).
 */
export function ramBytesFor(regions: readonly MemoryRegion[]): number {
  const beyond = regions.find((region) => endOf(region) > LAST_REGION_END);
  if (regions.length === 0) throw v86Errors.BAD_MEMORY({ problem: 'there is none' });
  if (beyond !== undefined) throw v86Errors.BAD_MEMORY({ problem: `region ${beyond.name} ends beyond the first GiB` });
  const end = regions.map(endOf).reduce((most, each) => (each > most ? each : most), LEAST);
  return Number(((end + GRANULE - 1n) / GRANULE) * GRANULE);
}

/** Regions with the display's window cut out: a region over it becomes `NAME` below and `NAME-high` above. */
export function aroundDisplay(regions: readonly MemoryRegion[]): readonly MemoryRegion[] {
  return regions.flatMap((region) => {
    if (endOf(region) <= HOLE.at || region.at >= HOLE.end) return [region];
    const below = { name: region.name, at: region.at, size: HOLE.at - region.at };
    const above = { name: `${region.name}-high`, at: HOLE.end, size: endOf(region) - HOLE.end };
    return [below, above].filter(({ size }) => size > 0n);
  });
}

/**
 * The RAM of one CPU as pages of the host's memory. Its views live until the last page of it was given back, as with all memory;
 * then the CPU forgets it.
 */
export class GuestRam {
  readonly #cpu: X86Cpu;
  #pieces = 0;

  constructor(cpu: X86Cpu) {
    this.#cpu = cpu;
  }

  /** Gives a region its pages. @throws V86_BAD_MEMORY (EINVAL) beyond the CPU's RAM. */
  adopt(machine: MachineMemory, region: MemoryRegion): readonly MemoryWindow[] {
    const from = Number(region.at);
    const size = Number(region.size);
    if (region.at + region.size > BigInt(this.#cpu.ram.length))
      throw v86Errors.BAD_MEMORY({ problem: `region ${region.name} is not in the RAM that the CPU was made with` });
    this.#pieces += 1;
    return [machine.adopt(size / PAGE_SIZE, this.#piece(from, size))];
  }

  #piece(from: number, size: number): MemoryPiece {
    const cpu = this.#cpu;
    let freed = false;
    return {
      get bytes() {
        return freed ? new Uint8Array(0) : cpu.ram.subarray(from, from + size);
      },
      free: () => {
        freed = true;
        this.#pieces -= 1;
        if (this.#pieces === 0) cpu.forget();
      },
    };
  }
}
