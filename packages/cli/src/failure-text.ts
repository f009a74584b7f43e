import { PinionError } from '@pinion/core';
import { SysError } from '@pinion/sys';
import { cliErrors } from './errors.js';
import { EXIT } from './exit-codes.js';

/** A failure as one thing to print or to put into JSON. */
export interface Failure {
  readonly name: string;
  readonly errno: string;
  readonly message: string;
}

const NAMED_USAGE = ['CLI_USAGE', 'CLI_BAD_VALUE', 'CLI_BAD_DEVICE', 'CLI_BAD_RULE', 'CLI_BAD_CONFIG', 'CLI_BAD_PLAN'];
/** Names of errors about what the person wrote: nothing was started. */
const USAGE: ReadonlySet<string> = new Set([
  ...NAMED_USAGE,
  'CLI_NO_DEVICE_KIND',
  'CLI_NOT_A_PLUGIN',
  'CLI_NO_HARNESS',
  'VM_BAD_DESCRIPTION',
  'VFIOUSER_BAD_ACTIVATION',
]);

/** Every failure inside `cause`, in words: an AggregateError is several. */
export function failuresOf(cause: unknown): readonly Failure[] {
  if (cause instanceof AggregateError) return cause.errors.flatMap(failuresOf);
  if (cause instanceof PinionError || cause instanceof SysError) {
    return [{ name: cause.name, errno: cause.errno, message: cause.message }];
  }
  return [nodeFailure(cause)];
}

/** `NAME (ERRNO): what, where, who, what to do`. */
export const failureText = ({ name, errno, message }: Failure): string => `${name} (${errno}): ${message}`;

/** All of a failure on one line. */
export const failureLine = (cause: unknown): string => failuresOf(cause).map(failureText).join(' | ');

export const exitCodeOf = (cause: unknown): number =>
  failuresOf(cause).some(({ name }) => USAGE.has(name)) ? EXIT.USAGE : EXIT.FAILED;

/** What Node says when a call of its own fails has an errno too; anything else is nobody's error. */
function nodeFailure(cause: unknown): Failure {
  const about: { code?: unknown; syscall?: unknown; path?: unknown } = Object(cause);
  const message = cause instanceof Error ? cause.message : String(cause);
  if (typeof about.code === 'string' && typeof about.syscall === 'string') {
    const what = typeof about.path === 'string' ? about.path : '';
    const problem = message.replace(/^\w+: /, '').replace(/, \w+( '.*')?$/, '');
    const { name, message: text } = cliErrors.SYSTEM({ call: about.syscall, what, problem });
    return { name, errno: about.code, message: text };
  }
  const { name, errno, message: text } = cliErrors.UNEXPECTED({ problem: message });
  return { name, errno, message: text };
}
