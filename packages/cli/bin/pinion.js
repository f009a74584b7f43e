#!/usr/bin/env node
// A file of its own because what the compiler writes is not executable, and npm links commands before anything is built.
import { existsSync } from 'node:fs';

const main = new URL('../dist/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  process.stderr.write("pinion is not built yet: run 'npm run build' in the checkout\n");
  process.exitCode = 1;
}
