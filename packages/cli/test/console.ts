import { type EXIT, runPinion, type StopSignal, type Surroundings } from '@pinion/cli';
import { systemClock } from '@pinion/core';

/** Runs the command in this process, with what it prints kept. */
export class Recorded implements Surroundings {
  readonly terminal: boolean = false;
  readonly environment: Record<string, string | undefined> = {};
  readonly pid = 42;
  readonly folder: string;
  readonly clock = systemClock;
  written = '';
  complained = '';
  readonly #listeners = new Set<(signal: StopSignal) => void>();

  constructor(folder: string) {
    this.folder = folder;
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
): Promise<{ code: (typeof EXIT)[keyof typeof EXIT] | number; out: string; err: string }> {
  const around = new Recorded(folder);
  Object.assign(around.environment, environment);
  const code = await runPinion(args, around);
  return { code, out: around.written, err: around.complained };
}
