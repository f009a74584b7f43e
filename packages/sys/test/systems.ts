/** What the tests share: the two systems, and how to prove that nothing is left. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { FakeSys, linuxSys, type Sys, SysError } from '@pinion/sys';

/** Each system the conformance tests run on. */
export const SYSTEMS: readonly { readonly name: string; make(): Sys }[] = [
  { name: 'linux', make: () => linuxSys() },
  { name: 'fake', make: () => new FakeSys() },
];

export const PAGE = 4096;

/** What an error must be; shows the error that came instead. */
export const refusal =
  (name: string, errno?: string) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof SysError, String(error));
    assert.equal(error.name, name, error.message);
    if (errno !== undefined) assert.equal(error.errno, errno, error.message);
    return true;
  };

/** How many fds the process has; the listing's own is in both counts. */
export const openFds = (): number => readdirSync('/proc/self/fd').length;

/** Asserts that no owner is left. */
export const assertNothingOpen = (sys: Sys): void => assert.deepEqual(sys.ledger.labels(), []);

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
export const bytesOf = (words: string): Uint8Array => new TextEncoder().encode(words);
