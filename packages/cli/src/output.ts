import type { Log } from '@pinion/core';
import { failureLine, failuresOf, failureText } from './failure-text.js';
import type { Surroundings } from './surroundings.js';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Anything that can stand in JSON, with its name first. */
export interface OutputEvent {
  readonly event: string;
  readonly [detail: string]: unknown;
}

/** What a command says: lines for a person, or JSON, one event a line. */
export interface Output extends Log {
  readonly json: boolean;
  readonly level: LogLevel;
  /** A result or an event; `text` for people (undefined: only JSON has it). */
  event(event: OutputEvent, text: string | undefined): void;
  /** An event that only a person who asked for `debug` wants. */
  debug(event: OutputEvent, text: string): void;
  /** What the command failed with. */
  failed(cause: unknown): void;
}

const rankOf = (level: LogLevel): number => LOG_LEVELS.indexOf(level);

/** JSON has no bigint; addresses go as hexadecimal text, as everywhere in this project. */
const wire = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value);

export const jsonLine = (value: unknown): string => `${JSON.stringify(value, wire)}\n`;

/** Events for people go to standard output, diagnostics to standard error; with `json` everything is a line on standard output. */
export function createOutput(
  around: Pick<Surroundings, 'out' | 'err' | 'clock'>,
  { json, level }: { readonly json: boolean; readonly level: LogLevel },
): Output {
  const began = around.clock.now();
  const wants = (at: LogLevel): boolean => rankOf(at) <= rankOf(level);
  const print = ({ event, ...details }: OutputEvent): void => {
    const milliseconds = Math.round(around.clock.now() - began);
    around.out(jsonLine({ event, milliseconds, ...details }));
  };
  const log = (at: LogLevel, message: string, cause?: unknown): void => {
    if (!wants(at)) return;
    const because = cause === undefined || message.includes(failureLine(cause)) ? '' : `: ${failureLine(cause)}`;
    if (json) print({ event: 'log', level: at, message: `${message}${because}` });
    else around.err(`pinion: ${message}${because}\n`);
  };
  return {
    json,
    level,
    event(event, text) {
      if (json) print(event);
      else if (text !== undefined && wants('info')) around.out(`${text}\n`);
    },
    debug(event, text) {
      if (!wants('debug')) return;
      if (json) print(event);
      else around.err(`pinion: ${text}\n`);
    },
    info: (message) => log('info', message),
    warn: (message, cause) => log('warn', message, cause),
    failed(cause) {
      for (const failure of failuresOf(cause)) {
        if (json) print({ event: 'failed', ...failure });
        else around.err(`${failureText(failure)}\n`);
      }
    },
  };
}
