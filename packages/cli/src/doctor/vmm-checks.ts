import { delimiter, join } from 'node:path';
import { activatedSockets } from '@pinion/vfio-user';
import { findQemuKit, kitFolder } from '@pinion/vm';
import { failureLine } from '../failure-text.js';
import { type Check, type Machine, ok, warn } from './finding.js';

const QEMU = ['qemu-system-x86_64', 'qemu-system-aarch64', 'qemu-kvm'];
/** The first QEMU whose vfio-user devices do DMA by messages as the specification says. */
const GOOD_QEMU = 11.1;
const DEVICE = 'vfio-user-pci';

/** Every QEMU that can be found: the kit's first, then those of the path. */
function candidates(machine: Machine): readonly string[] {
  const folders = (machine.environment['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const found = folders.flatMap((folder) => QEMU.map((name) => join(folder, name)));
  return [...kitQemu(machine), ...found];
}

function kitQemu(machine: Machine): readonly string[] {
  try {
    return [findQemuKit(kitFolder(machine.environment)).qemu];
  } catch {
    return []; // why: the check of the kit says so
  }
}

const versionOf = (text: string): string => /version ([\d.]+)/.exec(text)?.[1] ?? 'of unknown version';

const qemu: Check = {
  name: 'QEMU',
  async run(machine) {
    const without: string[] = [];
    for (const program of candidates(machine)) {
      const version = await machine.output(program, ['--version']);
      if (version === undefined) continue;
      const devices = await machine.output(program, ['-device', 'help']);
      const about = `${program} ${versionOf(version)}`;
      if (devices?.includes(`"${DEVICE}"`) !== true) {
        without.push(about);
      } else if (Number.parseFloat(versionOf(version)) >= GOOD_QEMU) {
        return ok(`${about} with ${DEVICE}`);
      } else {
        return warn(
          `${about} with ${DEVICE}`,
          `before ${GOOD_QEMU} only shared memory (memory-backend-memfd,share=on) can be relied on`,
        );
      }
    }
    const found = without.length === 0 ? 'none' : `${without.join(', ')}, without ${DEVICE}`;
    return warn(found, "'npm run qemu:setup' in a checkout unpacks QEMU 11.1 without installing anything");
  },
};

const kit: Check = {
  name: 'guest kit',
  run({ environment }) {
    try {
      const { folder, qemuVersion, kernelVersion } = findQemuKit(kitFolder(environment));
      return ok(`QEMU ${qemuVersion}, Linux ${kernelVersion} in ${folder}`);
    } catch (cause) {
      return warn(failureLine(cause), "needed for tests with real guests and 'pinion run --hypervisor qemu'");
    }
  },
};

const kvm: Check = {
  name: 'KVM',
  run: (machine) =>
    machine.canOpen('/dev/kvm')
      ? ok('/dev/kvm can be opened')
      : warn(
          '/dev/kvm cannot be opened',
          'guests are emulated and boot in seconds instead of less than one; join group kvm',
        ),
};

const activation: Check = {
  name: 'socket activation',
  run({ environment, pid }) {
    try {
      const sockets = activatedSockets(environment, pid);
      return ok(sockets.length === 0 ? 'no sockets were passed' : `${sockets.length} socket(s) were passed`);
    } catch (cause) {
      return warn(failureLine(cause), 'unset LISTEN_FDS');
    }
  },
};

/** What serving a real VMM needs besides. */
export const VMM_CHECKS: readonly Check[] = [qemu, kit, kvm, activation];
