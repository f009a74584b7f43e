import { PROT_READ, PROT_RW, PROT_WRITE, type Prot } from '@pinion/core';

/** Who writes and who reads while a mapping lives. Values as in Linux. Source: enum dma_data_direction. */
export const DIRECTION = { BIDIRECTIONAL: 0, TO_DEVICE: 1, FROM_DEVICE: 2 } as const;
/** One of DIRECTION. */
export type Direction = (typeof DIRECTION)[keyof typeof DIRECTION];

/** DMA_ATTR_* bits; those without an effect here are taken and ignored. Source: include/linux/dma-mapping.h. */
export const ATTR = {
  WEAK_ORDERING: 0x2,
  WRITE_COMBINE: 0x4,
  NO_KERNEL_MAPPING: 0x10,
  SKIP_CPU_SYNC: 0x20,
  FORCE_CONTIGUOUS: 0x40,
  ALLOC_SINGLE_PAGES: 0x80,
  NO_WARN: 0x100,
  PRIVILEGED: 0x200,
} as const;
/** Bits of ATTR. */
export type Attributes = number;

/** What a failed map returns: all ones, which is no address of any mapping. Source: DMA_MAPPING_ERROR. */
export const DMA_MAPPING_ERROR = (1n << 64n) - 1n;

/** Whether a value that came from outside is a direction. */
export const isDirection = (value: number): value is Direction => value === 0 || value === 1 || value === 2;

/** What the device may do, from its point of view. `writeImpliesRead`: quirk of tables whose present bit is the read bit. */
export function protOf(direction: Direction, writeImpliesRead: boolean): Prot {
  if (direction === DIRECTION.BIDIRECTIONAL) return PROT_RW;
  if (direction === DIRECTION.TO_DEVICE) return PROT_READ;
  return writeImpliesRead ? PROT_RW : PROT_WRITE;
}

const NAMES = ['bidirectional', 'to device', 'from device'] as const;
/** A direction for people. */
export const formatDirection = (direction: Direction): string => NAMES[direction];
