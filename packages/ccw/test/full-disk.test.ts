import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  ECKD_COMMAND as CMD,
  commandOrb,
  EckdDisk,
  FbaDisk,
  ECKD_OPERATION as OP,
  openFileImage,
  openSparseVolume,
} from '@pinion/ccw';
import { ckd, extent, locate, runSteps, type Step } from './eckd-volume.js';
import { FakeGuest } from './fake-guest.js';
import { AT, fbaProgram, openSubchannel } from './subchannel.js';

const FILE_SYSTEM = 256 * 1024;
const SPARSE_CYLINDER = 15 * 65_536;

/** A file system of 256 KiB, or undefined where this user may not mount one. */
function smallFileSystem(): { path: string; remove: () => void } | undefined {
  const path = mkdtempSync(join(tmpdir(), 'pinion-full-'));
  const run = (...args: string[]): void => void execFileSync(args[0] ?? '', args.slice(1), { stdio: 'ignore' });
  try {
    run('mount', '-t', 'tmpfs', '-o', `size=${FILE_SYSTEM}`, 'pinion', path);
  } catch {
    rmdirSync(path);
    return undefined;
  }
  return {
    path,
    remove: () => {
      run('umount', path);
      rmdirSync(path);
    },
  };
}

const probe = smallFileSystem();
probe?.remove();
const skip = probe === undefined ? 'only who may mount a tmpfs can fill a real file system' : false;

/** An image of `size` bytes that is all holes, so that its writes need room. */
async function onFullDisk(size: number, work: (path: string) => Promise<void>): Promise<void> {
  const files = smallFileSystem();
  assert.ok(files);
  try {
    const path = join(files.path, 'image');
    writeFileSync(path, '');
    truncateSync(path, size);
    await work(path);
  } finally {
    files.remove();
  }
}

test('an FBA disk on a full file system: equipment check, and what was written before is there', { skip }, () =>
  onFullDisk(1024 * 1024, async (path) => {
    const image = await openFileImage(path);
    const { guest, device } = openSubchannel(new FbaDisk(image));
    const run = async (write: boolean, block: number): Promise<number | undefined> => {
      fbaProgram(guest, { write, block, count: 64, data: AT.data });
      device.start(commandOrb(AT.ccws));
      await device.whenIdle();
      return device.irb.sense === undefined ? 0 : (device.irb.sense[0] ?? 0) * 256 + (device.irb.sense[1] ?? 0);
    };
    const senses: (number | undefined)[] = [];
    for (let turn = 0; turn < 12; turn += 1) {
      guest.poke(AT.data, new Uint8Array(64 * 512).fill(turn + 1));
      senses.push(await run(true, turn * 64));
    }
    const failed = senses.indexOf(0x1080);
    assert.ok(failed > 0 && failed < 12, `a write failed: ${senses.join(' ')}`);
    for (let done = 0; done < failed; done += 1) {
      assert.equal(await run(false, done * 64), 0);
      assert.ok(guest.peek(AT.data, 64 * 512).every((byte) => byte === done + 1));
    }
    await device.close();
    await image.close();
    assert.equal(guest.pinned, 0);
  }),
);

test('a 3390 on a full file system: equipment check; every track is as it was or as it was written', { skip }, () =>
  onFullDisk(SPARSE_CYLINDER, async (path) => {
    const image = await openFileImage(path);
    const { guest, device } = openSubchannel(new EckdDisk(openSparseVolume(image)), {}, new FakeGuest(0x10000, 512));
    const write = (head: number): readonly Step[] => [
      extent(1),
      locate({ operation: OP.FORMAT, count: 1, record: 0, seek: { cylinder: 0, head } }),
      [CMD.WRITE_CKD, ckd({ cylinder: 0, head, number: 1, data: new Uint8Array(30_000).fill(head + 1) })],
    ];
    let failed = -1;
    for (let head = 0; head < 15 && failed < 0; head += 1) {
      const { irb } = await runSteps(guest, device, write(head));
      if (irb.sense !== undefined) {
        assert.deepEqual([irb.sense[0], irb.sense[1]], [0x10, 0x80]);
        failed = head;
      }
    }
    assert.ok(failed > 0, 'the file system was full in time');
    for (let head = 0; head < failed; head += 1) {
      const { irb, reads } = await runSteps(guest, device, [
        extent(1),
        locate({ operation: OP.READ, count: 1, record: 1, seek: { cylinder: 0, head } }),
        [CMD.READ_DATA, 30_000],
      ]);
      assert.equal(irb.deviceStatus, 0x0c);
      assert.ok(reads[2]?.every((byte) => byte === head + 1));
    }
    await device.close();
    await image.close();
    assert.equal(guest.pinned, 0);
  }),
);
