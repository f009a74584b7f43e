import { CORE_VERSION } from '@pinion/core';
import { Command, CommanderError, Option } from 'commander';
import { addBench } from './bench/command.js';
import { addConform } from './conform/command.js';
import type { Runner } from './context.js';
import { addDoctor } from './doctor/command.js';
import { cliErrors } from './errors.js';
import { EXIT } from './exit-codes.js';
import { exitCodeOf } from './failure-text.js';
import { addMdev } from './mdev/command.js';
import { createOutput, LOG_LEVELS, type LogLevel } from './output.js';
import { addProxy } from './proxy/command.js';
import { addRun } from './run/command.js';
import { addServe } from './serve/command.js';
import type { Surroundings } from './surroundings.js';

/** What every command understands. */
interface CommonFlags {
  readonly json?: true;
  readonly logLevel: LogLevel;
}

/**
 * The `pinion` command. `args`: what follows its name. Everything it prints goes through `around`. @returns the exit code, one of
 * `EXIT`. Never rejects: what fails is printed.
 */
export async function runPinion(args: readonly string[], around: Surroundings): Promise<number> {
  let code: number = EXIT.OK;
  const program = createProgram(around);
  const run: Runner = (command, action) => {
    addCommon(command);
    command.action(async () => {
      const { json = false, logLevel } = command.opts<CommonFlags>();
      const output = createOutput(around, { json, level: logLevel });
      code = await action(command.opts(), { output, around }, command.args);
    });
  };
  addServe(program, run);
  addProxy(program, run);
  addRun(program, run);
  addMdev(program, run);
  addConform(program, run);
  addBench(program, run);
  addDoctor(program, run);
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (cause) {
    return report(cause, { program, args, around });
  }
}

function createProgram(around: Surroundings): Command {
  const program = new Command('pinion');
  program
    .description('VFIO in user space: serve devices, stand between, run VMs')
    .version(CORE_VERSION)
    .exitOverride()
    .configureOutput({ writeOut: (text) => around.out(text), writeErr: () => {} });
  return program;
}

function addCommon(command: Command): void {
  const level = new Option('--log-level <LEVEL>', 'what to say').choices(LOG_LEVELS).default('info');
  command.option('--json', 'JSON instead of text: one event or document a line, on standard output').addOption(level);
}

/** Prints a failure in the form that was asked for, as far as that can be known. */
function report(cause: unknown, about: { program: Command; args: readonly string[]; around: Surroundings }): number {
  const { program, args, around } = about;
  const output = createOutput(around, { json: args.includes('--json'), level: 'error' });
  if (!(cause instanceof CommanderError)) {
    output.failed(cause);
    return exitCodeOf(cause);
  }
  if (cause.exitCode === 0) return EXIT.OK;
  const known = program.commands.find((command) => command.name() === args[0]);
  const command = known === undefined ? '' : `${known.name()} `;
  const problem = cause.code === 'commander.help' ? 'no command was given' : cause.message.replace(/^error: /, '');
  output.failed(cliErrors.USAGE({ problem: problem.replaceAll('\n', ' '), command }));
  return EXIT.USAGE;
}
