/** What a guest does with a disk, and how this side knows that it was right. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { findQemuKit, type LinuxGuest } from '@pinion/vm';

export const MIB = 1 << 20;
/** Bytes that a round trip moves, and of an image: room for the original, the copy, and a file system. */
export const TRIP = 64 * MIB;
export const IMAGE_SIZE = 160 * MIB;
const PAGE = 4096;
const READS = 1000;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A file of `IMAGE_SIZE` bytes, random up to `TRIP`, holes behind that. */
export function makeImage(path: string): void {
  const fd = openSync(path, 'w');
  try {
    writeSync(fd, randomBytes(TRIP));
    ftruncateSync(fd, IMAGE_SIZE);
  } finally {
    closeSync(fd);
  }
}

function readImage(path: string, offset: number, length: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(length);
    assert.equal(readSync(fd, bytes, 0, length, offset), length);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** The disk in a slot of bus 0: names go by which of several disks is ready first. Waits for it, ten seconds at most. */
export const diskIn = (guest: LinuxGuest, slot: number): Promise<string> =>
  diskBehind(guest, `0000:00:${hexDigits(slot)}.0`);

/** The disk whose way through the buses has a function, as `0000:00:04.0`. Waits as `diskIn`. */
export const diskBehind = (guest: LinuxGuest, pci: string): Promise<string> =>
  guest.sh(`
    for i in $(seq 200); do
      for block in $(ls /sys/block | grep nvme); do
        readlink /sys/block/$block | grep -q /${pci}/ && echo /dev/$block && exit 0
      done
      usleep 50000
    done
    dmesg | tail
    exit 1`);

const hexDigits = (value: number): string => value.toString(16).padStart(2, '0');

/** The digest of the first `length` bytes of an image, as sha256sum prints it. */
export const digestOf = (path: string, length: number): string => sha256(readImage(path, 0, length));

/** The guest copies the first 64 MiB behind themselves, past its page cache, and reads the copy: three ways to the same digest. */
export async function roundTrip(guest: LinuxGuest, disk: string, image: string): Promise<void> {
  const blocks = TRIP / MIB;
  await guest.sh(`dd if=${disk} of=${disk} bs=1M count=${blocks} seek=${blocks} iflag=direct oflag=direct conv=fsync`);
  const seen = await guest.sh(
    `dd if=${disk} bs=1M count=${blocks} skip=${blocks} iflag=direct 2>/dev/null | sha256sum`,
  );
  const original = sha256(readImage(image, 0, TRIP));
  assert.equal(seen.split(' ')[0], original, 'what the guest reads back');
  assert.equal(sha256(readImage(image, TRIP, TRIP)), original, 'what is in the image');
}

/** 1000 direct reads of 4 KiB at random places, compared with the image outside. */
export async function randomReads(guest: LinuxGuest, disk: string, image: string): Promise<void> {
  const places = Array.from({ length: READS }, () => randomInt(TRIP / PAGE));
  const code = `for at in ${places.join(' ')}; do dd if=${disk} bs=${PAGE} skip=$at count=1 iflag=direct 2>/dev/null; done | sha256sum`;
  const seen = await guest.sh(code);
  const all = createHash('sha256');
  for (const at of places) all.update(readImage(image, at * PAGE, PAGE));
  assert.equal(seen.split(' ')[0], all.digest('hex'));
}

/** Makes a file system, writes files, reads them after another mount; its structure is checked by the guest and, from the image, by the host. */
export async function ext4(guest: LinuxGuest, disk: string, image: string): Promise<void> {
  await guest.sh(`mkfs.ext4 -q -F ${disk} && mount -t ext4 ${disk} /mnt`);
  await guest.sh(
    'mkdir /mnt/deep && cp -r /usr /mnt/deep && seq 1 50000 >/mnt/deep/numbers && ln -s deep/numbers /mnt/link',
  );
  const list = 'cd /mnt && find . -type f | sort | xargs sha256sum | sha256sum';
  const before = await guest.sh(list);
  await guest.sh('cd / && umount /mnt');
  await guest.sh(`echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 ${disk} /mnt`);
  assert.equal(await guest.sh(list), before);
  assert.equal(await guest.sh('tail -n 1 /mnt/link'), '50000');
  await guest.sh(`cd / && umount /mnt && e2fsck -f -n ${disk}`);
  const { status, stdout } = checkOutside(image);
  assert.equal(status, 0, String(stdout));
}

/** e2fsck of the kit, started through its own loader, on an image of this side. */
function checkOutside(image: string): ReturnType<typeof spawnSync> {
  const { programs } = findQemuKit();
  const libraries = join(programs, 'usr/lib/x86_64-linux-gnu');
  const loader = join(libraries, 'ld-linux-x86-64.so.2');
  return spawnSync(loader, [
    '--inhibit-cache',
    '--library-path',
    libraries,
    join(programs, 'usr/sbin/e2fsck'),
    '-f',
    '-n',
    image,
  ]);
}

/** Starts endless direct copying of the guest's in the background, and waits until some of it has come back: it ends with the disk or the guest. */
export async function startIo(guest: LinuxGuest, disk: string): Promise<void> {
  const quarters = TRIP / MIB;
  const copy = `dd if=${disk} of=${disk} bs=256k count=${quarters} seek=${quarters} iflag=direct oflag=direct`;
  const done = `$(cut -c1-100 /sys/block/${disk.replace('/dev/', '')}/stat | awk '{ print $5 }')`; // writes completed
  await guest.sh(`
    rm -f /tmp/io-ended; before=${done}
    (while ${copy}; do :; done; echo >/tmp/io-ended) >/dev/null 2>/tmp/io-errors &
    until [ ${done} -gt $((before + 4)) ]; do usleep 5000; done`);
}
