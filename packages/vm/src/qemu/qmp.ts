import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '@pinion/core';
import { vmErrors } from '../errors.js';
import { within } from './deadline.js';
import { LineSplitter } from './line-splitter.js';

/** Something QEMU tells by itself: `DEVICE_DELETED`, `RESET`, `SHUTDOWN` ... Source: QEMU, docs/interop/qmp-spec. */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What a wait may say. */
export interface QmpWait {
  /** Milliseconds; default: the client's. */
  readonly limit?: number;
  /** Which of the events of that name; default: any. */
  readonly which?: (data: QmpEvent['data']) => boolean;
}

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (failure: unknown) => void;
}

interface Waiting {
  readonly matches: (event: QmpEvent) => boolean;
  readonly resolve: (event: QmpEvent) => void;
  readonly reject: (failure: unknown) => void;
}

const DEFAULT_LIMIT = 30_000;

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * QEMU's machine protocol over a stream that is connected to a monitor in control mode. Commands may be in flight together; each is
 * answered by its id. An event is kept until somebody waits for it, so one that came early is not missed.
 */
export class QmpClient {
  /** Settles when QEMU has greeted and takes commands. Rejects as `execute`. */
  readonly ready: Promise<void>;
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #pending = new Map<number, Pending>();
  readonly #events: QmpEvent[] = [];
  readonly #waiting = new Set<Waiting>();
  #next = 1;
  #closed: unknown;
  #greeted: (() => void) | undefined;

  /**
   * The stream is the client's from now on. `limit`: milliseconds that a command may take, default 30 000. `gone`: settles with why
   * QEMU is gone; with it, what waits when the stream ends is told that.
   */
  constructor(about: {
    readonly stream: Duplex;
    readonly clock?: Clock;
    readonly limit?: number;
    readonly gone?: Promise<unknown>;
  }) {
    this.#stream = about.stream;
    this.#clock = about.clock ?? systemClock;
    this.#limit = about.limit ?? DEFAULT_LIMIT;
    const lines = new LineSplitter((line) => this.#received(line));
    this.#stream.setEncoding('utf8');
    this.#stream.on('data', (text: string) => lines.push(text));
    const { gone = Promise.resolve(vmErrors.QMP_BROKEN({ problem: 'QEMU closed it' })) } = about;
    for (const end of ['error', 'close', 'end'])
      this.#stream.on(end, () => void gone.then((cause) => this.fail(cause)));
    const greeting = new Promise<void>((resolve) => {
      this.#greeted = resolve;
    });
    this.ready = within(greeting, this.#deadline('the greeting of QEMU')).then(async () => {
      await this.execute('qmp_capabilities');
    });
    this.ready.catch(() => {}); // why: who does not wait for it hears of the failure from every command
  }

  /**
   * One command. `args` is what QMP calls `arguments`.
   * @returns what QMP calls `return`.
   * @throws VM_QMP_REFUSED (EIO) with QEMU's own words, VM_QMP_BROKEN (EIO) when the stream is gone, VM_QEMU_TIMEOUT (ETIMEDOUT).
   */
  execute(command: string, args: object = {}, limit: number = this.#limit): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      this.#pending.set(id, { command, resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
    return within(answer, this.#deadline(`QMP command ${command}`, limit)).finally(() => this.#pending.delete(id));
  }

  /**
   * The next event of that name that nobody has waited for yet, be it here already or still to come.
   * @throws VM_QEMU_TIMEOUT (ETIMEDOUT), VM_QMP_BROKEN (EIO).
   */
  event(name: string, { limit = this.#limit, which = () => true }: QmpWait = {}): Promise<QmpEvent> {
    const matches = (each: QmpEvent): boolean => each.event === name && which(each.data);
    const index = this.#events.findIndex(matches);
    const [there] = index < 0 ? [] : this.#events.splice(index, 1);
    if (there !== undefined) return Promise.resolve(there);
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    let waiting: Waiting | undefined;
    const event = new Promise<QmpEvent>((resolve, reject) => {
      waiting = { matches, resolve, reject };
      this.#waiting.add(waiting);
    });
    return within(event, this.#deadline(`QMP event ${name}`, limit)).finally(() => {
      if (waiting !== undefined) this.#waiting.delete(waiting);
    });
  }

  /** Ends everything that waits with `cause`. Whoever owns QEMU calls it when QEMU is gone; a second cause is not heard. */
  fail(cause: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = cause;
    for (const { reject } of [...this.#pending.values(), ...this.#waiting]) reject(cause);
    this.#stream.destroy();
  }

  #deadline(what: string, limit = this.#limit): Parameters<typeof within>[1] {
    return { clock: this.#clock, limit, what };
  }

  #received(line: string): void {
    if (line === '') return;
    const message = parse(line);
    if (message === undefined) this.fail(vmErrors.QMP_BROKEN({ problem: `it sent '${line.slice(0, 80)}'` }));
    else if ('QMP' in message) this.#greeted?.();
    else if (typeof message['event'] === 'string') this.#happened(message['event'], message['data']);
    else this.#answered(message);
  }

  #happened(event: string, data: unknown): void {
    const happened: QmpEvent = { event, data: isRecord(data) ? data : {} };
    for (const waiting of this.#waiting) {
      if (!waiting.matches(happened)) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(happened);
      return;
    }
    this.#events.push(happened);
  }

  /** An answer to nobody came too late, and its command was given up. */
  #answered({ id, return: value, error }: Readonly<Record<string, unknown>>): void {
    const pending = typeof id === 'number' ? this.#pending.get(id) : undefined;
    if (pending === undefined) return;
    const { command, resolve, reject } = pending;
    if (!isRecord(error)) resolve(value);
    else reject(vmErrors.QMP_REFUSED({ command, kind: String(error['class']), problem: String(error['desc']) }));
  }
}

function parse(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const message: unknown = JSON.parse(line);
    return isRecord(message) ? message : undefined;
  } catch {
    return undefined; // why: the caller names what came instead of JSON
  }
}
