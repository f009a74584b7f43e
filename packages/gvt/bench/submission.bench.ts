/** Submissions, commands and the audit. Pins cost nothing here; with PINION_BENCH_JSON the rows also go to that file. */
import { appendFileSync } from 'node:fs';
import { type Clock, silentLog } from '@pinion/core';
import {
  createGvtDriver,
  ENGINES,
  type Engine,
  G2V,
  GTT_OFFSET,
  MODE,
  miBatchBufferEnd,
  miBatchBufferStart,
  miUserInterrupt,
  PVINFO,
  REGION,
  RING,
} from '@pinion/gvt';
import { freePins, unused } from './free-pins.js';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);
const PAGE = 4096;
/** Guest frames: image, ring, status page, four levels of tables, pages of the own address space, a long batch of the global one. */
const FRAME = { IMAGE: 0, RING: 2, STATUS: 3, TABLES: 4, OWN: 8, BATCH: 264 } as const;
const OWN_PAGES = 256;
const BATCH_PAGES = 1000;
const PAGES = FRAME.BATCH + BATCH_PAGES + 1;
const JOBS = 5000;

interface Row {
  readonly case: string;
  readonly operation: string;
  readonly value: number;
  readonly unit: string;
}

/** A guest with one context on an engine. */
class Guest {
  readonly #words: Uint32Array;
  readonly #queue: (() => void)[] = [];
  readonly #write: (offset: number, words: readonly number[]) => void;
  readonly #engine: Engine;
  readonly base: number;
  #tail = 0;

  constructor(name: string) {
    const memory = new Uint8Array(PAGES * PAGE);
    this.#words = new Uint32Array(memory.buffer);
    this.#engine = ENGINES.find((engine) => engine.name === name) ?? unused();
    const after = (_delay: number, action: () => void) => {
      this.#queue.push(action);
      return () => {};
    };
    const clock: Clock = { now: () => 0, after };
    const dma = {
      read: (gpa: bigint, into: Uint8Array) => into.set(memory.subarray(Number(gpa), Number(gpa) + into.length)),
      write: unused,
    };
    const driver = createGvtDriver();
    driver.create({ name: 'bench', type: 'V5_8', parent: 'gpu', dma, clock, log: silentLog, pins: freePins(memory) });
    const device = driver.device('bench') ?? unused();
    device.open();
    device.readRegion(REGION.BAR0, PVINFO.MAGIC_LOW, new Uint8Array(4));
    this.base = device.resources.low.base;
    this.#write = (offset, words) =>
      device.writeRegion(REGION.BAR0, offset, new Uint8Array(Uint32Array.from(words).buffer));
    for (let page = 0; page < PAGES; page++)
      this.#write(GTT_OFFSET + (this.base / PAGE + page) * 8, [(page * PAGE) | 3, 0]);
    this.#buildTables();
    this.#put(FRAME.IMAGE + 1, 9, [this.at(FRAME.RING)]);
    this.#put(FRAME.IMAGE + 1, 51, [FRAME.TABLES * PAGE]);
    this.#write(PVINFO.PDP, [FRAME.TABLES * PAGE, 0]);
    this.#write(PVINFO.G2V_NOTIFY, [G2V.L4_CREATE]);
    this.#write(this.#engine.base + RING.HWS_PGA, [this.at(FRAME.STATUS)]);
    this.#write(this.#engine.base + RING.MODE, [(MODE.EXECLIST << 16) | MODE.EXECLIST]);
  }

  at(frame: number): number {
    return this.base + frame * PAGE;
  }

  #put(frame: number, dword: number, values: readonly number[]): void {
    this.#words.set(values, (frame * PAGE) / 4 + dword);
  }

  #buildTables(): void {
    for (let level = 0; level < 3; level++)
      this.#put(FRAME.TABLES + level, 0, [((FRAME.TABLES + level + 1) * PAGE) | 3]);
    for (let page = 0; page < OWN_PAGES; page++)
      this.#put(FRAME.TABLES + 3, page * 2, [((FRAME.OWN + page) * PAGE) | 3]);
  }

  /** Puts a batch into the own address space, or the global one. */
  batch(frame: number, dwords: readonly number[]): void {
    this.#words.set(dwords, (frame * PAGE) / 4);
  }

  /** One submission, from the ring's commands to the last interrupt. */
  submit(commands: readonly number[]): void {
    const dwords = commands.length % 2 === 0 ? commands : [...commands, 0];
    if (this.#tail + dwords.length * 4 >= PAGE) this.#rewind();
    this.#put(FRAME.RING, this.#tail / 4, dwords);
    this.#tail += dwords.length * 4;
    this.#start();
  }

  #rewind(): void {
    this.#put(FRAME.IMAGE + 1, 5, [0]);
    this.#tail = 0;
  }

  #start(): void {
    this.#put(FRAME.IMAGE + 1, 7, [this.#tail]);
    for (const value of [0, 0, 1, this.at(FRAME.IMAGE) | 0x119]) this.#write(this.#engine.base + RING.ELSP, [value]);
    for (let action = this.#queue.shift(); action; action = this.#queue.shift()) action();
    if (this.#words[(FRAME.IMAGE + 1) * 1024 + 5] !== this.#tail) unused();
  }
}

function seconds(run: () => void): number {
  const times = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    run();
    return (performance.now() - start) / 1e3;
  });
  return times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
}

/** `count` things in a run of these commands. */
function rate(guest: Guest, commands: readonly number[], count: number): number {
  guest.submit(commands);
  return count / seconds(() => guest.submit(commands));
}

function measure(): Row[] {
  const guest = new Guest('bcs');
  const start = miBatchBufferStart(0x0);
  const own = [(start[0] ?? 0) | 0x100, 0, 0];
  const all = () => {
    for (let job = 0; job < JOBS; job++) guest.submit([...own, ...miUserInterrupt()]);
  };
  guest.batch(FRAME.OWN, miBatchBufferEnd());
  all();
  const submissions = JOBS / seconds(all);
  const stores = 50_000;
  guest.batch(FRAME.OWN, [
    ...Array.from({ length: stores }, () => [0x10000002, 0xf0000, 0, 1]).flat(),
    ...miBatchBufferEnd(),
  ]);
  const commands = rate(guest, own, stores);
  const dwords = (BATCH_PAGES * PAGE) / 4;
  guest.batch(FRAME.BATCH, [...new Array<number>(dwords - 1).fill(0), ...miBatchBufferEnd()]);
  const audited = rate(guest, miBatchBufferStart(guest.at(FRAME.BATCH)), (dwords * 4) / 1e6);
  return [
    { case: 'one context', operation: 'submissions', value: submissions, unit: '/s' },
    { case: 'batch of own memory', operation: 'stores', value: commands, unit: '/s' },
    { case: 'global batch of no-operations', operation: 'audit and run', value: audited, unit: 'MB/s' },
  ];
}

function print(rows: readonly Row[]): void {
  for (const { case: name, operation, value, unit } of rows)
    process.stdout.write(`gvt  ${name.padEnd(30)} ${operation.padEnd(24)} ${value.toFixed(0).padStart(9)} ${unit}\n`);
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'gvt-submission', rows })}\n`);
}

print(measure());
