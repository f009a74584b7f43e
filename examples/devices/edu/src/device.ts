import type { PinningDeviceContext, PinningDeviceOps } from '@pinion/core';
import { dwordBar, type Identity, memoryBar, msi, overlaid, PciDevice } from '@pinion/pci';
import { DmaEngine } from './dma-engine.js';
import { errors } from './errors.js';
import { type Card, EduMigration } from './migration.js';
import { BAR_SIZE, BUFFER, DMA, IDENTIFICATION, INTERRUPT, REGISTER, STATUS } from './registers.js';
import type { SavedState } from './saved-state.js';

export const IDENTITY: Identity = {
  vendor: 0x1234,
  device: 0x11e8,
  revision: 0x10,
  classCode: 0x00ff00,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
  interruptPin: 'A',
};

export interface EduOptions {
  /** Bits of a guest address that the DMA engine has. QEMU's default: 28. */
  readonly dmaMask?: bigint;
  /** Milliseconds that a transfer takes. QEMU: 100. */
  readonly dmaDelay?: number;
  /** Milliseconds that a factorial takes. */
  readonly computeDelay?: number;
}

const DMA_MASK = (1n << 28n) - 1n;
const DMA_DELAY = 100;
/** Registers that hold 64 bits, by the offset of their lower half. */
const WIDE: readonly number[] = [REGISTER.DMA_SOURCE, REGISTER.DMA_DESTINATION, REGISTER.DMA_COUNT];
const LOW_HALF = 0xffff_ffffn;

/** `value`! modulo 2^32, as the register has room for. */
export function factorial(value: number): number {
  let product = 1;
  for (let factor = 2; factor <= value && product !== 0; factor += 1) product = Math.imul(product, factor);
  return product >>> 0;
}

/** One edu device. */
export class EduDevice implements Card {
  readonly pci: PciDevice;
  readonly dma: DmaEngine;
  readonly #context: PinningDeviceContext;
  readonly #options: EduOptions;
  readonly #wide = new Map<number, bigint>();
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #interrupts = 0;
  #command = 0;
  #paused = false;
  #stopComputing: (() => void) | undefined;

  constructor(context: PinningDeviceContext, options: EduOptions) {
    const { pins, clock, log } = context;
    this.#context = context;
    this.#options = options;
    this.dma = new DmaEngine({ pins, clock, log, delay: options.dmaDelay ?? DMA_DELAY });
    const registers = dwordBar({
      read: (offset) => this.#read(offset),
      write: (offset, value) => this.#write(offset, value),
    });
    const buffer = { first: BUFFER.at, size: BUFFER.size, handler: memoryBar(this.dma.buffer) };
    this.pci = new PciDevice({
      name: context.name,
      log,
      identity: IDENTITY,
      bars: [{ index: 0, kind: 'memory32', size: BAR_SIZE, handler: overlaid(registers, [buffer]) }],
      capabilities: [msi()],
      reset: () => this.#reset(),
    });
  }

  ops(): PinningDeviceOps {
    const migration = new EduMigration(this);
    return { ...this.pci.ops(), dmaUnmap: (range) => this.dma.dmaUnmap(range), migration };
  }

  /** A transfer ends now; a factorial goes on after `resume`. */
  pause(): void {
    this.dma.finish();
    this.#stopComputing?.();
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if ((this.#status & STATUS.COMPUTING) !== 0) this.#goOnComputing();
  }

  save(): SavedState {
    const wide = (register: number): bigint => this.#wide.get(register) ?? 0n;
    return {
      liveness: this.#liveness,
      factorial: this.#factorial,
      status: this.#status,
      interrupts: this.#interrupts,
      command: this.#command,
      source: wide(REGISTER.DMA_SOURCE),
      destination: wide(REGISTER.DMA_DESTINATION),
      count: wide(REGISTER.DMA_COUNT),
      buffer: this.dma.buffer,
      config: this.pci.config.save(),
    };
  }

  load(state: SavedState): void {
    const problem = this.pci.config.problemWith(state.config);
    if (problem !== undefined) throw errors.BAD_STATE({ problem });
    this.#liveness = state.liveness;
    this.#factorial = state.factorial;
    this.#status = state.status;
    this.#interrupts = state.interrupts;
    this.#command = state.command;
    this.#wide.set(REGISTER.DMA_SOURCE, state.source);
    this.#wide.set(REGISTER.DMA_DESTINATION, state.destination);
    this.#wide.set(REGISTER.DMA_COUNT, state.count);
    this.dma.buffer.set(state.buffer);
    this.pci.config.load(state.config);
    this.pci.setIntx(this.#interrupts !== 0 && this.pci.interrupts.mode === 'intx');
  }

  #read(offset: number): number {
    if (offset === REGISTER.IDENTIFICATION) return IDENTIFICATION;
    if (offset === REGISTER.LIVENESS) return this.#liveness;
    if (offset === REGISTER.FACTORIAL) return this.#factorial;
    if (offset === REGISTER.STATUS) return this.#status;
    if (offset === REGISTER.INTERRUPT_STATUS) return this.#interrupts;
    if (offset === REGISTER.DMA_COMMAND) return this.#command;
    const wide = this.#wide.get(offset & ~7);
    return wide === undefined ? 0 : Number((wide >> BigInt((offset & 4) * 8)) & LOW_HALF);
  }

  #write(offset: number, value: number): void {
    if (offset === REGISTER.LIVENESS) this.#liveness = ~value;
    else if (offset === REGISTER.FACTORIAL) this.#compute(value);
    else if (offset === REGISTER.STATUS) this.#setWhenDone(value);
    else if (offset === REGISTER.INTERRUPT_RAISE) this.#interrupt(value);
    else if (offset === REGISTER.INTERRUPT_ACKNOWLEDGE) this.#acknowledge(value);
    else if (offset === REGISTER.DMA_COMMAND) this.#transfer(value);
    else if (WIDE.includes(offset & ~7) && !this.dma.busy) this.#setHalf(offset, value);
  }

  #setHalf(offset: number, value: number): void {
    const shift = BigInt((offset & 4) * 8);
    const old = this.#wide.get(offset & ~7) ?? 0n;
    this.#wide.set(offset & ~7, (old & ~(LOW_HALF << shift)) | (BigInt(value) << shift));
  }

  #setWhenDone(value: number): void {
    this.#status = (this.#status & STATUS.COMPUTING) | (value & STATUS.INTERRUPT_WHEN_DONE);
  }

  /** A second number is ignored while the first one is worked on. */
  #compute(value: number): void {
    if ((this.#status & STATUS.COMPUTING) !== 0) return;
    this.#factorial = value;
    this.#status |= STATUS.COMPUTING;
    if (!this.#paused) this.#goOnComputing();
  }

  #goOnComputing(): void {
    const value = this.#factorial;
    this.#stopComputing = this.#context.clock.after(this.#options.computeDelay ?? 0, () => {
      this.#factorial = factorial(value);
      this.#status &= ~STATUS.COMPUTING;
      if ((this.#status & STATUS.INTERRUPT_WHEN_DONE) !== 0) this.#interrupt(INTERRUPT.FACTORIAL);
    });
  }

  #transfer(command: number): void {
    if ((command & DMA.START) === 0 || this.dma.busy || this.#paused) return;
    if (!this.pci.busMaster) {
      this.#context.log.warn('edu: transfer refused: the function is no bus master');
      return;
    }
    const toRam = (command & DMA.TO_RAM) !== 0;
    const source = this.#wide.get(REGISTER.DMA_SOURCE) ?? 0n;
    const destination = this.#wide.get(REGISTER.DMA_DESTINATION) ?? 0n;
    const [ram, buffer] = toRam ? [destination, source] : [source, destination];
    const count = this.#wide.get(REGISTER.DMA_COUNT) ?? 0n;
    this.#command = command & (DMA.START | DMA.TO_RAM | DMA.INTERRUPT_WHEN_DONE);
    const started = this.dma.start({ ram: ram & (this.#options.dmaMask ?? DMA_MASK), buffer, count, toRam }, () => {
      this.#command &= ~DMA.START;
      if ((this.#command & DMA.INTERRUPT_WHEN_DONE) !== 0) this.#interrupt(INTERRUPT.DMA);
    });
    if (!started) this.#command &= ~DMA.START;
  }

  #interrupt(value: number): void {
    this.#interrupts = (this.#interrupts | value) >>> 0;
    if (this.#interrupts !== 0 && !this.pci.signal(0)) this.pci.setIntx(true);
  }

  #acknowledge(value: number): void {
    this.#interrupts = (this.#interrupts & ~value) >>> 0;
    if (this.#interrupts === 0 || this.pci.interrupts.asserted) this.pci.setIntx(this.#interrupts !== 0);
  }

  #reset(): void {
    this.#paused = false;
    this.#stopComputing?.();
    this.dma.abort();
    this.dma.buffer.fill(0);
    this.#wide.clear();
    this.#liveness = 0;
    this.#factorial = 0;
    this.#status = 0;
    this.#interrupts = 0;
    this.#command = 0;
  }
}
