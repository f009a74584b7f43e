/** What a call costs through this package, beside the same calls in C: median of interleaved rounds, nanoseconds. */
import { appendFileSync } from 'node:fs';
import { createMemfd, EventFd, FdInbox, linuxSys, mapFile, UnixSocket } from '@pinion/sys';
import { compileYardstick, type Timings } from './yardstick.js';

const COUNT = 10_000;
const PAGE = 4096;
const MESSAGE = 64;
const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 5) || 5);

const sys = linuxSys();
const memory = createMemfd(sys, 'bench', BigInt(16 * PAGE));
const event = EventFd.create(sys, 'bench');
const [a, b] = UnixSocket.pair(sys);
const inbox = new FdInbox(8);
const page = new Uint8Array(PAGE);
const message = new Uint8Array(MESSAGE);
const fds = [memory];
const request = { fd: memory, offset: 0n, length: PAGE, writable: true, label: 'bench' };

const operations: Readonly<Record<string, () => unknown>> = {
  call: () => sys.seals(memory.number),
  eventfd: () => {
    event.signal();
    event.drain();
  },
  pread: () => sys.pread(memory.number, page, 0n),
  message: () => {
    a.trySend(message);
    b.tryReceive(page, inbox);
  },
  'message with fd': () => {
    a.trySend(message, fds);
    b.tryReceive(page, inbox);
    inbox.close();
  },
  map: () => mapFile(request).close(),
  'map and touch': () => {
    const mapping = mapFile(request);
    mapping.window(0)[0] = 1;
    mapping.close();
  },
};

function measure(): Timings {
  const timings: Record<string, number> = {};
  for (const [name, operation] of Object.entries(operations)) {
    for (let i = 0; i < COUNT / 10; i++) operation();
    const begin = performance.now();
    for (let i = 0; i < COUNT; i++) operation();
    timings[name] = ((performance.now() - begin) * 1e6) / COUNT;
  }
  return timings;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

const runYardstick = compileYardstick();
const ours: Timings[] = [];
const theirs: Timings[] = [];
for (let round = 0; round < ROUNDS; round++) {
  ours.push(measure());
  const timings = runYardstick(String(COUNT));
  if (timings !== undefined) theirs.push(timings);
}
const rows = Object.keys(operations).map((name) => {
  const value = median(ours.map((timings) => timings[name] ?? Number.NaN));
  const yardstick = theirs.length === 0 ? undefined : median(theirs.map((timings) => timings[name] ?? Number.NaN));
  return { operation: name, value, yardstick, ratio: yardstick === undefined ? undefined : value / yardstick };
});
process.stdout.write(`operation          ours (ns)    C (ns)   ratio\n`);
for (const { operation, value, yardstick, ratio } of rows) {
  const cells = [value.toFixed(0).padStart(10), (yardstick?.toFixed(0) ?? '-').padStart(10)];
  process.stdout.write(`${operation.padEnd(17)} ${cells.join('')} ${(ratio?.toFixed(2) ?? '-').padStart(7)}\n`);
}
const file = process.env['PINION_BENCH_JSON'];
if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'sys calls', rows })}\n`);

for (const owner of [a, b, event, memory]) owner.close();
if (sys.ledger.count() !== 0) throw new RangeError(`left open: ${sys.ledger.labels().join()}`);
