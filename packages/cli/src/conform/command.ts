import type { Command } from 'commander';
import type { Runner } from '../context.js';
import type { ConformFlags } from './conform.js';

const EXAMPLE = `
A harness says how to make an implementation and what it can do; the README of @pinion/testkit describes both kinds. The module
exports one or several.

  pinion conform ./my-harness.js
  pinion conform ./my-harness.js --case unmap`;

/** Adds `pinion conform`. */
export function addConform(program: Command, run: Runner): void {
  const command = program
    .command('conform')
    .description('run the conformance suite of its plug point against your backend or vendor driver')
    .argument('<MODULE>', 'a path or package that exports a harness')
    .option('--case <TEXT>', 'only cases whose name has this text in it')
    .addHelpText('after', EXAMPLE);
  run<ConformFlags>(command, async (flags, context, args) =>
    (await import('./conform.js')).conform(flags, context, args),
  );
}
