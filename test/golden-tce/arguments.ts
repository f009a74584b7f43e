import { MAP_FLAG } from '@pinion/core';
import type { Operation } from '../golden/scenario.js';
import type { Process } from './world.js';

export const text = (op: Operation, key: string, fallback = ''): string => String(op[key] ?? fallback);
export const int = (op: Operation, key: string, fallback = 0): number => Number(op[key] ?? fallback);
export const big = (op: Operation, key: string, fallback = 0n): bigint => {
  const value = op[key];
  return typeof value === 'string' || typeof value === 'number' ? BigInt(value) : fallback;
};

/** `buf0+0x1000`, `buf0-0x1000` or a number. */
export function address({ buffers }: Process, op: Operation): bigint {
  const value = op['vaddr'];
  if (typeof value === 'number') return BigInt(value);
  const [, name = '', sign, offset = '0'] = /^(\w+)(?:([+-])(\w+))?$/.exec(String(value)) ?? [];
  const buffer = buffers.get(name);
  if (buffer === undefined) return BigInt(name);
  return sign === '-' ? buffer.vaddr - BigInt(offset) : buffer.vaddr + BigInt(offset);
}

const LETTERS: Readonly<Record<string, number>> = { r: MAP_FLAG.READ, w: MAP_FLAG.WRITE, v: MAP_FLAG.VADDR };

/** `flags` as letters, with the bits of `raw_flags`. */
export const flagsOf = (op: Operation): number =>
  ([...text(op, 'flags')].reduce((bits, letter) => bits | (LETTERS[letter] ?? 0), 0) | int(op, 'raw_flags')) >>> 0;

/** An `argsz` if the operation gives one. */
export const argszOf = (op: Operation): { argsz?: number } =>
  op['argsz'] === undefined ? {} : { argsz: int(op, 'argsz') };
