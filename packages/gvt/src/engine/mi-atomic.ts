import { BIT } from '../commands.js';
import { RING } from './engines.js';
import type { CommandRun, HandlerResult } from './streamer-types.js';

type Operation = (memory: bigint, first: bigint, second: bigint) => bigint;

/** By the low five bits of the operation; the sixth says that it works on qwords. Source: Intel PRM (Skylake), "MI_ATOMIC". */
const OPERATIONS: Readonly<Record<number, (bits: number) => Operation>> = {
  1: () => (memory, first) => memory & first,
  2: () => (memory, first) => memory | first,
  3: () => (memory, first) => memory ^ first,
  4: () => (_memory, first) => first,
  5: () => (memory) => memory + 1n,
  6: () => (memory) => memory - 1n,
  7: () => (memory, first) => memory + first,
  8: () => (memory, first) => memory - first,
  9: () => (memory, first) => first - memory,
  10: (bits) => (memory, first) => (BigInt.asIntN(bits, memory) > BigInt.asIntN(bits, first) ? memory : first),
  11: (bits) => (memory, first) => (BigInt.asIntN(bits, memory) < BigInt.asIntN(bits, first) ? memory : first),
  12: () => (memory, first) => (memory > first ? memory : first),
  13: () => (memory, first) => (memory < first ? memory : first),
  14: () => (memory, first, second) => (memory === first ? second : memory),
};
const QWORD = 0x20;
const RETURN_DATA = 1 << 16;
const INLINE_LENGTH = 11;

const word = ({ words }: CommandRun, at: number): number => words[at] ?? 0;
const wide = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);

/** Operands stand in the command, or in the general purpose registers 0 and 1. */
function operands(run: CommandRun): readonly [bigint, bigint] {
  if (run.length === INLINE_LENGTH) return [wide(word(run, 3), word(run, 5)), wide(word(run, 4), word(run, 6))];
  const gpr = run.engine.base + RING.GPR;
  const register = (index: number) => wide(run.file.get(gpr + index * 8), run.file.get(gpr + index * 8 + 4));
  return [register(0), register(1)];
}

/** MI_ATOMIC on a dword or a qword of memory; what was there before goes into register 0 if the command wants it. */
export function atomic(run: CommandRun): HandlerResult {
  if (run.length !== 3 && run.length !== INLINE_LENGTH)
    throw run.refuse(`its length is ${run.length} dwords, not 3 or 11`);
  const code = (word(run, 0) >>> 8) & 0xff;
  const bits = (code & QWORD) === 0 ? 32 : 64;
  const operation = code < QWORD * 2 ? OPERATIONS[code & (QWORD - 1)]?.(bits) : undefined;
  if (operation === undefined) throw run.refuse(`atomic operation 0x${code.toString(16)} is not supported`);
  const memory = run.memory((word(run, 0) & BIT.ATOMIC_GGTT) !== 0);
  if (memory === undefined) return undefined;
  const at = word(run, 1) - (word(run, 1) & (bits / 8 - 1)) + (word(run, 2) & 0xffff) * 2 ** 32;
  const before = wide(memory.readDword(at), bits === 64 ? memory.readDword(at + 4) : 0);
  const [first, second] = operands(run).map((value) => BigInt.asUintN(bits, value));
  const after = BigInt.asUintN(bits, operation(before, first ?? 0n, second ?? 0n));
  memory.writeDword(at, Number(after & 0xffffffffn));
  if (bits === 64) memory.writeDword(at + 4, Number(after >> 32n));
  if ((word(run, 0) & RETURN_DATA) !== 0) returnData(run, before);
  return undefined;
}

function returnData({ engine, file }: CommandRun, value: bigint): void {
  file.set(engine.base + RING.GPR, Number(value & 0xffffffffn));
  file.set(engine.base + RING.GPR + 4, Number(value >> 32n));
}
