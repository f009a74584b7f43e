/**
 * 1 GiB from and to an FBA image through channel programs (512 KiB each: 16 data-chained CCWs with 8-page lists), sequential
 * and random, next to plain reads and writes of the same file in the same pieces; and next to a plain copy of 1 GiB from file to
 * file (read and write by turns). The guest is a flat array without a mediator.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
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

/** Moves 1 GiB in chunks, in this order. @returns seconds. */
type Order = (index: number) => number;
type Work = (order: Order) => Promise<number>;

/** Writes the program once; only the block changes afterwards. */
function prepare({ guest }: Subchannel, write: boolean): void {
  const permission = write ? FBA_PERMISSION.UPDATE : FBA_PERMISSION.READ_ONLY;
  guest.poke(AT.parameters, encodeExtent({ permission, blockSize: 512, locator: 0, begin: 0, end: BLOCKS - 1 }));
  const ccws: Ccw[] = [
    { command: FBA_COMMAND.DEFINE_EXTENT, flags: CCW_FLAG.CHAIN_COMMAND, count: 16, address: AT.parameters },
    { command: FBA_COMMAND.LOCATE, flags: CCW_FLAG.CHAIN_COMMAND, count: 8, address: AT.parameters + 16 },
  ];
  const command = write ? FBA_COMMAND.WRITE : FBA_COMMAND.READ;
  for (let at = 0; at < CHUNK; at += CCW_DATA) {
    const flags = at + CCW_DATA < CHUNK ? CCW_FLAG.CHAIN_DATA : 0;
    ccws.push({ command, flags, count: CCW_DATA, address: AT.data + at });
  }
  for (const [index, ccw] of ccws.entries()) guest.poke(AT.ccws + index * 8, encodeCcw(ccw));
}

const programs =
  (subchannel: Subchannel, write: boolean): Work =>
  async (order) => {
    const { guest, device } = subchannel;
    prepare(subchannel, write);
    const operation = write ? FBA_OPERATION.WRITE : FBA_OPERATION.READ;
    const began = performance.now();
    for (let index = 0; index < CHUNKS; index += 1) {
      const block = (order(index) * CHUNK) / 512;
      guest.poke(AT.parameters + 16, encodeLocate({ operation, count: CHUNK / 512, block }));
      device.start(commandOrb(AT.ccws));
      await device.whenIdle();
      if (device.irb.deviceStatus !== 0x0c) throw new TypeError(`status ${device.irb.deviceStatus}`);
    }
    return (performance.now() - began) / 1000;
  };

/** The same pieces without a channel: what `move` does with a file, a buffer and a position. */
const plain =
  (path: string, move: (file: FileHandle, bytes: Uint8Array, position: number) => Promise<unknown>): Work =>
  async (order) => {
    const file = await open(path, 'r+');
    const bytes = new Uint8Array(CHUNK).fill(0x5a);
    const began = performance.now();
    for (let index = 0; index < CHUNKS; index += 1) await move(file, bytes, order(index) * CHUNK);
    const seconds = (performance.now() - began) / 1000;
    await file.close();
    return seconds;
  };

const read = (file: FileHandle, bytes: Uint8Array, at: number) => file.read(bytes, 0, CHUNK, at);
const write = (file: FileHandle, bytes: Uint8Array, at: number) => file.write(bytes, 0, CHUNK, at);

async function fill(path: string): Promise<void> {
  const file = await open(path, 'w');
  const piece = new Uint8Array(CHUNK).fill(0x5a);
  for (let at = 0; at < SIZE; at += CHUNK) await file.write(piece, 0, CHUNK, at);
  await file.close();
}

const megabytes = (seconds: number): string => Math.round(TOTAL / 2 ** 20 / seconds).toLocaleString('en');

const folder = mkdtempSync(join(tmpdir(), 'pinion-ccw-'));
try {
  const path = join(folder, 'image');
  const target = join(folder, 'copy');
  await fill(path);
  await fill(target);
  const image = await openFileImage(path);
  const subchannel = openSubchannel(new FbaDisk(image), {}, new FakeGuest(0x10000, 16 + PAGES));
  for (const [direction, through, direct] of [
    ['read', programs(subchannel, false), plain(path, read)],
    ['write', programs(subchannel, true), plain(path, write)],
  ] as const)
    for (const [name, order] of [
      ['sequential', sequential],
      ['random', random],
    ] as const) {
      await direct(order);
      const [programmed, straight] = [await through(order), await direct(order)];
      const rate = (count: number): string => Math.round(count / programmed).toLocaleString('en');
      process.stdout.write(
        `${`${direction} ${name}`.padEnd(17)} ${megabytes(programmed)} MB/s, ${rate(CHUNKS * CCWS)} CCWs/s, ${rate(CHUNKS * PAGES)} pins/s; ` +
          `plain ${direction} ${megabytes(straight)} MB/s (${(programmed / straight).toFixed(2)} x)\n`,
      );
    }
  const to = await open(target, 'r+');
  const copied = await plain(path, async (from, bytes, at) => {
    await read(from, bytes, at);
    await write(to, bytes, at);
  })(sequential);
  await to.close();
  process.stdout.write(`${'plain copy'.padEnd(17)} ${megabytes(copied)} MB/s\n`);
  await image.close();
} finally {
  rmSync(folder, { recursive: true });
}
