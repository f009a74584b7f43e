import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { KIT_FILE, KIT_FORM, type KitManifest } from '@pinion/vm';
import { run } from './commands.js';
import { copyModules, moduleFolder, type Unpackers, vmlinuxOf } from './kernel.js';
import { copyLibraries, LOADER } from './libraries.js';
import { findMirror } from './mirror.js';
import { Missing } from './missing.js';
import { PackageIndex } from './packages.js';

/** Suites in the order in which they are tried: each has a QEMU with vfio-user, and a kernel. */
const SUITES: readonly (readonly [suites: readonly string[], qemu: string, kernel: string])[] = [
  [['trixie', 'trixie-backports'], 'trixie-backports', 'trixie'],
  [['forky'], 'forky', 'forky'],
  [['sid'], 'sid', 'sid'],
];
/** For QEMU, and what unpacks a kernel. */
const PACKAGES = ['qemu-system-x86', 'zstd', 'busybox-static', 'e2fsprogs', 'pciutils', 'gpiod'];
const KERNEL = 'linux-image-amd64';
/** Programs of packages that guests get, with their libraries. */
const GUEST_PROGRAMS = [
  'usr/sbin/mke2fs',
  'usr/sbin/e2fsck',
  'usr/bin/lspci',
  'usr/bin/gpioget',
  'usr/bin/gpioset',
  'usr/bin/gpiomon',
  'usr/bin/gpioinfo',
];
const GUEST_LINKS: Readonly<Record<string, string>> = { 'mkfs.ext4': 'mke2fs' };
/** Modules that guests may want, besides what these need. */
const MODULES = (
  'nvme ext4 gpio_pci_idio_16 uio_pci_generic irqbypass vfio vfio_iommu_type1 vfio_pci mdev virtio_pci virtio_blk virtio_console ' +
  'virtio_rng 9pnet_virtio 9p i915'
).split(' ');
/** Parts of QEMU that are files of their own: the accelerator for machines without a CPU. */
const QEMU_MODULES = ['accel-qtest.so'];
const QEMU_LEAST = 1001; // 10.1: the first with vfio-user-pci

/** Says what was done, with the seconds since the beginning. */
export type Say = (what: string) => void;

/** Makes a kit in `target`, which must not exist, with `work` for what is only needed meanwhile. @throws Missing, Error. */
export function buildKit(target: string, work: string, say: Say): void {
  checkMachine();
  const { index, kernelIndex, root } = qemuPackages(work, say);
  mkdirSync(target, { recursive: true });
  const unpackers = placePrograms(root, target);
  const version = run(join(target, QEMU), ['--version']).toString();
  const qemuVersion = /version (\S+?)[\s(]/.exec(version)?.[1] ?? '';
  checkQemu(target, qemuVersion);
  say(`QEMU ${qemuVersion} in place`);
  placeGuestPrograms(root, join(target, 'programs'));
  const kernel = placeKernel({ index: kernelIndex ?? index, target, work, unpackers, say });
  const manifest: KitManifest = {
    form: KIT_FORM,
    qemu: QEMU,
    qemuVersion,
    busybox: 'bin/busybox',
    programs: 'programs',
    ...kernel,
  };
  writeFileSync(join(target, KIT_FILE), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

const QEMU = 'bin/qemu-system-x86_64';

function checkMachine(): void {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Missing(`an x86_64 machine with Linux: this is ${process.arch} with ${process.platform}`);
  }
  for (const program of ['apt-get', 'dpkg-deb']) {
    if (!(process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, program)))) {
      throw new Missing(`the program ${program}: packages come from Debian, through apt`);
    }
  }
}

interface Packages {
  readonly index: PackageIndex;
  readonly kernelIndex: PackageIndex | undefined;
  readonly root: string;
}

function qemuPackages(work: string, say: Say): Packages {
  const mirror = findMirror();
  const failures: string[] = [];
  for (const [suites, qemu, kernel] of SUITES) {
    const folder = join(work, qemu);
    try {
      const index = PackageIndex.read(folder, mirror, suites, qemu);
      say(`package index of ${suites.join(', ')} read`);
      const files = index.closure(PACKAGES);
      say(`${files.length} packages downloaded`);
      const root = join(work, 'root');
      for (const file of files) run('dpkg-deb', ['-x', file, root]);
      say('unpacked');
      return {
        index,
        kernelIndex: kernel === qemu ? undefined : PackageIndex.read(folder, mirror, suites, kernel),
        root,
      };
    } catch (cause) {
      if (!(cause instanceof Missing)) throw cause;
      failures.push(cause.message);
    }
  }
  throw new Missing(failures.join('\n'));
}

/**
 * Started through the loader that was built with it, a program needs no library of the host's. QEMU looks for its firmware and
 * modules in `qemu-bundle` beside the running program, which is the loader; without it, it would load those of another QEMU
 * that the host has.
 */
function placePrograms(root: string, target: string): Unpackers {
  const libraries = join(target, 'lib');
  const bin = join(target, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const name of ['qemu-system-x86_64', 'zstd']) {
    const program = join(root, 'usr/bin', name);
    copyLibraries(root, program, libraries);
    copyFileSync(program, join(libraries, `${name}.bin`));
    chmodSync(join(libraries, `${name}.bin`), 0o755);
    writeFileSync(join(bin, name), starter(name), { mode: 0o755 });
  }
  const bundle = join(libraries, 'qemu-bundle/usr');
  const modules = 'lib/x86_64-linux-gnu/qemu';
  mkdirSync(join(bundle, modules), { recursive: true });
  for (const name of QEMU_MODULES) copyFileSync(join(root, 'usr', modules, name), join(bundle, modules, name));
  for (const data of ['qemu', 'seabios']) {
    const to = join(bundle, 'share', data);
    cpSync(join(root, 'usr/share', data), to, { recursive: true, verbatimSymlinks: true });
  }
  for (const place of ['usr/bin/busybox', 'bin/busybox'].map((path) => join(root, path))) {
    if (existsSync(place)) copyFileSync(place, join(bin, 'busybox'));
  }
  chmodSync(join(bin, 'busybox'), 0o755);
  return { busybox: join(bin, 'busybox'), zstd: join(bin, 'zstd') };
}

/** A script that becomes the program: it keeps its process id. */
const starter = (name: string): string => `#!/bin/sh
lib=$(dirname "$(readlink -f "$0")")/../lib
unset LD_PRELOAD LD_LIBRARY_PATH QEMU_MODULE_DIR
exec "$lib/${LOADER}" --inhibit-cache --library-path "$lib" --argv0 ${name} "$lib/${name}.bin" "$@"
`;

function checkQemu(target: string, version: string): void {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (!(major * 100 + minor >= QEMU_LEAST)) throw new Missing(`a QEMU of 10.1 or later: the packages have ${version}`);
  const devices = run(join(target, QEMU), ['-device', 'help']).toString();
  if (!devices.includes('"vfio-user-pci"'))
    throw new Missing(`QEMU's device vfio-user-pci: QEMU ${version} has it not`);
}

function placeGuestPrograms(root: string, to: string): void {
  const libraries = join(to, 'usr/lib/x86_64-linux-gnu');
  for (const folder of ['usr/bin', 'usr/sbin']) mkdirSync(join(to, folder), { recursive: true });
  mkdirSync(join(to, 'lib64'), { recursive: true });
  for (const path of GUEST_PROGRAMS) {
    copyLibraries(root, join(root, path), libraries);
    copyFileSync(join(root, path), join(to, path));
    chmodSync(join(to, path), 0o755);
  }
  for (const [name, target] of Object.entries(GUEST_LINKS))
    copyFileSync(join(to, 'usr/sbin', target), join(to, 'usr/sbin', name));
  for (const library of readdirSync(libraries)) chmodSync(join(libraries, library), 0o755);
  copyFileSync(join(libraries, LOADER), join(to, 'lib64', LOADER));
  chmodSync(join(to, 'lib64', LOADER), 0o755);
  mkdirSync(join(to, 'etc'), { recursive: true });
  const settings = join(root, 'etc/mke2fs.conf');
  if (existsSync(settings)) copyFileSync(settings, join(to, 'etc/mke2fs.conf'));
}

interface KernelWork {
  readonly index: PackageIndex;
  readonly target: string;
  readonly work: string;
  readonly unpackers: Unpackers;
  readonly say: Say;
}

/** The kernel of a package that depends on the newest one of its kind. */
function placeKernel({
  index,
  target,
  work,
  unpackers,
  say,
}: KernelWork): Pick<KitManifest, 'kernel' | 'kernelVersion' | 'modules'> {
  const name = /\b(linux-image-\d[^ ,]*)/.exec(index.field(KERNEL, 'Depends') ?? '')?.[1];
  if (name === undefined) throw new Missing(`the package ${KERNEL}`);
  const root = join(work, 'kernel');
  const file = index.one(name);
  say(`kernel package ${name} downloaded`);
  run('dpkg-deb', ['-x', file, root]);
  rmSync(file);
  const kernelVersion =
    readdirSync(join(root, 'boot'))
      .find((each) => each.startsWith('vmlinuz-'))
      ?.slice('vmlinuz-'.length) ?? '';
  const image = readFileSync(join(root, 'boot', `vmlinuz-${kernelVersion}`));
  const vmlinux = vmlinuxOf(image, unpackers);
  const kernel = vmlinux === undefined ? 'vmlinuz' : 'vmlinux';
  writeFileSync(join(target, kernel), vmlinux ?? image);
  const modules = copyModules(moduleFolder(root, kernelVersion), MODULES, join(target, 'modules'), unpackers);
  const lacking = MODULES.filter((each) => !modules.has(each));
  say(
    `kernel ${kernelVersion}, ${modules.size} modules${lacking.length > 0 ? `; built in or not there: ${lacking.join(', ')}` : ''}`,
  );
  return { kernel, kernelVersion, modules: Object.fromEntries(modules) };
}
