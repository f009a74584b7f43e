import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ECKD_COMMAND as CMD, EckdDisk, ECKD_OPERATION as OP, openFileImage, openHerculesVolume } from '@pinion/ccw';
import { extent, locate, runSteps } from './eckd-volume.js';
import { FakeGuest } from './fake-guest.js';
import { openSubchannel } from './subchannel.js';

const CYLINDERS = 20;
const LINE = 80;
const BLOCK = 800;
/** Where the tool puts the dataset: behind label and VTOC. */
const DATASET = { cylinder: 2, head: 0 };
const CONTROL = `VOL001 3390 ${CYLINDERS}
SYS1.VTOC VTOC CYL 1
PINION.DATA SEQ lines.txt CYL 1 0 0 PS FB ${LINE} ${BLOCK} 0
`;

function hasTools(): boolean {
  try {
    for (const tool of ['dasdload', 'dasdls', 'dasdseq']) execFileSync('which', [tool], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const skip = hasTools() ? false : 'Hercules’ tools (Debian package hercules) are not installed';

/** EBCDIC of capital letters, digits and blank: all that the lines here use. */
function toEbcdic(line: string): Uint8Array {
  return Uint8Array.from(line, (character) => {
    const at = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'.indexOf(character);
    if (character === ' ') return 0x40;
    if (at < 0) return 0xf0 + Number(character);
    return (at < 9 ? 0xc1 : at < 18 ? 0xd1 - 9 : 0xe2 - 18) + at;
  });
}

const line = (what: string, index: number): string => `${what} ${index}`.padEnd(LINE);
const lines = (what: string): string => Array.from({ length: 30 }, (_, index) => line(what, index)).join('');

test('what Hercules wrote our guest reads; what our guest wrote Hercules lists and reads', { skip }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-ccw-'));
  const tool = (name: string, ...args: string[]): string =>
    execFileSync(name, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    writeFileSync(join(folder, 'lines.txt'), toEbcdic(lines('HOST')));
    writeFileSync(join(folder, 'control'), CONTROL);
    tool('dasdload', 'control', 'volume');
    const image = await openFileImage(join(folder, 'volume'));
    const disk = new EckdDisk(await openHerculesVolume(image));
    const { guest, device } = openSubchannel(disk, {}, new FakeGuest(0x10000, 512));
    const read = await runSteps(guest, device, [
      extent(CYLINDERS),
      locate({ operation: OP.READ, count: 3, record: 1, seek: DATASET }),
      ...[2, 3, 4].map(() => [CMD.READ_DATA, BLOCK] as const),
    ]);
    assert.equal(read.irb.deviceStatus, 0x0c);
    const stored = Buffer.concat(read.reads.slice(2));
    assert.ok(stored.equals(toEbcdic(lines('HOST'))));
    const written = toEbcdic(lines('GUEST'));
    const { irb } = await runSteps(guest, device, [
      extent(CYLINDERS),
      locate({ operation: OP.WRITE, count: 3, record: 1, seek: DATASET }),
      ...[0, 1, 2].map((at) => [CMD.WRITE_DATA, written.slice(at * BLOCK, (at + 1) * BLOCK)] as const),
    ]);
    assert.deepEqual([irb.deviceStatus, guest.pinned], [0x0c, 0]);
    await image.close();
    assert.match(tool('dasdls', 'volume'), /PINION\.DATA/);
    tool('dasdseq', 'volume', 'PINION.DATA', 'ascii');
    const extracted = readFileSync(join(folder, 'PINION.DATA'), 'latin1').replaceAll('\n', '');
    assert.equal(extracted.replaceAll(' ', ''), lines('GUEST').replaceAll(' ', ''));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
