import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '@pinion/core';
import { vmErrors } from '../errors.js';
import { within } from './deadline.js';
import { LineSplitter } from './line-splitter.js';

interface Pending {
  readonly resolve: (words: readonly string[]) => void;
  readonly reject: (failure: unknown) => void;
}

/** Bytes of one access of a port or of memory. */
export type AccessSize = 1 | 2 | 4;

const PORT_READ = { 1: 'inb', 2: 'inw', 4: 'inl' } as const;
const PORT_WRITE = { 1: 'outb', 2: 'outw', 4: 'outl' } as const;
const MEMORY_READ = { 1: 'readb', 2: 'readw', 4: 'readl' } as const;
const MEMORY_WRITE = { 1: 'writeb', 2: 'writew', 4: 'writel' } as const;
const DEFAULT_LIMIT = 30_000;

const hexOf = (value: number | bigint): string => `0x${value.toString(16)}`;

/**
 * QEMU's test protocol (`-accel qtest -qtest CHARDEV`): a machine without a CPU, whose ports and memory this side reads and writes
 * as a CPU would, and whose interrupt lines it watches. Commands are answered in order. Source: QEMU, softmmu/qtest.
 */
export class QtestClient {
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #pending: Pending[] = [];
  readonly #levels = new Map<number, boolean>();
  readonly #watching = new Set<() => void>();
  #closed: unknown;

  /** `limit`: milliseconds that a command may take, default 30 000. The stream is the client's from now on. */
  constructor(about: { readonly stream: Duplex; readonly clock?: Clock; readonly limit?: number }) {
    this.#stream = about.stream;
    this.#clock = about.clock ?? systemClock;
    this.#limit = about.limit ?? DEFAULT_LIMIT;
    const lines = new LineSplitter((line) => this.#received(line));
    this.#stream.setEncoding('latin1');
    this.#stream.on('data', (text: string) => lines.push(text));
    for (const end of ['error', 'close', 'end']) {
      this.#stream.on(end, () => this.fail(vmErrors.QMP_BROKEN({ problem: 'QEMU closed it' })));
    }
  }

  /**
   * One command in the protocol's words.
   * @returns the words behind `OK`. @throws VM_QMP_REFUSED (EIO), VM_QMP_BROKEN (EIO), VM_QEMU_TIMEOUT (ETIMEDOUT).
   */
  async command(...words: readonly (string | number | bigint)[]): Promise<readonly string[]> {
    const line = words.map((word) => (typeof word === 'string' ? word : hexOf(word))).join(' ');
    const answer = new Promise<readonly string[]>((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      this.#pending.push({ resolve, reject });
      this.#stream.write(`${line}\n`);
    });
    const what = `qtest command ${line.slice(0, 60)}`;
    const [verdict = '', ...rest] = await within(answer, { clock: this.#clock, limit: this.#limit, what });
    if (verdict !== 'OK')
      throw vmErrors.QMP_REFUSED({ command: line.slice(0, 60), kind: verdict, problem: rest.join(' ') });
    return rest;
  }

  async readPort(port: number, size: AccessSize): Promise<number> {
    const [value = ''] = await this.command(PORT_READ[size], port);
    return Number(value);
  }

  async writePort(port: number, size: AccessSize, value: number): Promise<void> {
    await this.command(PORT_WRITE[size], port, value);
  }

  /** One access of `size` bytes at a guest-physical address: a register, not memory in bulk. */
  async readRegister(address: bigint, size: AccessSize): Promise<number> {
    const [value = ''] = await this.command(MEMORY_READ[size], address);
    return Number(BigInt(value) & 0xffff_ffffn);
  }

  async writeRegister(address: bigint, size: AccessSize, value: number): Promise<void> {
    await this.command(MEMORY_WRITE[size], address, value);
  }

  /** `length` bytes of guest memory. */
  async readMemory(address: bigint, length: number): Promise<Uint8Array> {
    const [digits = '0x'] = await this.command('read', address, length);
    return Buffer.from(digits.slice(2), 'hex');
  }

  async writeMemory(address: bigint, bytes: Uint8Array): Promise<void> {
    await this.command('write', address, bytes.length, `0x${Buffer.from(bytes).toString('hex')}`);
  }

  /** From now on the input lines of a device (`ioapic`) are watched instead of taken by it. Once per machine. */
  async interceptInterrupts(device: string): Promise<void> {
    await this.command('irq_intercept_in', device);
  }

  /** Whether a watched line is raised. */
  raised(line: number): boolean {
    return this.#levels.get(line) ?? false;
  }

  /** Settles when a watched line has that level, at once if it has. @throws VM_QEMU_TIMEOUT (ETIMEDOUT), VM_QMP_BROKEN (EIO). */
  async level(line: number, raised: boolean): Promise<void> {
    while (this.raised(line) !== raised) {
      if (this.#closed !== undefined) throw this.#closed;
      let change = (): void => {};
      const changed = new Promise<void>((resolve) => {
        change = resolve;
        this.#watching.add(change);
      });
      const what = `interrupt line ${line} to be ${raised ? 'raised' : 'lowered'}`;
      await within(changed, { clock: this.#clock, limit: this.#limit, what }).finally(() =>
        this.#watching.delete(change),
      );
    }
  }

  /** Ends everything that waits with `cause`. Whoever owns QEMU calls it when QEMU is gone; a second cause is not heard. */
  fail(cause: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = cause;
    for (const { reject } of this.#pending.splice(0)) reject(cause);
    for (const change of this.#watching) change();
    this.#stream.destroy();
  }

  #received(line: string): void {
    const words = line.split(' ');
    if (words[0] !== 'IRQ') {
      this.#pending.shift()?.resolve(words);
      return;
    }
    this.#levels.set(Number(words[2]), words[1] === 'raise');
    for (const change of this.#watching) change();
  }
}
