import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '@pinion/core';
import { vmErrors } from '../errors.js';
import { within } from './deadline.js';

/** How a command of a guest ended. */
export interface GuestResult {
  /** As in a shell: 0 is success. */
  readonly status: number;
  /** Standard output and error together. */
  readonly output: Uint8Array;
  /** The same as text, without the newlines at its end. */
  readonly text: string;
}

/** What a guest says of itself when it has booted. */
export interface GuestReady {
  readonly kernel: string;
  /** Seconds since the kernel began. */
  readonly uptime: number;
}

interface Waiting<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (failure: unknown) => void;
}

const DEFAULT_LIMIT = 60_000;
/** Characters of a line to the guest: well below what its terminal driver has room for. */
const LINE_MAX = 1024;
const NEWLINE = 0x0a;

/**
 * Runs commands in a guest whose first program is that of `guestImage`, over its second serial port. A command goes out as lines
 * `+BASE64` and `!ID`; it comes back as `@done ID STATUS LENGTH` and that many bytes. `@ready KERNEL UPTIME` comes after each boot.
 */
export class GuestShell {
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #name: string;
  readonly #pending = new Map<number, Waiting<GuestResult>>();
  readonly #boots: Waiting<GuestReady>[] = [];
  readonly #early: GuestReady[] = [];
  #received = Buffer.alloc(0);
  /** The result whose output is still to come. */
  #result: { readonly id: number; readonly status: number; readonly length: number } | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #next = 1;
  #closed: unknown;

  /** `name`: of the guest, for messages. The stream is the shell's from now on. */
  constructor(about: { readonly stream: Duplex; readonly name: string; readonly clock?: Clock }) {
    this.#stream = about.stream;
    this.#name = about.name;
    this.#clock = about.clock ?? systemClock;
    this.#stream.on('data', (bytes: Buffer) => this.#push(bytes));
  }

  /** Settles when the guest has booted: with the next boot that nobody has waited for. @throws VM_QEMU_TIMEOUT (ETIMEDOUT), and what `fail` was given. */
  booted(limit: number = DEFAULT_LIMIT): Promise<GuestReady> {
    const early = this.#early.shift();
    if (early !== undefined) return Promise.resolve(early);
    const ready = new Promise<GuestReady>((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      this.#boots.push({ resolve, reject });
    });
    return within(ready, { clock: this.#clock, limit, what: `the boot of guest ${this.#name}` });
  }

  /**
   * Runs shell code in the guest; one command at a time, in order. `limit`: milliseconds, default 60 000, from when it starts.
   * @throws VM_QEMU_TIMEOUT (ETIMEDOUT) - the guest is still at it, and later commands wait for that -, and what `fail` was given.
   */
  run(code: string, limit: number = DEFAULT_LIMIT): Promise<GuestResult> {
    const result = this.#queue.then(() => this.#run(code, limit));
    this.#queue = result.catch(() => {}); // why: whoever asked for that command has its failure
    return result;
  }

  /** Ends everything that waits, with the cause; also what comes after. */
  fail(cause: unknown): void {
    this.#closed ??= cause;
    for (const { reject } of [...this.#pending.values(), ...this.#boots.splice(0)]) reject(cause);
    this.#pending.clear();
  }

  async #run(code: string, limit: number): Promise<GuestResult> {
    const id = this.#next++;
    const result = new Promise<GuestResult>((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      this.#pending.set(id, { resolve, reject });
    });
    if (this.#closed === undefined) this.#stream.write(linesOf(code, id));
    const what = `a command of guest ${this.#name}: ${code.trim().split('\n')[0]?.slice(0, 80)}`;
    return within(result, { clock: this.#clock, limit, what }).finally(() => this.#pending.delete(id));
  }

  #push(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#take()) {
      // one line or one output at a time
    }
  }

  /** @returns whether something was complete. */
  #take(): boolean {
    if (this.#result !== undefined) return this.#takeOutput(this.#result);
    const end = this.#received.indexOf(NEWLINE);
    if (end < 0) return false;
    const line = this.#received.subarray(0, end).toString().trim();
    this.#received = this.#received.subarray(end + 1);
    const [word, ...rest] = line.split(' ');
    if (word === '@ready') this.#ready({ kernel: rest[0] ?? '', uptime: Number(rest[1]) });
    const [id = Number.NaN, status = Number.NaN, length = Number.NaN] = rest.map(Number);
    if (word === '@done' && Number.isInteger(length)) this.#result = { id, status, length };
    return true;
  }

  #takeOutput({ id, status, length }: { id: number; status: number; length: number }): boolean {
    if (this.#received.length < length) return false;
    const output = Buffer.from(this.#received.subarray(0, length));
    this.#received = this.#received.subarray(length);
    this.#result = undefined;
    this.#pending.get(id)?.resolve({ status, output, text: output.toString().trimEnd() });
    return true;
  }

  /** A boot: what the guest had begun before is lost. */
  #ready(ready: GuestReady): void {
    const boot = this.#boots.shift();
    if (boot !== undefined) boot.resolve(ready);
    else this.#early.push(ready);
    for (const { reject } of this.#pending.values()) reject(vmErrors.GUEST_REBOOTED({ guest: this.#name }));
  }
}

function linesOf(code: string, id: number): string {
  const encoded = Buffer.from(code).toString('base64');
  const lines = encoded.match(new RegExp(`.{1,${LINE_MAX}}`, 'g')) ?? [];
  return [...lines.map((line) => `+${line}\n`), `!${id}\n`].join('');
}
