import type { Sys } from '@pinion/sys';

/** What a check of the machine found. */
export interface Finding {
  /** `fail`: Pinion does not work here. `warn`: some part of it does not, or not well. */
  readonly verdict: 'ok' | 'warn' | 'fail';
  /** What is there. */
  readonly found: string;
  /** What to do about it, unless it is ok. */
  readonly advice?: string;
}

/** What checks look at, so that tests can show them another machine. */
export interface Machine {
  readonly platform: string;
  readonly arch: string;
  /** Node's version: `20.20.2`. */
  readonly node: string;
  readonly pid: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Made at the first use: it throws where there is no native side. */
  sys(): Sys;
  /** Content of a file; undefined if it cannot be read. */
  readText(path: string): string | undefined;
  /** Whether a file can be opened for reading and writing. */
  canOpen(path: string): boolean;
  /** What a program prints, both streams together; undefined if it cannot be started or fails. */
  output(program: string, args: readonly string[]): Promise<string | undefined>;
}

/** One thing that is looked at. A check never throws for what it finds. */
export interface Check {
  readonly name: string;
  run(machine: Machine): Finding | Promise<Finding>;
}

export const ok = (found: string): Finding => ({ verdict: 'ok', found });
export const warn = (found: string, advice: string): Finding => ({ verdict: 'warn', found, advice });
export const fail = (found: string, advice: string): Finding => ({ verdict: 'fail', found, advice });
