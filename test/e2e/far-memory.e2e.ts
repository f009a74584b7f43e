// A guest whose memory is shared with nobody: everything that its disk reads and writes there goes by messages.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FileStore, nvme } from '@pinion/example-nvme';
import { LinuxGuest, vfioUserDevice } from '@pinion/vm';
import { DeviceHouse } from './device-house.js';
import { diskIn, ext4, makeImage, randomReads, roundTrip } from './disk-checks.js';
import { temporaryFolder } from './disks.js';
import { timed } from './stopwatch.js';

const SLOT = 5;

test('a disk of a VM that shares no memory', async (t) => {
  const image = `${temporaryFolder(t)}/disk.img`;
  makeImage(image);
  const plugin = nvme({ store: () => new FileStore(image) });
  const house = await DeviceHouse.open(t, [{ name: 'disk', plugin, driver: 'nvme', type: 'disk' }]);
  const guest = await timed(t, 'boot', () =>
    LinuxGuest.boot({
      name: 'far',
      contents: { modules: ['nvme', 'ext4'], programs: true },
      machine: { memory: 512, shared: false, devices: [vfioUserDevice(house.path('disk'), { addr: `${SLOT}.0` })] },
    }),
  );
  t.after(() => guest.close());
  const disk = await diskIn(guest, SLOT);

  await t.test('64 MiB there and back', (inner) =>
    timed(inner, 'dd and sha256sum', () => roundTrip(guest, disk, image)),
  );
  await t.test('1 000 random reads are what the image has', () => randomReads(guest, disk, image));
  await t.test('an ext4 file system holds its files, seen from inside and outside', () => ext4(guest, disk, image));

  await t.test('and not one page was pinned', async () => {
    const { pinnedPages, lockedPages, mappings } = house.holdings('disk');
    assert.deepEqual([pinnedPages, lockedPages, mappings > 0], [0, 0, true]);
    assert.doesNotMatch(await guest.sh('dmesg'), /nvme.*(?:timeout|error|fail)|BUG:|Call Trace/i);
  });
});
