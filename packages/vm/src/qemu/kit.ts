import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { vmErrors } from '../errors.js';

/** A kernel module: what it needs first, and its file in the kit. */
export interface KitModule {
  readonly file: string;
  readonly needs: readonly string[];
}

/** What `npm run qemu:setup` has made: a QEMU, a kernel with modules, and programs for a guest. Paths are absolute. */
export interface QemuKit {
  readonly folder: string;
  /** The program. */
  readonly qemu: string;
  /** `11.1.3`. */
  readonly qemuVersion: string;
  /** An ELF vmlinux, or the bzImage if that could not be unpacked. */
  readonly kernel: string;
  /** `6.12.107+deb13-amd64`. */
  readonly kernelVersion: string;
  /** By name with underscores. */
  readonly modules: ReadonlyMap<string, KitModule>;
  /** A static busybox. */
  readonly busybox: string;
  /** A folder to lay over a guest's root: further programs and their libraries. */
  readonly programs: string;
}

/** The file in a kit's folder that says what is there; it is written last. */
export const KIT_FILE = 'kit.json';

/** Of the form of `kit.json` and what it stands for: a kit of another form is made anew. */
export const KIT_FORM = 4;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Where the kit is: `$PINION_QEMU_KIT`, else `pinion/qemu-FORM` below `$XDG_CACHE_HOME` or `~/.cache`, so that checkouts of different
 * ages do not take each other's away.
 */
export const kitFolder = (environment: Environment = process.env): string =>
  environment['PINION_QEMU_KIT'] ??
  join(environment['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'pinion', `qemu-${KIT_FORM}`);

/** What `kit.json` holds; paths are relative to its folder. */
export interface KitManifest {
  readonly form: number;
  readonly qemu: string;
  readonly qemuVersion: string;
  readonly kernel: string;
  readonly kernelVersion: string;
  readonly modules: Readonly<Record<string, KitModule>>;
  readonly busybox: string;
  readonly programs: string;
}

/** @throws VM_NO_QEMU (ENOENT) when there is no complete kit of this form. */
export function findQemuKit(folder: string = kitFolder()): QemuKit {
  const manifest = readManifest(folder);
  const at = (path: string): string => join(folder, path);
  return {
    folder,
    qemu: at(manifest.qemu),
    qemuVersion: manifest.qemuVersion,
    kernel: at(manifest.kernel),
    kernelVersion: manifest.kernelVersion,
    modules: new Map(
      Object.entries(manifest.modules).map(([name, { file, needs }]) => [name, { file: at(file), needs }]),
    ),
    busybox: at(manifest.busybox),
    programs: at(manifest.programs),
  };
}

function readManifest(folder: string): KitManifest {
  let manifest: KitManifest;
  try {
    manifest = JSON.parse(readFileSync(join(folder, KIT_FILE), 'utf8')); // written by the set-up alone, last of all its files
  } catch (cause) {
    throw vmErrors.NO_QEMU({ folder }, cause);
  }
  if (manifest.form !== KIT_FORM) throw vmErrors.NO_QEMU({ folder });
  return manifest;
}
