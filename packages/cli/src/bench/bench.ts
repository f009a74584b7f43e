import { resolve } from 'node:path';
import type { Clock } from '@pinion/core';
import { createMemfd, type Fd, linuxSys, UnixSocket } from '@pinion/sys';
import { Client, PCI_REGION, SocketTransport } from '@pinion/vfio-user';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { parseWhole } from '../option-values.js';
import { jsonLine } from '../output.js';
import { Progress } from '../progress.js';

export interface BenchFlags {
  readonly rounds: string;
  readonly write?: string;
}

/** One kind of operation. */
interface Work {
  readonly name: string;
  /** Operations that are under way together. */
  readonly together: number;
  once(index: number): Promise<unknown>;
}

/** Microseconds of one operation. */
interface Result {
  readonly name: string;
  readonly median: number;
  readonly p99: number;
}

/** Above the memory of any guest, and of 48-bit address spaces. */
const FREE_IOVA = 1n << 47n;
const PAGE = 4096n;
const PIPELINED = 16;
const BURST = 256;
/** Batches that medians are taken of. */
const BATCHES = 50;
const ROUNDS = [BATCHES, 10_000_000] as const;
const MICROSECONDS = 1000;

/** Measures a server. @returns the exit code. */
export async function bench(flags: BenchFlags, { output, around }: Context, args: readonly string[]): Promise<number> {
  const rounds = parseWhole('--rounds', flags.rounds, ROUNDS);
  const place = flags.write === undefined ? undefined : parsePlace(flags.write);
  const path = resolve(around.folder, args[0] ?? '');
  const sys = linuxSys();
  const client = await Client.connect({
    transport: new SocketTransport(UnixSocket.connect(sys, path)),
    clock: around.clock,
  });
  const page = createMemfd(sys, 'bench', PAGE);
  const progress = new Progress(around, output);
  const results: Result[] = [];
  try {
    for (const work of worksOf(client, { page, place })) {
      progress.show(work.name);
      const result = await measure(work, { rounds, clock: around.clock });
      progress.clear();
      results.push(result);
      if (!output.json) around.out(textOf(result));
    }
  } finally {
    progress.clear();
    page.close();
    client.close();
    await client.done;
  }
  if (output.json) around.out(jsonLine({ rounds, microseconds: results, open: sys.ledger.labels() }));
  return EXIT.OK;
}

function worksOf(client: Client, { page, place }: { page: Fd; place: Place | undefined }): readonly Work[] {
  const bytes = Array.from({ length: PIPELINED }, () => new Uint8Array(4));
  const read = (index: number): Promise<unknown> =>
    client.readRegion(PCI_REGION.CONFIG, 0n, bytes[index % PIPELINED] ?? new Uint8Array(4));
  const pair = (fd: Fd | undefined) => async (index: number) => {
    const address = FREE_IOVA + BigInt(index % PIPELINED) * PAGE;
    const mapped = client.mapDma({ address, size: PAGE, ...(fd === undefined ? {} : { fd }) });
    await Promise.all([mapped, client.unmapDma({ address, size: PAGE })]);
  };
  return [
    { name: 'read 4 bytes', together: 1, once: read },
    { name: `read 4 bytes, ${PIPELINED} at a time`, together: PIPELINED, once: read },
    { name: 'map and unmap a page with its descriptor', together: 1, once: pair(page) },
    { name: `the same, ${PIPELINED} at a time`, together: PIPELINED, once: pair(page) },
    { name: 'map and unmap a page without descriptor', together: 1, once: pair(undefined) },
    { name: `the same, ${PIPELINED} at a time (no descriptor)`, together: PIPELINED, once: pair(undefined) },
    ...(place === undefined ? [] : [postedWrites(client, place)]),
  ];
}

/** Posted writes of a burst; its last operation is a read, whose answer says that they are through. */
const postedWrites = (client: Client, { region, offset }: Place): Work => ({
  name: 'posted write of 4 bytes',
  together: BURST,
  async once(index) {
    if (index % BURST !== BURST - 1) return client.writeRegion(region, offset, new Uint8Array(4), { posted: true });
    return client.readRegion(PCI_REGION.CONFIG, 0n, new Uint8Array(4));
  },
});

/** Batches one after the other; in a batch so many operations as are to be under way together, again and again. */
async function measure(work: Work, { rounds, clock }: { rounds: number; clock: Clock }): Promise<Result> {
  const size = Math.max(work.together, Math.floor(rounds / BATCHES));
  const times: number[] = [];
  for (let batch = -1; batch < BATCHES; batch += 1) {
    const began = clock.now();
    let done = 0;
    while (done < size) {
      const some = Array.from({ length: work.together }, (_, index) => work.once(done + index));
      await Promise.all(some);
      done += work.together;
    }
    if (batch >= 0) times.push(((clock.now() - began) * MICROSECONDS) / done); // the first one warms up
  }
  times.sort((a, b) => a - b);
  return { name: work.name, median: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

const quantile = (sorted: readonly number[], part: number): number =>
  Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0) * 100) / 100;

const NAME_WIDTH = 44;
const NUMBER_WIDTH = 10;

const textOf = ({ name, median, p99 }: Result): string =>
  `${name.padEnd(NAME_WIDTH)}${median.toFixed(2).padStart(NUMBER_WIDTH)} us   (slowest batch ${p99.toFixed(2)})\n`;

interface Place {
  readonly region: number;
  readonly offset: bigint;
}

/** @throws CLI_BAD_VALUE (EINVAL). */
function parsePlace(value: string): Place {
  const match = /^(\d{1,5}):(\d+|0x[\da-f]+)$/i.exec(value);
  if (match?.[1] !== undefined && match[2] !== undefined) return { region: Number(match[1]), offset: BigInt(match[2]) };
  throw cliErrors.BAD_VALUE({ option: '--write', value, wanted: 'REGION:OFFSET such as 0:0x1000' });
}
