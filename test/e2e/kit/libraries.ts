import { copyFileSync, mkdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './commands.js';

const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
export const LOADER = 'ld-linux-x86-64.so.2';

/** Copies a program's libraries and its loader, as its own loader finds them below `root`. @throws Error naming a library that is missing. */
export function copyLibraries(root: string, program: string, to: string): void {
  mkdirSync(to, { recursive: true });
  const from = join(root, LIBRARIES);
  const loader = join(from, LOADER);
  const listed = run(loader, ['--inhibit-cache', '--library-path', from, '--list', program]).toString();
  copyFileSync(realpathSync(loader), join(to, LOADER));
  for (const line of listed.split('\n')) {
    const [, name, path] = /^\s*(\S+) => (.*?)(?: \(0x[0-9a-f]+\))?$/.exec(line) ?? [];
    if (path === 'not found') throw new Error(`${program} needs ${name}, which no package brought`);
    if (name !== undefined && !name.includes('/')) copyFileSync(realpathSync(join(from, name)), join(to, name));
  }
}
