import type { CpuFactory, CpuOptions, CpuState, X86Cpu } from '@pinion/v86';

/** What a CPU does in its slices; each call is one. */
export type Script = (cpu: FakeCpu) => CpuState;

/** A CPU without an emulator: its program is a function that uses the traps as instructions would. */
export class FakeCpu implements X86Cpu {
  readonly options: CpuOptions;
  readonly lines = new Map<number, boolean>();
  readonly messages: number[] = [];
  forgotten = false;
  bytes: Uint8Array<ArrayBuffer>;
  readonly #script: Script;

  constructor(options: CpuOptions, script: Script) {
    this.options = options;
    this.#script = script;
    this.bytes = new Uint8Array(options.ramBytes);
  }

  get ram(): Uint8Array<ArrayBuffer> {
    return this.bytes;
  }

  step(): CpuState {
    return this.#script(this);
  }

  setIrq(line: number, up: boolean): void {
    this.lines.set(line, up);
  }

  deliverMessage(vector: number): void {
    this.messages.push(vector);
  }

  forget(): void {
    this.forgotten = true;
    this.bytes = new Uint8Array(0);
  }

  dword(at: number): number {
    return new DataView(this.bytes.buffer).getUint32(at, true);
  }

  setDword(at: number, value: number): void {
    new DataView(this.bytes.buffer).setUint32(at, value >>> 0, true);
  }

  print(text: string): void {
    for (const character of text) this.options.traps.portOut(0x3f8, 1, character.charCodeAt(0));
  }

  /** A write to configuration space of a slot. */
  config(slot: number, offset: number, value: number): void {
    this.options.traps.portOut(0xcf8, 4, (0x8000_0000 | (slot << 11) | offset) >>> 0);
    this.options.traps.portOut(0xcfc, 4, value >>> 0);
  }

  readConfig(slot: number, offset: number): number | undefined {
    this.options.traps.portOut(0xcf8, 4, (0x8000_0000 | (slot << 11) | offset) >>> 0);
    return this.options.traps.portIn(0xcfc, 4);
  }

  store(at: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
    this.options.traps.store(at, bytes);
  }

  exit(code: number): void {
    this.options.traps.portOut(0xf4, 4, code);
  }
}

/** A factory of such CPUs, and those it made. */
export function fakeCpus(script: Script): { createCpu: CpuFactory; made: FakeCpu[] } {
  const made: FakeCpu[] = [];
  const createCpu: CpuFactory = async (options) => {
    const cpu = new FakeCpu(options, script);
    made.push(cpu);
    return cpu;
  };
  return { createCpu, made };
}
