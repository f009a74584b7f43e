/**
 * In a guest: this project's NVMe disk, in a process of its own, beside the one that QEMU emulates itself, over images in the same folder.
 * Both in one guest, by the same stock driver, in turn. usage: npm run bench:e2e
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Teardown } from '@pinion/core';
import { LinuxGuest, vfioUserDevice } from '@pinion/vm';
import { diskIn, makeImage } from '../disk-checks.js';
import { ServeProcess } from '../serve-process.js';

interface Work {
  readonly name: string;
  readonly direction: 'read' | 'write';
  readonly order: 'random' | 'sequential';
  readonly block: number;
  readonly count: number;
  readonly workers: number;
}

const MIB = 1 << 20;
const WORKS: readonly Work[] = [
  { name: 'read 4 KiB, one at a time', direction: 'read', order: 'random', block: 4096, count: 2000, workers: 1 },
  { name: 'write 4 KiB, one at a time', direction: 'write', order: 'random', block: 4096, count: 2000, workers: 1 },
  { name: 'read 4 KiB, 8 at a time', direction: 'read', order: 'random', block: 4096, count: 500, workers: 8 },
  { name: 'read 1 MiB in order', direction: 'read', order: 'sequential', block: MIB, count: 64, workers: 1 },
  { name: 'write 1 MiB in order', direction: 'write', order: 'sequential', block: MIB, count: 64, workers: 1 },
];
const ROUNDS = 3;
const SLOTS = { pinion: 4, qemu: 5 } as const;

/** Nanoseconds: of all, median and 99th percentile of one transfer. */
interface Timing {
  readonly all: number;
  readonly p50: number;
  readonly p99: number;
}

interface Row extends Timing {
  readonly name: string;
  readonly disk: string;
  readonly mibPerSecond: number;
  readonly perSecond: number;
}

/** @returns the program for the guest; undefined, and said, when there is no compiler. */
function compileProgram(folder: string): Uint8Array | undefined {
  const source = fileURLToPath(new URL('../../../e2e/bench/disk-latency.c', import.meta.url));
  const program = join(folder, 'disk-latency');
  const compiler = process.env['CC'] ?? 'cc';
  const done = spawnSync(compiler, ['-O2', '-static', '-o', program, source], { encoding: 'utf8' });
  if (done.status === 0) return readFileSync(program);
  process.stdout.write(
    `skipped: the guest's program needs a C compiler that links statically: ${done.error?.message ?? done.stderr}\n`,
  );
  return undefined;
}

async function timing(guest: LinuxGuest, disk: string, work: Work): Promise<Timing> {
  const { direction, order, block, count, workers } = work;
  const line = await guest.sh(`disk-latency ${disk} ${direction} ${order} ${block} ${count} ${workers}`, 300_000);
  const [all = 0, p50 = 0, p99 = 0] = line.split(' ').map(Number);
  return { all, p50, p99 };
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

function rowOf(name: string, disk: string, { work, timings }: { work: Work; timings: readonly Timing[] }): Row {
  const [all, p50, p99] = (['all', 'p50', 'p99'] as const).map((key) => median(timings.map((each) => each[key])));
  const transfers = work.count * work.workers;
  const seconds = (all ?? 0) / 1e9;
  const mibPerSecond = (transfers * work.block) / MIB / seconds;
  return { name, disk, all: all ?? 0, p50: p50 ?? 0, p99: p99 ?? 0, mibPerSecond, perSecond: transfers / seconds };
}

const microseconds = (value: number): string => (value / 1000).toFixed(0).padStart(7);

function print(rows: readonly Row[]): void {
  process.stdout.write(`\n${'work'.padEnd(30)}${'disk'.padEnd(8)}  p50 us  p99 us     MiB/s       1/s   of QEMU's\n`);
  for (const row of rows) {
    const peer = rows.find(({ name, disk }) => name === row.name && disk === 'qemu');
    const ratio = peer === undefined ? 1 : row.perSecond / peer.perSecond;
    const rates = `${row.mibPerSecond.toFixed(1).padStart(10)}${row.perSecond.toFixed(0).padStart(10)}`;
    const times = `${microseconds(row.p50)} ${microseconds(row.p99)}`;
    process.stdout.write(
      `${row.name.padEnd(30)}${row.disk.padEnd(8)} ${times}${rates}  ${ratio.toFixed(2).padStart(7)} x\n`,
    );
  }
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ bench: 'nvme in a guest', rows })}\n`);
}

async function measure(guest: LinuxGuest): Promise<Row[]> {
  const disks = { pinion: await diskIn(guest, SLOTS.pinion), qemu: await diskIn(guest, SLOTS.qemu) };
  const rows: Row[] = [];
  for (const work of WORKS) {
    const timings = { pinion: [] as Timing[], qemu: [] as Timing[] };
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const disk of ['pinion', 'qemu'] as const) timings[disk].push(await timing(guest, disks[disk], work));
    }
    for (const disk of ['pinion', 'qemu'] as const) rows.push(rowOf(work.name, disk, { work, timings: timings[disk] }));
    process.stdout.write('.');
  }
  return rows;
}

async function main(): Promise<void> {
  const ends = new Teardown();
  try {
    const folder = mkdtempSync(join(tmpdir(), 'pinion-bench-'));
    ends.defer(() => rmSync(folder, { recursive: true, force: true }));
    const program = compileProgram(folder);
    if (program === undefined) return;
    const [ours, theirs, socket] = ['ours.img', 'theirs.img', 'disk.sock'].map((name) => join(folder, name));
    for (const image of [ours, theirs]) makeImage(image ?? '');
    await ServeProcess.start(
      { after: (end) => ends.defer(end) },
      '--device',
      'nvme',
      '--image',
      ours ?? '',
      '--socket-path',
      socket ?? '',
    );
    const guest = await LinuxGuest.boot({
      name: 'bench',
      contents: { modules: ['nvme'], files: new Map([['bin/disk-latency', { data: program, mode: 0o755 }]]) },
      machine: {
        memory: 512,
        devices: [
          vfioUserDevice(socket ?? '', { addr: `${SLOTS.pinion}.0` }),
          { driver: 'nvme', serial: 'theirs', drive: 'theirs', addr: `${SLOTS.qemu}.0` },
        ],
        args: ['-drive', `file=${theirs},if=none,id=theirs,format=raw`],
      },
    });
    ends.defer(() => guest.close());
    print(await measure(guest));
  } finally {
    await ends.run();
  }
}

await main();
