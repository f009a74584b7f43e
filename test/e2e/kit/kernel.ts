import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { KitModule } from '@pinion/vm';
import { run } from './commands.js';

/** Programs that unpack what a kernel package holds. */
export interface Unpackers {
  readonly busybox: string;
  readonly zstd: string;
}

/** Offsets in a bzImage. Source: Linux, Documentation/arch/x86/boot. */
const BOOT = { SETUP_SECTORS: 0x1f1, PAYLOAD_OFFSET: 0x248, PAYLOAD_LENGTH: 0x24c, SECTOR: 512 } as const;
const ELF = 0x464c457f;
const MAGIC = { zstd: 0xfd2fb528, xz: 0x587a37fd } as const;
const GZIP = 0x8b1f;

/**
 * The kernel inside a bzImage: QEMU starts that one without the guest unpacking it first, which takes seconds under emulation.
 * @returns undefined if it is packed in a way that nobody here unpacks.
 */
export function vmlinuxOf(image: Buffer, unpackers: Unpackers): Buffer | undefined {
  const begin = ((image[BOOT.SETUP_SECTORS] ?? 0) + 1) * BOOT.SECTOR + image.readUInt32LE(BOOT.PAYLOAD_OFFSET);
  const sizeAtEnd = 4;
  const payload = image.subarray(begin, begin + image.readUInt32LE(BOOT.PAYLOAD_LENGTH) - sizeAtEnd);
  const kernel = unpacked(payload, unpackers);
  return kernel !== undefined && kernel.readUInt32LE(0) === ELF ? kernel : undefined;
}

function unpacked(payload: Buffer, { busybox, zstd }: Unpackers): Buffer | undefined {
  const magic = payload.readUInt32LE(0);
  if (magic === MAGIC.zstd) return run(zstd, ['-qdc'], payload);
  if (magic === MAGIC.xz) return run(busybox, ['xzcat'], payload);
  return payload.readUInt16LE(0) === GZIP ? gunzipSync(payload) : undefined;
}

function moduleBytes(path: string, { busybox, zstd }: Unpackers): Buffer {
  if (path.endsWith('.xz')) return run(busybox, ['xzcat', path]);
  if (path.endsWith('.zst')) return run(zstd, ['-qdc', path]);
  return readFileSync(path);
}

const nameOf = (file: string): string =>
  basename(file)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : /\.ko(\.\w+)?$/.test(entry.name) ? [path] : [];
  });
}

/** What modules ask the kernel for by another name when they are used, on kernels that have it as a module. */
const ASKED_FOR: Readonly<Record<string, readonly string[]>> = { ext4: ['crc32c_generic'] };

/** What a module needs, from its own description of itself. */
function needsOf(module: Buffer): string[] {
  const at = module.indexOf('\0depends=');
  if (at < 0) return [];
  const text = module.subarray(at + '\0depends='.length, module.indexOf(0, at + 1)).toString('latin1');
  return text
    .split(',')
    .filter((name) => name !== '')
    .map((name) => name.replaceAll('-', '_'));
}

/** Copies modules, and those that they need, unpacked. A name that the kernel has not is left out: whoever needs it hears that by name later. */
export function copyModules(
  from: string,
  wanted: readonly string[],
  to: string,
  unpackers: Unpackers,
): Map<string, KitModule> {
  mkdirSync(to, { recursive: true });
  const files = new Map(filesBelow(from).map((file) => [nameOf(file), file]));
  const modules = new Map<string, KitModule>();
  const add = (name: string): void => {
    const file = files.get(name);
    if (file === undefined || modules.has(name)) return;
    const bytes = moduleBytes(file, unpackers);
    const needs = [...needsOf(bytes), ...(ASKED_FOR[name] ?? [])].filter((need) => files.has(need)); // the others are built in
    modules.set(name, { file: join(basename(to), `${name}.ko`), needs });
    writeFileSync(join(to, `${name}.ko`), bytes);
    for (const need of needs) add(need);
  };
  for (const name of wanted) add(name);
  return modules;
}

/** The folder of modules in an unpacked kernel package. */
export function moduleFolder(root: string, version: string): string {
  const places = ['usr/lib/modules', 'lib/modules'].map((place) => join(root, place, version, 'kernel'));
  return places.find((place) => existsSync(place)) ?? join(root, 'lib/modules', version, 'kernel');
}
