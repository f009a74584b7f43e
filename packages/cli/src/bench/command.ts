import type { Command } from 'commander';
import type { Runner } from '../context.js';
import type { BenchFlags } from './bench.js';

const NOTE = `
Nothing of the device is changed: its first four bytes of configuration space are read, and pages of this process are mapped and
unmapped for it high above any guest's memory. --write adds posted writes of four zero bytes, for which there must be a harmless place.

  pinion bench /run/disk.sock
  pinion bench /run/disk.sock --write 0:0x1000 --rounds 50000`;

/** Adds `pinion bench`. */
export function addBench(program: Command, run: Runner): void {
  const command = program
    .command('bench')
    .description('measure any vfio-user server: round trips, maps and unmaps, posted writes')
    .argument('<SOCKET>', 'where the server listens')
    .option('--rounds <N>', 'operations of each kind', '5000')
    .option('--write <REGION:OFFSET>', 'where posted writes may go')
    .addHelpText('after', NOTE);
  run<BenchFlags>(command, async (flags, context, args) => (await import('./bench.js')).bench(flags, context, args));
}
