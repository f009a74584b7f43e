import { execFile } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { linuxSys, type Sys } from '@pinion/sys';
import type { Surroundings } from '../surroundings.js';
import type { Machine } from './finding.js';

/** Milliseconds that a program has to say what it is. */
const PROGRAM_LIMIT = 10_000;

const quietly = <T>(action: () => T): T | undefined => {
  try {
    return action();
  } catch {
    return undefined; // why: what cannot be looked at is what the check reports
  }
};

/** The machine that this process runs on. */
export function thisMachine({ environment, pid }: Pick<Surroundings, 'environment' | 'pid'>): Machine {
  let sys: Sys | undefined;
  return {
    platform: process.platform,
    arch: process.arch,
    node: process.versions.node,
    pid,
    environment,
    sys() {
      sys ??= linuxSys();
      return sys;
    },
    readText: (path) => quietly(() => readFileSync(path, 'utf8')),
    canOpen: (path) =>
      quietly(() => {
        closeSync(openSync(path, 'r+'));
        return true;
      }) ?? false,
    output: (program, args) =>
      new Promise((resolve) => {
        execFile(program, [...args], { timeout: PROGRAM_LIMIT }, (failure, out, err) =>
          resolve(failure === null ? out + err : undefined),
        );
      }),
  };
}
