import type { Command } from 'commander';
import type { Context, Runner } from '../context.js';
import { EXIT } from '../exit-codes.js';
import { jsonLine } from '../output.js';
import { Progress } from '../progress.js';
import type { Check, Finding, Machine } from './finding.js';
import { SYSTEM_CHECKS } from './system-checks.js';
import { thisMachine } from './this-machine.js';
import { VMM_CHECKS } from './vmm-checks.js';

/** Adds `pinion doctor`. */
export function addDoctor(program: Command, run: Runner): void {
  run(
    program.command('doctor').description('look at this machine: what works here, and what to do about the rest'),
    doctor,
  );
}

async function doctor(_flags: object, context: Context): Promise<number> {
  return examine(thisMachine(context.around), context);
}

/** Looks at a machine. @returns the exit code: 1 if anything fails; what is only missing is a warning. */
export async function examine(machine: Machine, { output, around }: Context): Promise<number> {
  const progress = new Progress(around, output);
  const findings: (Finding & { readonly name: string })[] = [];
  for (const check of [...SYSTEM_CHECKS, ...VMM_CHECKS]) {
    progress.show(check.name);
    const finding = await check.run(machine);
    progress.clear();
    findings.push({ name: check.name, ...finding });
    if (!output.json) around.out(textOf(check, finding));
  }
  const good = findings.every(({ verdict }) => verdict !== 'fail');
  if (output.json) around.out(jsonLine({ ok: good, checks: findings }));
  return good ? EXIT.OK : EXIT.FAILED;
}

const VERDICT_WIDTH = 5;
const NAME_WIDTH = 25;

function textOf({ name }: Check, { verdict, found, advice }: Finding): string {
  const line = `${verdict.padEnd(VERDICT_WIDTH)}${name.padEnd(NAME_WIDTH)} ${found}\n`;
  return advice === undefined ? line : `${line}${' '.repeat(VERDICT_WIDTH + NAME_WIDTH)} -> ${advice}\n`;
}
