import { type ChildProcess, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '@pinion/core';
import { vmErrors } from '../errors.js';
import { type QemuChannel, type QemuMachine, qemuArguments } from './command-line.js';
import { lastLines, within } from './deadline.js';
import { QmpClient } from './qmp.js';

export interface QemuOptions {
  /** The program: `findQemuKit().qemu`, or any QEMU of 11.1 or later. */
  readonly program: string;
  readonly machine: QemuMachine;
  /** Channels besides `qmp`; `console`, `shell` and `qtest` have a meaning, see `qemuArguments`. */
  readonly channels?: readonly string[];
  readonly clock?: Clock;
  /** Milliseconds until the monitor answers, which it does when every device is there. Default 60 000. */
  readonly startLimit?: number;
  /** For messages. Default `vm`. */
  readonly name?: string;
}

/** How a QEMU ended: by itself with a code, or by a signal. */
export interface QemuExit {
  readonly code: number | null;
  readonly signal: string | null;
}

const START_LIMIT = 60_000;
const QUIT_LIMIT = 5_000;
const KILL_LIMIT = 10_000;
/** Characters of QEMU's messages that are kept. */
const OUTPUT_MAX = 16_384;
const FIRST_CHANNEL_FD = 3;

/**
 * One QEMU process. Its channels are descriptors that it inherits, so no file and no socket of it is left whatever happens, and it
 * ends with this process.
 */
export class Qemu {
  readonly name: string;
  readonly qmp: QmpClient;
  /** Settles when the process is gone. Never rejects. */
  readonly exited: Promise<QemuExit>;
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  readonly #channels = new Map<string, Duplex>();
  #output = '';
  #exit: QemuExit | undefined;
  #failure: unknown;

  private constructor(options: QemuOptions) {
    const { program, machine, channels = [], clock = systemClock, name = 'vm' } = options;
    this.name = name;
    this.#clock = clock;
    const all = ['qmp', ...channels].map((channel, i): QemuChannel => ({ name: channel, fd: FIRST_CHANNEL_FD + i }));
    const args = ['-name', name, '-run-with', 'exit-with-parent=on', ...qemuArguments(machine, all)];
    this.#child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe', ...all.map(() => 'pipe' as const)] });
    for (const { name: channel, fd } of all) this.#channels.set(channel, streamOf(this.#child, fd));
    for (const output of [this.#child.stdout, this.#child.stderr]) {
      output?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-OUTPUT_MAX);
      });
    }
    this.exited = new Promise((resolve) => {
      this.#child.on('error', (cause) => this.#ended({ code: null, signal: null }, resolve, cause));
      this.#child.on('close', (code, signal) => this.#ended({ code, signal }, resolve));
    });
    const gone = this.exited.then(() => this.failure());
    this.qmp = new QmpClient({ stream: this.channel('qmp'), clock, gone });
  }

  /**
   * Starts QEMU; the guest runs.
   * @returns when the monitor answers.
   * @throws VM_QEMU_FAILED (EIO) with what QEMU said when it ends instead, VM_QEMU_TIMEOUT (ETIMEDOUT); the process is gone then.
   */
  static async start(options: QemuOptions): Promise<Qemu> {
    const qemu = new Qemu(options);
    const { clock = systemClock, startLimit = START_LIMIT } = options;
    const ended = qemu.exited.then(() => Promise.reject(qemu.failure()));
    ended.catch(() => {}); // why: it is heard only while the monitor has not answered
    const what = `the start of QEMU for ${qemu.name}`;
    try {
      await within(Promise.race([qemu.qmp.ready.catch(() => ended), ended]), { clock, limit: startLimit, what });
      return qemu;
    } catch (cause) {
      await qemu.kill();
      throw cause;
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What QEMU wrote to its standard output and error: the last 16 KiB. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** This side of a channel. @throws RangeError for one that was not asked for. */
  channel(name: string): Duplex {
    const stream = this.#channels.get(name);
    if (stream === undefined) throw new RangeError(`QEMU of ${this.name} was started without a channel '${name}'`);
    return stream;
  }

  /** Why QEMU is gone, with its last words. */
  failure(): unknown {
    const { code, signal } = this.#exit ?? { code: null, signal: null };
    const how = signal === null ? `exit status ${code}` : `signal ${signal}`;
    return vmErrors.QEMU_FAILED({ qemu: this.name, how, last: lastLines(this.#output, 4) }, this.#failure);
  }

  /** Ends QEMU in order: as when a machine's plug is pulled, but QEMU closes its files. Kills it when it does not. */
  async close(): Promise<QemuExit> {
    if (this.#exit === undefined) {
      this.qmp.execute('quit', {}, QUIT_LIMIT).catch(() => {}); // why: QEMU may be gone before it answers, and the kill below is next
      const quit = within(this.exited, { clock: this.#clock, limit: QUIT_LIMIT, what: `QEMU of ${this.name} to quit` });
      await quit.catch(() => this.kill());
    }
    return this.exited;
  }

  /** SIGKILL: the process is gone when this settles. @throws VM_QEMU_TIMEOUT (ETIMEDOUT) if the system does not let it go. */
  async kill(): Promise<QemuExit> {
    this.#child.kill('SIGKILL');
    return within(this.exited, { clock: this.#clock, limit: KILL_LIMIT, what: `QEMU of ${this.name} to die` });
  }

  #ended(exit: QemuExit, resolve: (exit: QemuExit) => void, cause?: unknown): void {
    if (this.#exit !== undefined) return;
    this.#exit = exit;
    this.#failure = cause;
    const failure = this.failure();
    this.qmp.fail(failure);
    for (const stream of this.#channels.values()) stream.destroy();
    resolve(exit);
  }
}

function streamOf(child: ChildProcess, fd: number): Duplex {
  const stream = child.stdio[fd];
  if (!(stream instanceof Socket)) throw new TypeError(`descriptor ${fd} of QEMU is no socket`);
  stream.on('error', () => {}); // why: the end of QEMU is told by its exit; a broken channel is part of that
  return stream;
}
