/**
 * What a client waits for: register accesses and DMA mappings over the socket, by a client in C, next to a ping-pong of 64 bytes
 * between two C processes in the same run. All processes share one CPU. Targets are multiples of the ping-pong with two
 * receives a message: libvfio-user's (measured beside it elsewhere), times what the project asks of itself.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median, ROUNDS, type Row, report } from './report.js';
import { compileYardstick, onOneCpu, type Timings } from './yardstick.js';

const COUNT = 20_000;
/** Tries of the server that does not go back to its event loop at once. */
const SPIN = 50;

/** libvfio-user's time as a multiple of the ping-pong with two receives, and what part of it is the target. */
const PEER: Readonly<Record<string, readonly [peer: number, part: number]>> = {
  'read 4 B': [1.06, 1],
  'write 4 B': [1.05, 1],
  'posted write 4 B': [0.34, 0.5],
  'map and unmap with fd': [3.16, 1],
  'map and unmap with fd, 16 pipelined': [2.54, 0.7],
  'map and unmap without fd': [2.13, 1],
  'map and unmap without fd, 16 pipelined': [1.24, 0.5],
};

interface Subject {
  readonly name: string;
  readonly path: string;
  readonly child: ChildProcess;
  readonly timings: Timings[];
}

/** A server's process; `spin`: see SocketTransportOptions. */
async function started(folder: string, spin: number): Promise<Subject> {
  const path = join(folder, `spin-${spin}.sock`);
  const file = fileURLToPath(new URL('./server.js', import.meta.url));
  const [execPath, ...before] = onOneCpu(process.execPath);
  const child = fork(file, [path, String(spin)], { execPath, execArgv: [...before, ...process.execArgv] });
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('exit', (code) => reject(new RangeError(`the server ended with ${code}`)));
  });
  return { name: spin === 0 ? 'event loop' : `spin ${spin}`, path, child, timings: [] };
}

async function stopped({ child }: Subject): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.disconnect();
  await gone;
}

const medianOf = (all: readonly Timings[], name: string): number => median(all.map((each) => each[name] ?? Number.NaN));

const run = compileYardstick();
if (run !== undefined) {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-bench-'));
  const subjects = [await started(folder, 0), await started(folder, SPIN)];
  const wire: Timings[] = [];
  for (const { path } of subjects) run('client', path, String(COUNT / 4)); // why: the first run compiles
  for (let round = 0; round < ROUNDS; round++) {
    wire.push(run('pingpong', String(COUNT)));
    for (const { path, timings } of subjects) timings.push(run('client', path, String(COUNT)));
  }
  for (const subject of subjects) await stopped(subject);
  rmSync(folder, { recursive: true });
  const yardstick = medianOf(wire, 'two recvs');
  const rows = Object.entries(PEER).flatMap(([operation, [peer, part]]) =>
    subjects.map(({ name, timings }): Row => {
      return { operation, subject: name, value: medianOf(timings, operation), yardstick, peer, target: peer * part };
    }),
  );
  report('vfio-user wire', [
    { operation: 'ping-pong, one recv', subject: 'C', value: medianOf(wire, 'one recv'), yardstick },
    { operation: 'ping-pong, two recvs', subject: 'C', value: yardstick, yardstick },
    ...rows,
  ]);
}
