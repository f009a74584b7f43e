import type { DmaApi } from '@pinion/core';
import { PAGE_SIZE } from '@pinion/core';
import type { CcwQuirk } from './quirks.js';
import { CCW_FLAG, type Ccw, ORB, type Orb } from './wire.js';

/** How a program writes its indirect lists. `block`: bytes that one word covers; `wordSize`: 4 or 8 bytes. */
export interface IdalFormat {
  readonly block: 2048 | 4096;
  readonly wordSize: 4 | 8;
  /** Bytes read per word of a list: 8 for 4-byte words only by a quirk. */
  readonly stride?: 8;
}

/** Format-1 lists (32-bit words) always step by 2 KiB; format-2 lists by 4 KiB unless ORB.T says 2 KiB. */
export function idalFormat(orb: Orb, quirks: ReadonlySet<CcwQuirk> = new Set()): IdalFormat {
  const wide = (orb.word1 & ORB.IDAW64) !== 0;
  const small = !wide || (orb.word1 & ORB.BLOCKS_2K) !== 0;
  const format = { block: small ? 2048 : PAGE_SIZE, wordSize: wide ? 8 : 4 } as const;
  return quirks.has('idal-over-read') ? { ...format, stride: 8 } : format;
}

/** Words that a list needs for `count` bytes from `address`; a count of 0 counts as 1. Source: idal_nr_words(). */
export function idawCount(address: bigint, count: number, block: number): number {
  const offset = Number(address % BigInt(block));
  return Math.ceil((offset + Math.max(count, 1)) / block);
}

/** The list that a directly addressed CCW becomes: its address, then every block border after it. */
export function directIdal(address: bigint, count: number, block: number): readonly bigint[] {
  const step = BigInt(block);
  const first = address - (address % step);
  return Array.from({ length: idawCount(address, count, block) }, (_, index) =>
    index === 0 ? address : first + step * BigInt(index),
  );
}

/**
 * Reads a guest's list: its first word tells how many there are; all are then taken as they stand. Unlike Linux, never
 * reads past the last word. @throws whatever `dma.read` throws for a list that is not mapped.
 */
export function guestIdal(dma: DmaApi, ccw: Ccw, format: IdalFormat): readonly bigint[] {
  const { wordSize, stride = wordSize } = format;
  const first = readWords(dma, ccw.address, { count: 1, wordSize, stride: wordSize })[0] ?? 0n;
  const count = idawCount(first, ccw.count, format.block);
  return readWords(dma, ccw.address, { count, wordSize, stride });
}

/** The addresses of a CCW's data, one per block. Source: get_guest_idal(). */
export const dataWords = (dma: DmaApi, ccw: Ccw, format: IdalFormat): readonly bigint[] =>
  (ccw.flags & CCW_FLAG.IDA) !== 0
    ? guestIdal(dma, ccw, format)
    : directIdal(BigInt(ccw.address), ccw.count, format.block);

interface WordList {
  readonly count: number;
  readonly wordSize: 4 | 8;
  readonly stride: 4 | 8;
}

function readWords(dma: DmaApi, address: number, list: WordList): readonly bigint[] {
  const bytes = new Uint8Array(list.count * list.stride);
  dma.read(BigInt(address), bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: list.count }, (_, index) =>
    list.wordSize === 8 ? view.getBigUint64(index * 8) : BigInt(view.getUint32(index * 4)),
  );
}
