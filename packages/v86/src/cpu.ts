/** Bytes of one access that leaves the CPU: 1, 2 or 4 for ports, 1, 4, 8 or 16 for memory. */
export type AccessSize = 1 | 2 | 4 | 8 | 16;

/**
 * Where a CPU's accesses go that do not reach RAM. `undefined` and `false` mean: none of ours, the emulator's own devices
 * answer. Called in the middle of an instruction.
 */
export interface CpuTraps {
  /** A load of `size` bytes; the value unsigned. */
  load(address: number, size: 1 | 4): number | undefined;
  /** A store of `bytes.length` bytes, 1, 2, 4, 8 or 16. */
  store(address: number, bytes: Uint8Array): boolean;
  portIn(port: number, size: 1 | 2 | 4): number | undefined;
  portOut(port: number, size: 1 | 2 | 4, value: number): boolean;
}

/**
 * How a slice of execution ended. `halted`: the CPU waits for an interrupt. `dead`: it waits, and takes none (HLT with interrupts
 * off).
 */
export type CpuState = 'running' | 'halted' | 'dead';

/** An x86 CPU with its RAM, its interrupt controllers and nothing else that anybody outside would see. */
export interface X86Cpu {
  /** The RAM, live. A new view of it when the emulator moved it; empty after `forget`. */
  readonly ram: Uint8Array<ArrayBuffer>;
  /** Executes a bounded number of instructions. @throws V86_CPU_FAULT (EFAULT), V86_RUNAWAY (ETIMEDOUT): the CPU cannot go on. */
  step(): CpuState;
  /** The level of an interrupt line, 0 to 15. May be called within a trap. */
  setIrq(line: number, up: boolean): void;
  /** A message signalled interrupt for the local APIC: `vector` 16 to 255, edge triggered. May be called within a trap. */
  deliverMessage(vector: number): void;
  /** Nobody has the RAM any more: every view of it, whoever kept one, is empty from here on. `step` must not be called again. */
  forget(): void;
}

export interface CpuOptions {
  /** Bytes of RAM from address 0, a multiple of 128 KiB. */
  readonly ramBytes: number;
  /** A checked multiboot image (`checkImage`). */
  readonly image: Uint8Array;
  readonly commandLine: string;
  readonly traps: CpuTraps;
  /** Messages of the emulator itself. */
  warn(message: string): void;
}

/** Makes a CPU that is about to execute the image's first instruction. */
export type CpuFactory = (options: CpuOptions) => Promise<X86Cpu>;
