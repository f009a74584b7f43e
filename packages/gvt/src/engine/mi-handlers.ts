/** What the commands of the memory interface do. Source: Intel PRM (Skylake), "Command reference: instructions". */
import { BIT, FLUSH_GGTT, MI } from '../commands.js';
import type { GraphicsAccess } from '../graphics-access.js';
import { decodeFlip, flip } from './display-flip.js';
import { RING } from './engines.js';
import { atomic } from './mi-atomic.js';
import { math } from './mi-math.js';
import type { CommandRun, HandlerResult } from './streamer-types.js';

const PAGE = 4096;
const REGISTER = 0x7ffffc;
const PDP_DWORDS = 8;
const ADDRESS_LOW = 0xfffff000;

export type Handler = (run: CommandRun) => HandlerResult;

const word = ({ words }: CommandRun, at: number): number => words[at] ?? 0;
const header = (run: CommandRun): number => word(run, 0);
const has = (run: CommandRun, bit: number): boolean => (header(run) & bit) !== 0;

/** A graphics address in two words, without its low bits. */
const address = (run: CommandRun, at: number, low: number): number =>
  word(run, at) - (word(run, at) & low) + (word(run, at + 1) & 0xffff) * 2 ** 32;

function expectLength(run: CommandRun, ...lengths: readonly number[]): void {
  if (!lengths.includes(run.length))
    throw run.refuse(`its length is ${run.length} dwords, not ${lengths.join(' or ')}`);
}

function put(memory: GraphicsAccess | undefined, at: number, values: readonly number[]): void {
  for (const [index, value] of values.entries()) memory?.writeDword(at + index * 4, value);
}

const store: Handler = (run) => {
  const qword = has(run, BIT.STORE_QWORD);
  expectLength(run, qword ? 5 : 4);
  const values = qword ? [word(run, 3), word(run, 4)] : [word(run, 3)];
  put(run.memory(has(run, BIT.STORE_GGTT)), address(run, 1, 3), values);
  return undefined;
};

const loadImmediate: Handler = (run) => {
  const pdp = run.engine.base + RING.PDP;
  let roots = 0;
  for (let at = 1; at + 1 < run.length; at += 2) {
    const offset = word(run, at) & REGISTER;
    if (run.restricted && !run.registers.isOpenToAll(offset)) continue;
    run.registers.write(offset, word(run, at + 1));
    if (offset >= pdp && offset < pdp + PDP_DWORDS * 4) roots += 1;
  }
  if (roots > 0) run.loadRoots(rootsOf(run));
  return undefined;
};

/** PDP 0 to 3 as the engine's registers have them. */
function rootsOf({ engine, file }: CommandRun): readonly number[] {
  return Array.from({ length: PDP_DWORDS / 2 }, (_, pdp) => {
    const at = engine.base + RING.PDP + pdp * 8;
    return file.get(at + 4) * 2 ** 32 + ((file.get(at) & ADDRESS_LOW) >>> 0);
  });
}

const loadRegister: Handler = (run) => {
  expectLength(run, 3);
  const to = word(run, 2) & REGISTER;
  if (!run.restricted || run.registers.isOpenToAll(to))
    run.registers.write(to, run.registers.read(word(run, 1) & REGISTER));
  return undefined;
};

const loadMemory: Handler = (run) => {
  expectLength(run, 4);
  const to = word(run, 1) & REGISTER;
  const memory = run.memory(has(run, BIT.REGISTER_GGTT));
  if (memory !== undefined && (!run.restricted || run.registers.isOpenToAll(to)))
    run.registers.write(to, memory.readDword(address(run, 2, 3)));
  return undefined;
};

const storeRegister: Handler = (run) => {
  expectLength(run, 4);
  const value = run.registers.read(word(run, 1) & REGISTER);
  put(run.memory(has(run, BIT.REGISTER_GGTT)), address(run, 2, 3), [value]);
  return undefined;
};

interface PostSync {
  readonly at: number;
  readonly index: boolean;
  readonly global: boolean;
  readonly values: readonly number[];
}

/** The write behind a flush: into the status page by an index, or to an address. */
function postSync(run: CommandRun, { at, index, global, values }: PostSync): void {
  const page = (run.file.get(run.engine.base + RING.HWS_PGA) & ADDRESS_LOW) >>> 0;
  if (!index) put(run.memory(global), at, values);
  else if (!run.restricted) put(run.memory(true), page + (at % PAGE), values);
}

const ticksOf = ({ ticks }: CommandRun): readonly number[] => [ticks % 2 ** 32, Math.floor(ticks / 2 ** 32)];

const flushDword: Handler = (run) => {
  expectLength(run, 4, 5);
  const operation = header(run) & BIT.FLUSH_POST_SYNC;
  const data = run.length === 5 ? [word(run, 3), word(run, 4)] : [word(run, 3)];
  if (operation !== 0)
    postSync(run, {
      at: address(run, 1, 7),
      index: has(run, BIT.FLUSH_STORE_INDEX),
      global: (word(run, 1) & FLUSH_GGTT) !== 0,
      values: operation === BIT.FLUSH_TIMESTAMP ? ticksOf(run) : data,
    });
  if (has(run, BIT.FLUSH_NOTIFY)) run.signal(run.engine.events.flush);
  return undefined;
};

/** PIPE_CONTROL of the render engine. */
export const pipeControl: Handler = (run) => {
  expectLength(run, 6);
  const flags = word(run, 1);
  const operation = flags & BIT.PIPE_POST_SYNC;
  const counted = operation === BIT.PIPE_WRITE ? [word(run, 4), word(run, 5)] : [0, 0];
  if (operation !== 0)
    postSync(run, {
      at: address(run, 2, 7),
      index: (flags & BIT.PIPE_STORE_INDEX) !== 0,
      global: (flags & BIT.PIPE_GGTT) !== 0,
      values: operation === BIT.PIPE_TIMESTAMP ? ticksOf(run) : counted,
    });
  if ((flags & BIT.PIPE_NOTIFY) !== 0) run.signal(run.engine.events.flush);
  return undefined;
};

/** Comparisons of memory with data, bits 14:12. */
const COMPARISONS: readonly ((memory: number, data: number) => boolean)[] = [
  (memory, data) => memory > data,
  (memory, data) => memory >= data,
  (memory, data) => memory < data,
  (memory, data) => memory <= data,
  (memory, data) => memory === data,
  (memory, data) => memory !== data,
];

const semaphoreWait: Handler = (run) => {
  expectLength(run, 4);
  const compare = COMPARISONS[(header(run) >>> 12) & 7];
  if (compare === undefined) throw run.refuse('reserved comparison');
  const memory = run.memory(has(run, BIT.WAIT_GGTT));
  if (memory === undefined) return undefined;
  return compare(memory.readDword(address(run, 2, 3)), word(run, 1)) ? undefined : 'wait';
};

/** Goes on while memory is greater than the data. */
const conditionalEnd: Handler = (run) => {
  expectLength(run, 4);
  const memory = run.memory(has(run, BIT.WAIT_GGTT));
  if (memory === undefined) return undefined;
  return memory.readDword(address(run, 2, 7)) > word(run, 1) ? undefined : 'end';
};

const displayFlip: Handler = (run) => {
  expectLength(run, 3);
  const decoded = run.restricted ? undefined : decodeFlip(run.words);
  if (decoded === undefined) return undefined;
  flip(decoded, run.file);
  run.signal(decoded.event);
  return undefined;
};

/** By MI opcode. What is not here has no effect. */
export const MI_HANDLERS: ReadonlyMap<number, Handler> = new Map([
  [MI.DISPLAY_FLIP, displayFlip],
  [MI.SEMAPHORE_WAIT, semaphoreWait],
  [MI.STORE_DWORD_IMM, store],
  [MI.LOAD_REGISTER_IMM, loadImmediate],
  [MI.STORE_REGISTER_MEM, storeRegister],
  [MI.FLUSH_DW, flushDword],
  [MI.LOAD_REGISTER_MEM, loadMemory],
  [MI.LOAD_REGISTER_REG, loadRegister],
  [MI.ATOMIC, atomic],
  [MI.MATH, math],
  [MI.CONDITIONAL_BATCH_BUFFER_END, conditionalEnd],
]);
