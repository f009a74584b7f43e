import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What runs the command. */
export const MAIN = fileURLToPath(new URL('../../bin/pinion.js', import.meta.url));

/** How a command ended. */
export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface StartOptions {
  readonly folder: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Descriptors from 3 on. */
  readonly fds?: readonly number[];
  /** Instead of the command itself: what runs it. */
  readonly program?: readonly string[];
}

/** The built command in a process of its own. */
export class Pinion {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #out = '';
  #err = '';
  readonly #waiting = new Set<() => void>();

  constructor(args: readonly string[], options: StartOptions) {
    const { folder, environment = {}, fds = [], program = [process.execPath, MAIN] } = options;
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', ...fds];
    const [file = '', ...before] = program;
    const child = spawn(file, [...before, ...args], {
      cwd: folder,
      env: { ...process.env, ...environment },
      stdio,
    });
    this.child = child;
    child.stdout?.on('data', (data: Buffer) => {
      this.#out += data;
      for (const check of this.#waiting) check();
    });
    child.stderr?.on('data', (data: Buffer) => {
      this.#err += data;
      for (const check of this.#waiting) check();
    });
    this.ended = new Promise((resolve) => {
      child.on('close', (code) => resolve({ code, out: this.#out, err: this.#err }));
    });
  }

  /** Runs a command to its end. */
  static run(args: readonly string[], options: StartOptions): Promise<Ended> {
    return new Pinion(args, options).ended;
  }

  /** What was printed to standard output so far. */
  get out(): string {
    return this.#out;
  }

  get err(): string {
    return this.#err;
  }

  /** Settles when the output has the text (in either stream). @throws Error with all output if the command ends before. */
  async says(text: string): Promise<void> {
    let stop = (): void => {};
    const said = new Promise<void>((resolve) => {
      const check = (): void => {
        if (this.#out.includes(text) || this.#err.includes(text)) resolve();
      };
      this.#waiting.add(check);
      stop = () => this.#waiting.delete(check);
      check();
    });
    const over = this.ended.then((end) => {
      throw new Error(`ended before it said '${text}': ${JSON.stringify(end)}`);
    });
    try {
      await Promise.race([said, over]);
    } finally {
      stop();
      over.catch(() => {});
    }
  }

  /** Sends a signal. @returns how it ended. */
  stop(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL' = 'SIGTERM'): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }

  /** Whatever a test that failed left running. */
  [Symbol.dispose](): void {
    this.child.kill('SIGKILL');
  }

  /** The events of `--json` so far. */
  get events(): readonly Readonly<Record<string, unknown>>[] {
    return eventsOf(this.#out);
  }
}

export const eventsOf = (out: string): readonly Readonly<Record<string, unknown>>[] =>
  out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

/** A folder of one test. */
export class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'pinion-cli-'));

  file(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
