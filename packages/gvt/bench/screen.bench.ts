/** The screen: looking at it, sending it on live, exporting it. Pins cost nothing here; with PINION_BENCH_JSON the rows also go to that file. */
import { appendFileSync } from 'node:fs';
import { type Clock, silentLog } from '@pinion/core';
import {
  createGvtDriver,
  DISPLAY,
  FRAME_PERIOD,
  GTT_OFFSET,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PLANE_TILING,
  REGION,
} from '@pinion/gvt';
import { freePins, unused } from './free-pins.js';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);
const SCREEN = { width: 1920, height: 1200 };
const BYTES = SCREEN.width * SCREEN.height * 4;
/** With the rows that a Y tile has below the last one. */
const PAGES = (SCREEN.width * 4 * Math.ceil(SCREEN.height / 32) * 32) / 4096;

/** One line of the table; `yardstick` is a plain copy of as many bytes, in the same run. */
interface Row {
  readonly case: string;
  readonly operation: string;
  readonly value: number;
  readonly unit: 'ms';
  readonly yardstick: number;
}

const milliseconds = (run: () => void): number => {
  const start = performance.now();
  run();
  return performance.now() - start;
};

const median = (rounds: number, run: () => void): number =>
  Array.from({ length: rounds }, () => milliseconds(run)).sort((a, b) => a - b)[rounds >> 1] ?? Number.NaN;

/** A clock whose only timer is the next vertical blank. */
class StepClock implements Clock {
  #now = 0;
  #due: (() => void) | undefined;

  now(): number {
    return this.#now;
  }

  after(_delay: number, action: () => void): () => void {
    this.#due = action;
    return () => {
      this.#due = undefined;
    };
  }

  step(): void {
    this.#now += FRAME_PERIOD;
    this.#due?.();
  }
}

/** A vGPU that shows memory from its beginning, tiled as asked for: 0 linear, else X or Y. */
function show(tiling: number) {
  const memory = new Uint8Array(PAGES * 4096);
  const clock = new StepClock();
  const driver = createGvtDriver();
  const dma = { read: unused, write: unused };
  driver.create({ name: 'bench', type: 'V5_4', parent: 'gpu', dma, clock, log: silentLog, pins: freePins(memory) });
  const device = driver.device('bench') ?? unused();
  device.open();
  const { base } = device.resources.low;
  const write = (offset: number, ...words: readonly number[]) =>
    device.writeRegion(REGION.BAR0, offset, new Uint8Array(Uint32Array.from(words).buffer));
  for (let page = 0; page < PAGES; page++) write(GTT_OFFSET + (base / 4096 + page) * 8, (page << 12) | 3, 0);
  const unit = tiling === 0 ? 64 : tiling === PLANE_TILING.X ? 512 : 128;
  write(DISPLAY.PIPESRC, ((SCREEN.width - 1) << 16) | (SCREEN.height - 1));
  write(DISPLAY.PLANE_STRIDE, (SCREEN.width * 4) / unit);
  write(DISPLAY.PLANE_CTL, PLANE_ENABLE | PLANE_FORMAT.XRGB8888 | tiling);
  write(DISPLAY.PLANE_SURF, base);
  write(DISPLAY.TRANSCONF, PIPE_ENABLE);
  return { device, memory, clock };
}

async function benchScreen(name: string, tiling: number): Promise<Row[]> {
  const { device, memory, clock } = show(tiling);
  const copy = new Uint8Array(memory.length);
  const yardstick = median(ROUNDS * 3, () => copy.set(memory));
  const row = (operation: string, value: number): Row => ({ case: name, operation, value, unit: 'ms', yardstick });
  const picture = median(ROUNDS * 3, () => void device.frame());
  const stream = device.frames();
  await stream.next();
  const still = median(ROUNDS * 3, () => clock.step());
  let shade = 0;
  const line = median(ROUNDS * 3, () => {
    shade += 1;
    memory.fill(shade, BYTES / 2, BYTES / 2 + 7680);
    clock.step();
  });
  const all = median(ROUNDS * 3, () => {
    shade += 1;
    memory.fill(shade);
    clock.step();
  });
  await stream.return?.();
  const exported = median(ROUNDS * 3, () => device.exportPlane()?.close());
  device.close();
  return [
    row('a picture', picture),
    row('live, nothing changed', still),
    row('live, one line changed', line),
    row('live, all changed', all),
    row('export and close', exported),
  ];
}

function print(rows: readonly Row[]): void {
  for (const { case: name, operation, value, unit, yardstick } of rows) {
    process.stdout.write(
      `gvt  ${name.padEnd(22)} ${operation.padEnd(24)} ${value.toFixed(2).padStart(8)} ${unit}  plain copy ${yardstick.toFixed(2)} ${unit}\n`,
    );
  }
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'gvt-screen', rows })}\n`);
}

print(await benchScreen('1920x1200x32 linear', PLANE_TILING.LINEAR));
print(await benchScreen('1920x1200x32 X tiles', PLANE_TILING.X));
print(await benchScreen('1920x1200x32 Y tiles', PLANE_TILING.Y));
