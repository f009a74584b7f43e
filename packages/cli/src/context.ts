import type { Command } from 'commander';
import type { Output } from './output.js';
import type { Surroundings } from './surroundings.js';

/** What every command runs with. */
export interface Context {
  readonly output: Output;
  readonly around: Surroundings;
}

/** What a command does with its options and arguments. @returns the exit code. @throws what is to be printed. */
export type Action<Flags extends object> = (flags: Flags, context: Context, args: readonly string[]) => Promise<number>;

/** Gives a command the options that all have, and what to do. */
export type Runner = <Flags extends object>(command: Command, action: Action<Flags>) => void;
