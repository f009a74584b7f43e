import assert from 'node:assert/strict';
import { runPinion, type StopSignal, type Surroundings } from '@pinion/cli';
import { systemClock } from '@pinion/core';

/** Runs the command in this process, with what it prints kept. */
export class Recorded implements Surroundings {
  readonly terminal: boolean;
  readonly environment: Record<string, string | undefined> = {};
  readonly pid = 42;
  readonly folder: string;
  readonly clock = systemClock;
  written = '';
  complained = '';
  readonly #listeners = new Set<(signal: StopSignal) => void>();

  constructor(folder: string, { terminal = false } = {}) {
    this.folder = folder;
    this.terminal = terminal;
  }

  /** @returns the exit code. */
  run(args: readonly string[]): Promise<number> {
    return runPinion(args, this);
  }

  out(text: string): void {
    this.written += text;
  }

  err(text: string): void {
    this.complained += text;
  }

  onStopSignal(heard: (signal: StopSignal) => void): () => void {
    this.#listeners.add(heard);
    return () => void this.#listeners.delete(heard);
  }

  /** How many wait for a signal. */
  get listeners(): number {
    return this.#listeners.size;
  }

  signal(signal: StopSignal): void {
    for (const heard of this.#listeners) heard(signal);
  }
}

/** What one command printed, and its exit code. */
export async function inProcess(
  args: readonly string[],
  folder: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<{ code: number; out: string; err: string }> {
  const around = new Recorded(folder);
  Object.assign(around.environment, environment);
  const code = await around.run(args);
  return { code, out: around.written, err: around.complained };
}

/** Turns of the event loop until something is so; the number is a limit for what never comes. */
export async function until(so: () => boolean, turns = 100_000): Promise<void> {
  for (let turn = 0; !so(); turn += 1) {
    assert.ok(turn < turns, 'it never came');
    await new Promise(setImmediate);
  }
}
