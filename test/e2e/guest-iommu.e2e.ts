// The guest has an IOMMU and uses it strictly: each I/O maps its pages before and unmaps them after, through the mediator.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileStore, nvme } from '@pinion/example-nvme';
import { intelIommu, LinuxGuest, vfioUserDevice } from '@pinion/vm';
import { DeviceHouse } from './device-house.js';
import { digestOf, diskIn, ext4, MIB, makeImage, randomReads, roundTrip, startIo, TRIP } from './disk-checks.js';
import { temporaryFolder } from './disks.js';
import { timed } from './stopwatch.js';

const PAGE = 4096;
const SLOTS = { disk: 4, other: 5 } as const;

test('a disk behind the guest’s own IOMMU', async (t) => {
  const folder = temporaryFolder(t);
  const [image, other] = [join(folder, 'disk.img'), join(folder, 'other.img')];
  for (const path of [image, other]) makeImage(path);
  const images = [image, other];
  const plugin = nvme({ store: () => new FileStore(images.shift() ?? '') });
  // behind an IOMMU each device has an address space of its own, so each is in a container of its own
  const house = await DeviceHouse.open(t, [
    { name: 'disk', plugin, driver: 'nvme', type: 'disk', vm: 'disk' },
    { name: 'other', plugin, driver: 'nvme', type: 'disk', vm: 'other' },
  ]);
  const guest = await timed(t, 'boot', () =>
    LinuxGuest.boot({
      name: 'iommu',
      contents: { modules: ['nvme', 'ext4'], programs: true },
      machine: {
        memory: 512,
        devices: [
          intelIommu(),
          ...Object.entries(SLOTS).map(([name, slot]) => vfioUserDevice(house.path(name), { addr: `${slot}.0` })),
        ],
      },
      kernelArgs: ['intel_iommu=on', 'iommu.strict=1', 'iommu.passthrough=0'],
    }),
  );
  t.after(() => guest.close());
  const [disk, otherDisk] = [await diskIn(guest, SLOTS.disk), await diskIn(guest, SLOTS.other)];

  await t.test('Linux translates strictly', async () => {
    const log = await guest.sh('dmesg');
    assert.match(log, /DMAR: Intel\(R\) Virtualization Technology for Directed I\/O/);
    assert.match(log, /iommu: Default domain type: Translated/);
    assert.match(log, /DMA domain TLB invalidation policy: strict mode/);
    assert.match(
      await guest.sh(`readlink /sys/block/${disk.replace('/dev/', '')}/device/device/iommu_group`),
      /iommu_groups\/\d+$/,
    );
  });

  const idle = house.holdings('disk');

  await t.test('64 MiB there and back: every page of it is mapped and unmapped', async (sub) => {
    const { maps, unmaps } = house.counts;
    await timed(sub, 'dd and sha256sum', () => roundTrip(guest, disk, image));
    const [mapped, unmapped] = [house.counts.maps - maps, house.counts.unmaps - unmaps];
    sub.diagnostic(`${mapped} maps, ${unmapped} unmaps`);
    const pages = (3 * TRIP) / PAGE; // read, written, read again
    assert.ok(mapped >= pages && mapped < pages * 1.2, `${mapped} maps of ${pages} pages`);
    assert.ok(Math.abs(mapped - unmapped) < 64, `${unmapped} unmaps of ${mapped} maps`);
  });

  await t.test('1 000 random reads are what the image has', (sub) =>
    timed(sub, '1000 dd', () => randomReads(guest, disk, image)),
  );

  await t.test('an ext4 file system holds its files, seen from inside and outside', (sub) =>
    timed(sub, 'mkfs, mount, copy, fsck', () => ext4(guest, disk, image)),
  );

  await t.test('without I/O only the queues are mapped and pinned', async () => {
    await guest.sh('sync');
    const now = house.holdings('disk');
    t.diagnostic(
      `in all ${house.counts.maps} maps, ${house.counts.unmaps} unmaps; ${now.mappings} mappings, ${now.pinnedPages} pinned pages at rest`,
    );
    assert.equal(now.pinnedPages, idle.pinnedPages);
    assert.ok(now.mappings <= idle.mappings + 64, `${now.mappings} mappings, ${idle.mappings} at first`);
    assert.doesNotMatch(await guest.sh('dmesg'), /DMAR:.*fault|nvme.*(?:timeout|error)|BUG:/i);
  });

  await t.test('two disks at once, each with mappings of its own', async (sub) => {
    const read = (disk: string): string => `dd if=${disk} bs=1M count=16 iflag=direct 2>/dev/null | sha256sum`;
    const code = `${read(disk)} >/tmp/first & ${read(otherDisk)} >/tmp/second; wait; cat /tmp/first /tmp/second`;
    const seen = await timed(sub, '32 MiB', () => guest.sh(code));
    assert.deepEqual(
      seen.split('\n').map((line) => line.split(' ')[0]),
      [image, other].map((path) => digestOf(path, 16 * MIB)),
    );
    assert.ok(house.holdings('other').pinnedPages > 0);
  });

  await t.test('QEMU is killed in the middle of I/O: the mappings that were under way are gone', async (sub) => {
    await Promise.all([startIo(guest, disk), startIo(guest, otherDisk)]);
    const before = house.holdings('disk').mappings;
    sub.diagnostic(`${before} mappings at the end`);
    assert.deepEqual([...house.warnings], []);
    await guest.kill();
    await Promise.all(['disk', 'other'].map((name) => house.disconnected(name)));
    house.assertIdle();
    const others = house.warnings.filter((warning) => !warning.endsWith(': the connection ended'));
    assert.deepEqual(others, [], 'a connection that is reset is told, and nothing else');
  });
});
