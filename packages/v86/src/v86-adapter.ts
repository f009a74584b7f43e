/**
 * The one file that knows the emulator. What it relies on besides the documented options: the names of functions that the emulator's
 * WebAssembly module imports (accesses outside RAM, ports, time) and exports (a slice of execution, interrupt lines). Both are checked
 * here by name, and by the self-test for what they do.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { PinionError } from '@pinion/core';
import { V86 } from 'v86';
import type { CpuFactory, CpuOptions, CpuState, X86Cpu } from './cpu.js';
import { v86Errors } from './errors.js';

/** The version that this file was written for. Its releases follow its commits and promise nothing to each other. */
export const EMULATOR_VERSION = '0.5.462';

const IMPORTS = [
  'mmap_read8',
  'mmap_read32',
  'mmap_write8',
  'mmap_write16',
  'mmap_write32',
  'mmap_write64',
  'mmap_write128',
  'io_port_read8',
  'io_port_read16',
  'io_port_read32',
  'io_port_write8',
  'io_port_write16',
  'io_port_write32',
  'microtick',
  'run_hardware_timers',
  'stop_idling',
  'console_log_from_wasm',
] as const;

/** Framebuffer of the emulator's display adapter at 0xe0000000, which nobody looks at: the smallest it takes. */
const DISPLAY_BYTES = 256 * 1024;
/** More than the emulator's millisecond per slice: a slice is one run of its inner loop, about 100 000 instructions. */
const MS_PER_LOOK = 2;
/** What the emulator answers when no timer of a PC is about to fire; there are none here. */
const NO_TIMER = 100;
/**
 * Accesses outside RAM in one slice that a guest may have: a fill of 4 MiB by dwords. The emulator does a repeated instruction
 * (REP INS) as a whole, and with a count of four billion nobody else in the process would ever have a turn.
 */
const MOST_ACCESSES = 2 ** 20;
const INTERRUPT_FLAG = 0x200;
/** Interrupt command register of the local APIC, and its bits for `to this CPU, edge, fixed`. Source: Intel SDM volume 3, 10.6.1. */
const APIC_COMMAND = 0xfee0_0300;
const TO_SELF = 0x4_0000;

/** What WebAssembly offers, as far as it is used here (the project builds without the types of browsers). */
declare const WebAssembly: {
  compile(bytes: Uint8Array): Promise<object>;
  instantiate(module: object, imports: object): Promise<{ readonly exports: object }>;
  readonly Module: {
    imports(module: object): readonly { readonly name: string }[];
    exports(module: object): readonly { readonly name: string }[];
  };
};

/** Functions that the emulator's JavaScript gives to its module. */
type Imports = Readonly<Record<string, (...args: number[]) => number>>;

/** What is used of the module's exports. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  allocate_memory(bytes: number): number;
  /** One slice. @returns 0 when there is more to do, else milliseconds to wait. */
  main_loop(): number;
  get_eflags(): number;
  device_raise_irq(line: number): void;
  device_lower_irq(line: number): void;
  write32(address: number, value: number): void;
}

const EXPORTS = [
  'memory',
  'allocate_memory',
  'main_loop',
  'get_eflags',
  'device_raise_irq',
  'device_lower_irq',
  'write32',
] as const satisfies readonly (keyof Exports)[];

const require = createRequire(import.meta.url);
/** The module takes a while to compile and never changes: one for all VMs of a process. */
let compiled: Promise<object> | undefined;

async function compile(): Promise<object> {
  const { version }: { version: string } = require('v86/package.json');
  checkVersion(version);
  const module = await WebAssembly.compile(await readFile(require.resolve('v86/build/v86.wasm')));
  const missing = missingNames(WebAssembly.Module.imports(module), WebAssembly.Module.exports(module));
  if (missing.length > 0) throw v86Errors.OTHER_INTERFACE({ missing });
  return module;
}

/** @throws V86_WRONG_VERSION (EINVAL) for any version but the one this file was written for; what stands behind a plus is its commit. */
export function checkVersion(version: string): void {
  const [release] = version.split('+');
  if (release !== EMULATOR_VERSION) throw v86Errors.WRONG_VERSION({ found: version, wanted: EMULATOR_VERSION });
}

type Named = readonly { readonly name: string }[];

/** Names of what this file needs and a module does not have. */
export function missingNames(imports: Named, exports: Named): readonly string[] {
  const lacks = (there: Named, wanted: readonly string[]): string[] =>
    wanted.filter((name) => !there.some((each) => each.name === name));
  return [...lacks(imports, IMPORTS), ...lacks(exports, EXPORTS)];
}

/** What traps of a CPU meet before the CPU is there, and what they threw. */
interface TrapState {
  failure: { readonly cause: unknown } | undefined;
  complaint: string;
  /** Since the slice began. */
  accesses: number;
}

/**
 * A CPU of the emulator. It never compiles guest code: that would happen beside the guest at no certain time, would run stale code
 * after DMA into it, and could move RAM. @throws V86_WRONG_VERSION, V86_OTHER_INTERFACE (EINVAL), V86_NOT_STARTED (EIO).
 */
export const createV86Cpu: CpuFactory = async (options) => {
  compiled ??= compile();
  const module = await compiled.catch((cause: unknown) => {
    compiled = undefined;
    throw cause;
  });
  return new Promise((resolve, reject) => {
    const state: TrapState = { failure: undefined, complaint: '', accesses: 0 };
    // A rejection would be nobody's: the caller is told here, and the emulator waits for ever.
    const fail = (cause: unknown): Promise<never> => {
      reject(v86Errors.NOT_STARTED({ why: String(cause) }, cause));
      return new Promise(() => {});
    };
    const start = async ({ env }: { env: Imports }): Promise<object> => {
      let at = 0;
      let exports: Exports | undefined;
      const text = (from: number, length: number): string =>
        new TextDecoder().decode(new Uint8Array(exports?.memory.buffer ?? new ArrayBuffer(0), from, length));
      const imports = { ...env, ...replaced(options, env, state), ...silenced(options, state, text) };
      const instance = await WebAssembly.instantiate(module, { env: imports });
      // why: missingNames has looked for each of these by name; the self-test shows that they do what is expected
      exports = instance.exports as Exports;
      const made = exports;
      const allocate_memory = (bytes: number): number => {
        at = made.allocate_memory(bytes);
        return at;
      };
      emulator.add_listener('emulator-ready', () =>
        resolve(new EmulatedCpu(made, { at, size: options.ramBytes, state })),
      );
      return { ...instance.exports, allocate_memory };
    };
    const emulator = new V86({
      wasm_fn: (imports) => start(environment(imports)).catch(fail),
      memory_size: options.ramBytes,
      vga_memory_size: DISPLAY_BYTES,
      acpi: true,
      disable_jit: true,
      log_level: 0,
      multiboot: { buffer: options.image.slice().buffer },
      cmdline: options.commandLine,
    });
  });
};

// why: the emulator's JavaScript makes this object, and IMPORTS were looked for in the module that it is made for
const environment = (imports: unknown): { env: Imports } => imports as { env: Imports };

/** Time stands still but for the looks at it, no timer ever fires, and messages go to whoever made the CPU. */
function silenced({ warn }: CpuOptions, state: TrapState, text: (from: number, length: number) => string): object {
  let now = 0;
  return {
    microtick: () => {
      now += MS_PER_LOOK;
      return now;
    },
    run_hardware_timers: () => NO_TIMER,
    stop_idling: () => {},
    console_log_from_wasm: (from: number, length: number) => {
      state.complaint = text(from, length);
      warn(state.complaint);
    },
  };
}

/**
 * Ours come first in every access; what they throw is kept for `step`, because an exception that crosses the module leaves it in pieces.
 * That is the one way to stop it, though.
 */
function replaced({ traps }: CpuOptions, env: Imports, state: TrapState): object {
  const guarded = <T>(action: () => T, otherwise: T): T => {
    state.accesses += 1;
    if (state.accesses > MOST_ACCESSES) throw v86Errors.RUNAWAY({ accesses: MOST_ACCESSES });
    try {
      return action();
    } catch (cause) {
      state.failure ??= { cause };
      return otherwise;
    }
  };
  const load = (name: string, size: 1 | 4) => (address: number) =>
    guarded(() => traps.load(address >>> 0, size), 0) ?? env[name]?.(address) ?? 0;
  const store =
    (name: string, size: number) =>
    (address: number, ...values: number[]) => {
      const taken = guarded(() => traps.store(address >>> 0, littleEndian(values, size)), true);
      if (!taken) env[name]?.(address, ...values);
    };
  const input = (name: string, size: 1 | 2 | 4) => (port: number) =>
    guarded(() => traps.portIn(port, size), 0) ?? env[name]?.(port) ?? 0;
  const output = (name: string, size: 1 | 2 | 4) => (port: number, value: number) => {
    const taken = guarded(() => traps.portOut(port, size, value >>> 0), true);
    if (!taken) env[name]?.(port, value);
  };
  return {
    mmap_read8: load('mmap_read8', 1),
    mmap_read32: load('mmap_read32', 4),
    mmap_write8: store('mmap_write8', 1),
    mmap_write16: store('mmap_write16', 2),
    mmap_write32: store('mmap_write32', 4),
    mmap_write64: store('mmap_write64', 8),
    mmap_write128: store('mmap_write128', 16),
    io_port_read8: input('io_port_read8', 1),
    io_port_read16: input('io_port_read16', 2),
    io_port_read32: input('io_port_read32', 4),
    io_port_write8: output('io_port_write8', 1),
    io_port_write16: output('io_port_write16', 2),
    io_port_write32: output('io_port_write32', 4),
  } satisfies Partial<Record<(typeof IMPORTS)[number], unknown>>;
}

/** `size` bytes of values of 32 bits each. */
function littleEndian(values: readonly number[], size: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value >>> 0, true);
  return bytes.subarray(0, size);
}

interface Place {
  readonly at: number;
  readonly size: number;
  readonly state: TrapState;
}

class EmulatedCpu implements X86Cpu {
  readonly #exports: Exports;
  readonly #place: Place;
  #forgotten = false;
  /** Why it cannot go on. */
  #broken: unknown;

  constructor(exports: Exports, place: Place) {
    this.#exports = exports;
    this.#place = place;
  }

  get ram(): Uint8Array<ArrayBuffer> {
    const { at, size } = this.#place;
    return this.#forgotten ? new Uint8Array(0) : new Uint8Array(this.#exports.memory.buffer, at, size);
  }

  step(): CpuState {
    if (this.#forgotten) throw v86Errors.CPU_FAULT({ why: 'its memory was taken away' });
    const wait = this.#execute();
    const { failure } = this.#place.state;
    if (failure !== undefined) throw failure.cause;
    if (wait === 0) return 'running';
    return (this.#exports.get_eflags() & INTERRUPT_FLAG) === 0 ? 'dead' : 'halted';
  }

  setIrq(line: number, up: boolean): void {
    if (this.#forgotten || this.#broken !== undefined) return;
    if (up) this.#exports.device_raise_irq(line);
    else this.#exports.device_lower_irq(line);
  }

  deliverMessage(vector: number): void {
    if (!this.#forgotten && this.#broken === undefined) this.#exports.write32(APIC_COMMAND, TO_SELF | vector);
  }

  forget(): void {
    if (this.#forgotten) return;
    this.#forgotten = true;
    // Growing by nothing detaches the old buffer and with it every view. Source: WebAssembly JavaScript Interface, "refresh the memory buffer".
    this.#exports.memory.grow(0);
  }

  /** After a throw the module is in pieces: it is not entered again. */
  #execute(): number {
    if (this.#broken !== undefined) throw this.#broken;
    this.#place.state.accesses = 0;
    try {
      return this.#exports.main_loop();
    } catch (cause) {
      this.#broken = this.#faultOf(cause);
      throw this.#broken;
    }
  }

  /** The emulator gives up by a trap of WebAssembly, with a message at best. */
  #faultOf(cause: unknown): unknown {
    if (cause instanceof PinionError) return cause;
    const why = this.#place.state.complaint || (cause instanceof Error ? cause.message : String(cause));
    return v86Errors.CPU_FAULT({ why }, cause);
  }
}
