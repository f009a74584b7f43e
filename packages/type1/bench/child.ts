/** One process per subject: a structure measured alone, so that V8 compiles its loops for it and nothing else. */
import { fork } from 'node:child_process';
import type { Timings } from './yardstick.js';

/** Asks a subject's process for one measurement. */
export type Ask = (...args: string[]) => Promise<Timings>;
export interface Subject {
  readonly ask: Ask;
  stop(): void;
}

/** Starts `file` again as the process of one subject. */
export function startSubject(file: string, subject: string): Subject {
  const child = fork(file, ['--subject', subject]);
  return {
    ask: (...args) =>
      new Promise((resolve, reject) => {
        const ended = (code: number | null): void =>
          reject(new RangeError(`the process of ${subject} ended with ${code} on ${args.join(' ')}`));
        child.once('exit', ended);
        child.once('message', (answer) => {
          child.off('exit', ended);
          resolve(answer as Timings); // why: the child is this file's other half and sends nothing else
        });
        child.send(args);
      }),
    stop: () => child.disconnect(),
  };
}

/** If this process was started for a subject: answers measurements until the parent leaves. @returns whether it was. */
export function servedAsSubject(measure: (subject: string, args: string[]) => Timings): boolean {
  const at = process.argv.indexOf('--subject');
  const subject = process.argv[at + 1];
  if (at < 0 || subject === undefined) return false;
  process.on('message', (args: string[]) => process.send?.(measure(subject, args)));
  return true;
}
