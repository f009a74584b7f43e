/** The tables: GGTT entries that are written, page tables that are shadowed, compared and walked. Pins cost nothing here. */
import { appendFileSync } from 'node:fs';
import { type Clock, type DmaApi, silentLog } from '@pinion/core';
import { createGvtDriver, FaultLog, GTT_OFFSET, KvmBackend, NO_QUIRKS, Ppgtt, REGION, RegisterFile } from '@pinion/gvt';
import { freePins, unused } from './free-pins.js';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);
const PAGE = 4096;
const ENTRIES = 512;

interface Row {
  readonly case: string;
  readonly operation: string;
  readonly value: number;
  readonly unit: 'ns' | 'us';
}

/** Nanoseconds of one of `count` runs; the middle of some rounds. */
function nanoseconds(count: number, run: (n: number) => void): number {
  const times = Array.from({ length: ROUNDS * 2 + 1 }, () => {
    const start = performance.now();
    for (let n = 0; n < count; n++) run(n);
    return ((performance.now() - start) * 1e6) / count;
  });
  return times.sort((a, b) => a - b)[ROUNDS] ?? Number.NaN;
}

const plainDma = (memory: Uint8Array): DmaApi => ({
  read: (gpa, into) => into.set(memory.subarray(Number(gpa), Number(gpa) + into.length)),
  write: (gpa, from) => memory.set(from, Number(gpa)),
});

/** Entries of the high slice, written through BAR0 as a guest does. */
function benchGgtt(): Row[] {
  const clock: Clock = { now: () => 0, after: () => () => {} };
  const driver = createGvtDriver();
  const memory = new Uint8Array(0);
  const context = { name: 'bench', type: 'V5_8', parent: 'gpu', dma: plainDma(memory), clock, log: silentLog };
  driver.create({ ...context, pins: freePins(memory) });
  const device = driver.device('bench') ?? unused();
  device.open();
  const first = GTT_OFFSET + (device.resources.high.base / PAGE) * 8;
  const entry = new BigUint64Array(1);
  const bytes = new Uint8Array(entry.buffer);
  const write = (n: number, gfn: number) => {
    entry[0] = BigInt(gfn) * 4096n + 3n;
    device.writeRegion(REGION.BAR0, first + n * 8, bytes);
  };
  const [low, high] = [bytes.subarray(0, 4), bytes.subarray(4)];
  const count = 16384;
  const name = `GGTT, ${count} entries`;
  const rows: Row[] = [
    { case: name, operation: 'another page', value: nanoseconds(count, (n) => write(n, n + 1)), unit: 'ns' },
    { case: name, operation: 'the same page', value: nanoseconds(count, (n) => write(n, n + 1)), unit: 'ns' },
    {
      case: name,
      operation: 'in two halves',
      value: nanoseconds(count, (n) => {
        entry[0] = BigInt(n) * 4096n + 3n;
        device.writeRegion(REGION.BAR0, first + n * 8, low);
        device.writeRegion(REGION.BAR0, first + n * 8 + 4, high);
      }),
      unit: 'ns',
    },
  ];
  device.close();
  return rows;
}

const TABLES = 64;
/** Guest frames: root 1, directories 2 and 3, page tables from 4 on, then the pages. */
const FIRST_PAGE = 4 + TABLES;

/** A guest whose page tables are all full. */
function startTables(pageTrack: boolean) {
  const memory = new Uint8Array((FIRST_PAGE + TABLES * ENTRIES) * PAGE);
  const words = new BigUint64Array(memory.buffer);
  const put = (table: number, index: number, gfn: number) => {
    words[table * ENTRIES + index] = BigInt(gfn) * 4096n + 3n;
  };
  put(1, 0, 2);
  put(2, 0, 3);
  for (let table = 0; table < TABLES; table++) {
    put(3, table, 4 + table);
    for (let index = 0; index < ENTRIES; index++) put(4 + table, index, FIRST_PAGE + table * ENTRIES + index);
  }
  const parts = { device: 'bench', pins: freePins(memory), dma: plainDma(memory), log: silentLog, quirks: NO_QUIRKS };
  const backend = new KvmBackend(parts);
  if (pageTrack) backend.setWriteTraps({ watchWrites: () => () => {} });
  backend.attach();
  const faults = new FaultLog(new RegisterFile());
  const no = () => false;
  const ppgtt = new Ppgtt({ backend, faults, log: silentLog, quirks: NO_QUIRKS, ipsEnabled: no, failsafe: no });
  return { ppgtt, root: { levels: 4, pdps: [PAGE] } as const };
}

function benchShadow(): Row[] {
  const { ppgtt, root } = startTables(true);
  const build = nanoseconds(3, () => ppgtt.release(ppgtt.acquire(root))) / 1e3 / (TABLES + 3);
  const mm = ppgtt.acquire(root);
  const entry = new Uint8Array(8);
  const view = new DataView(entry.buffer);
  const trap = nanoseconds(TABLES * ENTRIES, (n) => {
    view.setBigUint64(0, BigInt(FIRST_PAGE + ((n * 7) % (TABLES * ENTRIES))) * 4096n + 3n, true);
    ppgtt.guestWrite(BigInt(4 * PAGE + (n % (TABLES * ENTRIES)) * 8), entry);
  });
  mm.pin();
  const memory = mm.memory('bcs');
  let sum = 0;
  const bytes = TABLES * ENTRIES * PAGE;
  const near = nanoseconds(1 << 18, (n) => {
    sum += memory.readDword((n * 64) % bytes);
  });
  const far = nanoseconds(1 << 17, (n) => {
    sum += memory.readDword(((n * 7919) % (TABLES * ENTRIES)) * PAGE);
  });
  const translate = nanoseconds(1 << 17, (n) => {
    sum += mm.translate(((n * 7919) % (TABLES * ENTRIES)) * PAGE) ?? 0;
  });
  if (Number.isNaN(sum)) unused();
  mm.unpin();
  ppgtt.destroyAll();
  return [
    { case: 'shadow, per 512-entry table', operation: 'build and give back', value: build, unit: 'us' },
    { case: 'shadow', operation: 'trapped 8-byte write', value: trap, unit: 'ns' },
    { case: 'engine', operation: 'dword, page at hand', value: near, unit: 'ns' },
    { case: 'engine', operation: 'dword, page walked', value: far, unit: 'ns' },
    { case: 'translate', operation: '4 levels', value: translate, unit: 'ns' },
  ];
}

/** A hypervisor that traps nothing: every table is compared at every pin. */
function benchCompare(): Row {
  const { ppgtt, root } = startTables(false);
  const mm = ppgtt.acquire(root);
  const value = nanoseconds(50, () => {
    mm.pin();
    mm.unpin();
  });
  ppgtt.destroyAll();
  return {
    case: 'shadow, per 512-entry table',
    operation: 'compare, unchanged',
    value: value / 1e3 / (TABLES + 3),
    unit: 'us',
  };
}

const rows = [...benchGgtt(), ...benchShadow(), benchCompare()];
for (const { case: name, operation, value, unit } of rows) {
  const digits = unit === 'us' ? 2 : 0;
  process.stdout.write(
    `gvt  ${name.padEnd(30)} ${operation.padEnd(24)} ${value.toFixed(digits).padStart(8)} ${unit}\n`,
  );
}
const file = process.env['PINION_BENCH_JSON'];
if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'gvt-tables', rows })}\n`);
