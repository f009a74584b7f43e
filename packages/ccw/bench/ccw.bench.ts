/**
 * 1 GiB from an FBA image through channel programs (512 KiB each: 16 data-chained CCWs with 8-page lists), sequential and
 * random, next to a plain read of the same file in the same pieces. The guest is a flat array without a mediator.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import {
  CCW_FLAG,
  type Ccw,
  commandOrb,
  encodeCcw,
  encodeExtent,
  encodeLocate,
  FBA_COMMAND,
  FBA_OPERATION,
  FBA_PERMISSION,
  FbaDisk,
  openFileImage,
} from '@pinion/ccw';
import { FakeGuest } from '../test/fake-guest.js';
import { AT, openSubchannel, type Subchannel } from '../test/subchannel.js';

const SIZE = 1 << 28;
const TOTAL = 2 ** 30;
const CHUNK = 512 * 1024;
const CCW_DATA = 32 * 1024;
const CHUNKS = TOTAL / CHUNK;
const PLACES = SIZE / CHUNK;
const BLOCKS = SIZE / 512;
const PAGES = CHUNK / 4096;
const CCWS = 2 + CHUNK / CCW_DATA;

/** Chunk `index` of the image: one after the other, or everywhere. */
const sequential = (index: number): number => index % PLACES;
const random = (index: number): number => (index * 2_654_435_761) % PLACES;

/** Writes the program once; only the block changes afterwards. */
function prepare({ guest }: Subchannel): void {
  const extent = { permission: FBA_PERMISSION.READ_ONLY, blockSize: 512, locator: 0, begin: 0, end: BLOCKS - 1 };
  guest.poke(AT.parameters, encodeExtent(extent));
  const ccws: Ccw[] = [
    { command: FBA_COMMAND.DEFINE_EXTENT, flags: CCW_FLAG.CHAIN_COMMAND, count: 16, address: AT.parameters },
    { command: FBA_COMMAND.LOCATE, flags: CCW_FLAG.CHAIN_COMMAND, count: 8, address: AT.parameters + 16 },
  ];
  for (let at = 0; at < CHUNK; at += CCW_DATA) {
    const flags = at + CCW_DATA < CHUNK ? CCW_FLAG.CHAIN_DATA : 0;
    ccws.push({ command: FBA_COMMAND.READ, flags, count: CCW_DATA, address: AT.data + at });
  }
  for (const [index, ccw] of ccws.entries()) guest.poke(AT.ccws + index * 8, encodeCcw(ccw));
}

async function programs(subchannel: Subchannel, order: (index: number) => number): Promise<number> {
  const { guest, device } = subchannel;
  const began = performance.now();
  for (let index = 0; index < CHUNKS; index += 1) {
    const locate = { operation: FBA_OPERATION.READ, count: CHUNK / 512, block: (order(index) * CHUNK) / 512 };
    guest.poke(AT.parameters + 16, encodeLocate(locate));
    device.start(commandOrb(AT.ccws));
    await device.whenIdle();
    if (device.irb.deviceStatus !== 0x0c) throw new TypeError(`status ${device.irb.deviceStatus}`);
  }
  return (performance.now() - began) / 1000;
}

async function plain(path: string, order: (index: number) => number): Promise<number> {
  const file = await open(path, 'r');
  const bytes = new Uint8Array(CHUNK);
  const began = performance.now();
  for (let index = 0; index < CHUNKS; index += 1) await file.read(bytes, 0, CHUNK, order(index) * CHUNK);
  const seconds = (performance.now() - began) / 1000;
  await file.close();
  return seconds;
}

const folder = mkdtempSync(join(tmpdir(), 'pinion-ccw-'));
try {
  const path = join(folder, 'image');
  const made = await open(path, 'w');
  const piece = new Uint8Array(CHUNK).fill(0x5a);
  for (let at = 0; at < SIZE; at += CHUNK) await made.write(piece, 0, CHUNK, at);
  await made.close();
  const image = await openFileImage(path, { readOnly: true });
  const subchannel = openSubchannel(new FbaDisk(image), {}, new FakeGuest(0x10000, 16 + PAGES));
  prepare(subchannel);
  for (const [name, order] of [
    ['sequential', sequential],
    ['random', random],
  ] as const) {
    const through = await programs(subchannel, order);
    const direct = await plain(path, order);
    const rate = (count: number): string => Math.round(count / through).toLocaleString('en');
    process.stdout.write(
      `${name.padEnd(12)} ${rate(TOTAL / 2 ** 20)} MB/s, ${rate(CHUNKS * CCWS)} CCWs/s, ${rate(CHUNKS * PAGES)} pins/s; ` +
        `plain read ${Math.round(TOTAL / 2 ** 20 / direct).toLocaleString('en')} MB/s (${(through / direct).toFixed(2)} x)\n`,
    );
  }
  await image.close();
} finally {
  rmSync(folder, { recursive: true });
}
