import { systemClock } from '@pinion/core';
import { EXIT } from './exit-codes.js';
import { runPinion } from './program.js';
import type { StopSignal, Surroundings } from './surroundings.js';

/** Keeps the event loop busy; nothing waits for it. */
const IDLE = 3_600_000;

function onStopSignal(heard: (signal: StopSignal) => void): () => void {
  let first = true;
  const listener = (signal: StopSignal): void => {
    if (!first) process.exit(EXIT.INTERRUPTED); // whoever asks twice does not want to wait
    first = false;
    heard(signal);
  };
  process.on('SIGINT', listener).on('SIGTERM', listener);
  return () => void process.off('SIGINT', listener).off('SIGTERM', listener);
}

// A reader that is gone (`| head`) is no reason to fail.
const whenGone = (failure: NodeJS.ErrnoException): void => {
  if (failure.code !== 'EPIPE') throw failure;
};
process.stdout.on('error', whenGone);
process.stderr.on('error', whenGone);

const around: Surroundings = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  terminal: process.stderr.isTTY === true,
  environment: process.env,
  pid: process.pid,
  folder: process.cwd(),
  clock: systemClock,
  onStopSignal,
};
// Timers of the library keep no process alive, and a driver may wait for one.
const alive = setInterval(() => {}, IDLE);
process.exitCode = await runPinion(process.argv.slice(2), around);
clearInterval(alive);
