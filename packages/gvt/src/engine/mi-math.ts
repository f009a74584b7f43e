/** MI_MATH: 64-bit arithmetic on the general purpose registers. Source: Intel PRM (Skylake), "MI_MATH". */
import { GPR_COUNT, RING } from './engines.js';
import type { CommandRun } from './streamer-types.js';

/** Operations, bits 31:20 of an instruction. */
const OP = {
  NOOP: 0x000,
  LOAD: 0x080,
  LOAD_ZEROS: 0x081,
  ADD: 0x100,
  SUB: 0x101,
  AND: 0x102,
  OR: 0x103,
  XOR: 0x104,
  STORE: 0x180,
  LOAD_INVERTED: 0x480,
  LOAD_ONES: 0x481,
  STORE_INVERTED: 0x580,
} as const;
/** Operands beyond the registers 0 to 15: both inputs, the result, and whether it was zero or carried. */
const UNIT = { A: 0x20, B: 0x21, RESULT: 0x31, ZERO: 0x32, CARRY: 0x33 } as const;
const BITS = 64;
const ONES = 2n ** 64n - 1n;

type Arithmetic = (a: bigint, b: bigint) => bigint;
const ARITHMETIC: ReadonlyMap<number, Arithmetic> = new Map<number, Arithmetic>([
  [OP.ADD, (a, b) => a + b],
  [OP.SUB, (a, b) => a - b],
  [OP.AND, (a, b) => a & b],
  [OP.OR, (a, b) => a | b],
  [OP.XOR, (a, b) => a ^ b],
]);

/** The unit's inputs and outputs, which live as long as one command. */
class Unit {
  readonly #run: CommandRun;
  readonly #values = new Map<number, bigint>();

  constructor(run: CommandRun) {
    this.#run = run;
  }

  execute(instruction: number): void {
    const [operation, to, from] = [instruction >>> 20, (instruction >>> 10) & 0x3ff, instruction & 0x3ff];
    const compute = ARITHMETIC.get(operation);
    if (compute !== undefined) this.#compute(compute);
    else if (operation === OP.LOAD) this.#load(to, this.#read(from));
    else if (operation === OP.LOAD_INVERTED) this.#load(to, this.#read(from) ^ ONES);
    else if (operation === OP.LOAD_ZEROS) this.#load(to, 0n);
    else if (operation === OP.LOAD_ONES) this.#load(to, ONES);
    else if (operation === OP.STORE) this.#store(to, this.#get(from));
    else if (operation === OP.STORE_INVERTED) this.#store(to, this.#get(from) ^ ONES);
    else if (operation !== OP.NOOP)
      throw this.#run.refuse(`arithmetic operation 0x${operation.toString(16)} is reserved`);
  }

  #compute(compute: Arithmetic): void {
    const exact = compute(this.#get(UNIT.A), this.#get(UNIT.B));
    const result = BigInt.asUintN(BITS, exact);
    this.#values.set(UNIT.RESULT, result);
    this.#values.set(UNIT.ZERO, result === 0n ? ONES : 0n);
    this.#values.set(UNIT.CARRY, exact === result ? 0n : ONES);
  }

  #get(operand: number): bigint {
    return this.#values.get(operand) ?? 0n;
  }

  #load(to: number, value: bigint): void {
    if (to !== UNIT.A && to !== UNIT.B) throw this.#run.refuse('a load goes to an input of the unit');
    this.#values.set(to, value);
  }

  #read(register: number): bigint {
    const at = this.#register(register);
    const { file } = this.#run;
    return (BigInt(file.get(at + 4)) << 32n) | BigInt(file.get(at));
  }

  #store(register: number, value: bigint): void {
    const at = this.#register(register);
    this.#run.file.set(at, Number(value & 0xffffffffn));
    this.#run.file.set(at + 4, Number(value >> 32n));
  }

  #register(register: number): number {
    if (register >= GPR_COUNT) throw this.#run.refuse(`there is no register ${register}`);
    return this.#run.engine.base + RING.GPR + register * 8;
  }
}

/** Carries all instructions of a command out; one that is refused has no effect, those before it have. */
export function math(run: CommandRun): undefined {
  const unit = new Unit(run);
  for (let at = 1; at < run.length; at++) unit.execute(run.words[at] ?? 0);
}
