import type { Command } from 'commander';
import type { Runner } from '../context.js';
import type { DefineFlags, ListFlags, TypesFlags, UndefineFlags } from './mdev.js';

const EXAMPLES = `
The grammar is mdevctl's; the definitions are those of a VM description instead of /etc/mdevctl.d.

  pinion mdev types -f vm.yaml
  pinion mdev list -f vm.yaml --defined --dumpjson
  pinion mdev define -f vm.yaml -u $(uuidgen) -p igpu -t V5_4
  pinion mdev undefine -f vm.yaml -u UUID`;

const more = (value: string, before: readonly string[]): readonly string[] => [...before, value];

/** Adds `pinion mdev` with its own commands. */
export function addMdev(program: Command, run: Runner): void {
  const mdev = program
    .command('mdev')
    .description("mediated devices of a VM description, in mdevctl's grammar")
    .addHelpText('after', EXAMPLES);
  const add = (name: string, description: string): Command =>
    mdev.command(name).description(description).requiredOption('-f, --file <DESCRIPTION>', 'a VM description');
  const types = add('types', 'what the parents offer')
    .option('-p, --parent <PARENT>', 'of this parent alone')
    .option('--dumpjson', 'as mdevctl prints it');
  run<TypesFlags>(types, async (flags, context) => (await import('./mdev.js')).types(flags, context));
  const list = add('list', 'mediated devices that run (none: nothing runs here), or with -d those that are defined')
    .option('-d, --defined', 'those that the description defines')
    .option('-u, --uuid <UUID>', 'this device alone')
    .option('-p, --parent <PARENT>', 'of this parent alone')
    .option('-v, --verbose', 'with attributes')
    .option('--dumpjson', 'as mdevctl prints it');
  run<ListFlags>(list, async (flags, context) => (await import('./mdev.js')).list(flags, context));
  const define = add('define', 'add a device to the description')
    .requiredOption('-p, --parent <PARENT>', 'who offers it')
    .requiredOption('-t, --type <TYPE>', 'with or without its driver: gvt-V5_4 or V5_4')
    .option('-u, --uuid <UUID>', 'default: a new one, which is printed')
    .option('--name <NAME>', "default: the UUID's first part")
    .option('--container <NAME>', 'default: the first one')
    .option('--attr <KEY=VALUE>', 'another key of the device, as YAML; again for more', more, []);
  run<DefineFlags>(define, async (flags, context) => (await import('./mdev.js')).define(flags, context));
  const undefine = add('undefine', 'take a device out of the description').requiredOption(
    '-u, --uuid <UUID>',
    'which one',
  );
  run<UndefineFlags>(undefine, async (flags, context) => (await import('./mdev.js')).undefine(flags, context));
}
