import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { vmErrors } from '../errors.js';
import { CpioArchive } from './cpio.js';
import { GUEST_INIT } from './guest-init.js';
import type { QemuKit } from './kit.js';

/** What a guest has besides busybox. */
export interface GuestContents {
  /** Kernel modules, loaded in this order at boot, each after what it needs; parameters may follow a name: `nvme_core io_timeout=2`. */
  readonly modules?: readonly string[];
  /** Modules that are there for a later `insmod`, at `/lib/modules/NAME.ko`. */
  readonly furtherModules?: readonly string[];
  /** Files by path without a slash in front; programs are files with a mode. */
  readonly files?: ReadonlyMap<string, { readonly data: Uint8Array | string; readonly mode?: number }>;
  /** Whether the kit's further programs are there (mkfs.ext4 ...). Default false: they make a boot slower. */
  readonly programs?: boolean;
}

const firstWord = (text: string): string => text.split(' ', 1)[0] ?? '';
const nameOf = (module: string): string => module.replaceAll('-', '_');

/** `wanted` and what they need, each after its needs. @throws VM_NO_MODULE (ENOENT). */
export function loadOrder(kit: QemuKit, wanted: readonly string[]): string[] {
  const order: string[] = [];
  const add = (module: string): void => {
    const name = nameOf(module);
    if (order.includes(name)) return;
    const there = kit.modules.get(name);
    if (there === undefined) throw vmErrors.NO_MODULE({ module, kernel: kit.kernelVersion });
    for (const need of there.needs) add(need);
    order.push(name);
  };
  for (const module of wanted) add(module);
  return order;
}

/** The initial RAM disk of a guest with a shell that `GuestShell` speaks to. @throws VM_NO_MODULE (ENOENT) if the kernel has not what is wanted. */
export function guestImage(kit: QemuKit, contents: GuestContents = {}): Uint8Array {
  const { modules = [], furtherModules = [], files = new Map(), programs = false } = contents;
  const parameters = new Map(
    modules.map((module) => [nameOf(firstWord(module)), module.slice(firstWord(module).length)]),
  );
  const order = loadOrder(kit, modules.map(firstWord));
  const archive = new CpioArchive();
  for (const folder of ['dev', 'proc', 'sys', 'tmp', 'mnt', 'bin']) archive.folder(folder);
  archive.characterDevice('dev/console', 5, 1);
  archive.file('bin/busybox', readFileSync(kit.busybox), 0o755).link('bin/sh', 'busybox');
  for (const command of BUSYBOX_COMMANDS) archive.link(`bin/${command}`, 'busybox');
  for (const name of new Set([...order, ...loadOrder(kit, furtherModules)])) {
    const module = kit.modules.get(name);
    if (module !== undefined) archive.file(`lib/modules/${name}.ko`, readFileSync(module.file));
  }
  archive.file('lib/modules/order', order.map((name) => `${name}${parameters.get(name) ?? ''}\n`).join(''));
  if (programs) addFolder(archive, kit.programs, '');
  for (const [path, { data, mode }] of files) archive.file(path, data, mode);
  return archive.file('init', GUEST_INIT, 0o755).bytes();
}

function addFolder(archive: CpioArchive, folder: string, below: string): void {
  for (const name of readdirSync(folder).sort()) {
    const from = join(folder, name);
    const to = below === '' ? name : `${below}/${name}`;
    const facts = lstatSync(from);
    if (facts.isDirectory()) addFolder(archive, from, to);
    else if (facts.isSymbolicLink()) archive.link(to, readlinkSync(from));
    else archive.file(to, readFileSync(from), facts.mode & 0o777);
  }
}

/** Those of busybox's commands that guests here use; `busybox NAME` runs any other. */
const BUSYBOX_COMMANDS = (
  '[ ash awk base64 basename cat chmod chroot cksum cmp cp cttyhack cut date dd devmem df dirname dmesg du echo env expr false find ' +
  'free grep gunzip gzip halt head hexdump insmod kill killall ln ls lsmod md5sum mkdir mkfifo mknod mktemp modprobe mount mv nproc ' +
  'od pidof poweroff printf ps pwd readlink realpath reboot rm rmdir rmmod sed seq setsid sha256sum sleep sort stat stty sync tail ' +
  'tar tee test time timeout touch tr true umount uname uniq uptime usleep vi wc which xargs xxd yes'
).split(' ');
