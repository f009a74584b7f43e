/** `pinion serve` as a process of its own, which a test may kill. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PINION = join(dirname(fileURLToPath(import.meta.url)), '../../../packages/cli/dist/main.js');

export interface ServeEvent {
  readonly event: string;
  readonly [detail: string]: unknown;
}

/** A test, or anything else that has an end. */
export interface Owner {
  after(end: () => Promise<void>): void;
}

export class ServeProcess {
  readonly events: ServeEvent[] = [];
  readonly exited: Promise<number | NodeJS.Signals | null>;
  readonly #child: ChildProcess;
  #errors = '';
  #rest = '';
  #heard = (): void => {};

  private constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, ['--enable-source-maps', PINION, 'serve', '--json', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    this.exited = new Promise((resolve) => {
      this.#child.on('close', (code, signal) => {
        resolve(signal ?? code);
        this.#heard();
      });
    });
  }

  /** Starts it, and waits until it listens. It is killed at the end of what it belongs to (a test), if it still runs then. */
  static async start(owner: Owner, ...args: readonly string[]): Promise<ServeProcess> {
    const serve = new ServeProcess(args);
    owner.after(() => serve.kill());
    await serve.event('ready');
    return serve;
  }

  /** The first event of that name, here already or still to come. */
  async event(name: string): Promise<ServeEvent> {
    for (;;) {
      const there = this.events.find(({ event }) => event === name);
      if (there !== undefined) return there;
      assert.ok(
        this.#child.exitCode === null && this.#child.signalCode === null,
        `pinion ended before '${name}': ${this.#errors}`,
      );
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
  }

  /** SIGTERM. @returns the exit status: 0 only if nothing at all was left. */
  async stop(): Promise<number | NodeJS.Signals | null> {
    this.#child.kill('SIGTERM');
    return this.exited;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.events.push(JSON.parse(line));
    this.#heard();
  }
}
