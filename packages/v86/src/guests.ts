import { readFile } from 'node:fs/promises';

/**
 * Kernels that come with this package: `devices` drives every device it knows and exits with the number of failures; `studio` is
 * told what to do on its console; `self-test` is the self-test's program. README.md has their words.
 */
export type GuestName = 'devices' | 'studio' | 'self-test';

/** The kernel of that name, as `image` of a VM. */
export const readGuest = async (name: GuestName): Promise<Uint8Array> =>
  new Uint8Array(await readFile(new URL(`../guest/${name}.elf`, import.meta.url)));
