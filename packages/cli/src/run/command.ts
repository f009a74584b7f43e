import type { Command } from 'commander';
import type { Runner } from '../context.js';
import type { RunFlags } from './run.js';

const EXAMPLES = `
A program is a module whose default export is an async function: (machine, print) => ..., where machine is a GuestMachine of
@pinion/vm. With --hypervisor v86 it is a multiboot kernel, with --hypervisor qemu a file of shell code that the guest runs.

  pinion run --check vm.yaml
  pinion run vm.yaml --program ./guest.js
  pinion run vm.yaml --hypervisor v86 --program kernel.elf
  pinion run vm.yaml --hypervisor qemu --module nvme --program guest.sh`;

const more = (value: string, before: readonly string[]): readonly string[] => [...before, value];

/** Adds `pinion run`. */
export function addRun(program: Command, run: Runner): void {
  const command = program
    .command('run')
    .description('run the VM of a description: build it, run a program in it, and account for every page')
    .argument('<DESCRIPTION>', 'a VM description, YAML or JSON')
    .option('--check', 'read the description, and start nothing')
    .option('--program <FILE>', 'what the guest does; without one the VM is built and ended')
    .option('--stay', 'keep the VM until SIGTERM')
    .option('--hypervisor <NAME>', "embedded, v86 or qemu; default: the description's")
    .option('--without <DEVICE>', 'leave a device unplugged; again for more', more, [])
    .option('--module <NAME>', 'a kernel module for the guest of a real QEMU; again for more', more, [])
    .option('--memory <MIB>', 'memory of the guest of a real QEMU', '256')
    .addHelpText('after', EXAMPLES);
  run<RunFlags>(command, async (flags, context, args) => (await import('./run.js')).runVm(flags, context, args));
}
