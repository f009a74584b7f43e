/** A guest for a person: its console is this terminal. usage: npm run guest [-- SOCKET...] [-- --iommu] */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  findQemuKit,
  guestImage,
  guestKernelArgs,
  intelIommu,
  pcieRootPort,
  qemuArguments,
  vfioUserDevice,
} from '@pinion/vm';

const IOMMU = '--iommu';
const args = process.argv.slice(2);
const sockets = args.filter((arg) => arg !== IOMMU);
const iommu = args.includes(IOMMU);
const unknown = sockets.find((arg) => arg.startsWith('-'));
if (unknown !== undefined) {
  process.stderr.write(`guest: unknown argument '${unknown}'\nusage: npm run guest [-- SOCKET...] [-- ${IOMMU}]\n`);
  process.exit(2);
}

const kit = findQemuKit();
const folder = mkdtempSync(join(tmpdir(), 'pinion-guest-'));
const initrd = join(folder, 'initrd');
writeFileSync(
  initrd,
  guestImage(kit, { modules: ['nvme', 'ext4', 'gpio_pci_idio_16'], furtherModules: ['vfio_pci'], programs: true }),
);
const extra = ['pinion.shell', ...(iommu ? ['intel_iommu=on', 'iommu.strict=1'] : [])];
const command = qemuArguments({
  memory: 512,
  devices: [
    ...(iommu ? [intelIommu()] : []),
    pcieRootPort('port-1', 1),
    ...sockets.map((path) => vfioUserDevice(path)),
  ],
  kernel: { image: kit.kernel, initrd, commandLine: guestKernelArgs(extra) },
  args: ['-serial', 'mon:stdio'],
});
process.stdout.write("'poweroff -f' ends the guest; Ctrl-A C leads to QEMU's monitor and back.\n");
const qemu = spawn(kit.qemu, command, { stdio: 'inherit' });
qemu.on('exit', (code) => {
  rmSync(folder, { recursive: true, force: true });
  process.exitCode = code ?? 1;
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => qemu.kill());
