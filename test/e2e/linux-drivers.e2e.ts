// An unmodified Linux guest and its stock drivers, on devices of this project behind a real QEMU.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gpioIdio16 } from '@pinion/example-gpio-idio-16';
import { FileStore, nvme } from '@pinion/example-nvme';
import { LinuxGuest, vfioUserDevice } from '@pinion/vm';
import { DeviceHouse } from './device-house.js';
import { diskIn, ext4, makeImage, randomReads, roundTrip } from './disk-checks.js';
import { temporaryFolder } from './disks.js';
import { timed } from './stopwatch.js';

const MODULES = ['nvme', 'ext4', 'gpio_pci_idio_16'];
const SLOTS = { gpio: 4, 'disk-a': 5, 'disk-b': 6 } as const;
const INPUTS = Array.from({ length: 16 }, (_, i) => 16 + i).join(' ');

test('one VM with a digital I/O board and two disks in one container', async (t) => {
  const folder = temporaryFolder(t);
  const images = ['a', 'b'].map((name) => `${folder}/${name}.img`);
  for (const image of images) makeImage(image);
  const [first = '', second = ''] = images;
  const waiting = [...images];
  const plugin = nvme({ store: () => new FileStore(waiting.shift() ?? '') });
  const house = await DeviceHouse.open(t, [
    { name: 'gpio', plugin: gpioIdio16(), driver: 'gpio-idio-16', type: 'board' },
    { name: 'disk-a', plugin, driver: 'nvme', type: 'disk' },
    { name: 'disk-b', plugin, driver: 'nvme', type: 'disk' },
  ]);
  const devices = Object.entries(SLOTS).map(([name, slot]) =>
    vfioUserDevice(house.path(name), { id: name, addr: `${slot}.0` }),
  );
  const guest = await timed(t, 'boot', () =>
    LinuxGuest.boot({
      name: 'drivers',
      contents: { modules: MODULES, programs: true },
      machine: { memory: 512, devices },
    }),
  );
  t.after(() => guest.close());
  const [diskA, diskB] = [await diskIn(guest, SLOTS['disk-a']), await diskIn(guest, SLOTS['disk-b'])];

  await t.test('lspci shows them, each bound to its stock driver', async () => {
    const list = await guest.sh('lspci -nn -k 2>/dev/null');
    assert.match(list, /\[494f:0dc8\]\n.*\n\tKernel driver in use: pci-idio-16/);
    assert.equal([...list.matchAll(/\[1234:11f5\] \(rev 01\)\n.*\n\tKernel driver in use: nvme/g)].length, 2);
    assert.equal(
      await guest.sh(`cat /sys/block/${diskA.replace('/dev/', '')}/device/model | tr -s " "`),
      'Pinion NVMe disk',
    );
    assert.doesNotMatch(await guest.sh('dmesg'), /nvme.*(?:timeout|error|fail)|BUG:|Call Trace/i);
  });

  await t.test('what is written to an output is read at the input it is wired to', async () => {
    await guest.sh('gpioset -t0 -c gpiochip0 5=1 14=1');
    assert.equal(await guest.sh('gpioget -c gpiochip0 20 21 30'), '"20"=inactive "21"=active "30"=active');
    await guest.sh('gpioset -t0 -c gpiochip0 5=0 14=0');
    assert.equal(await guest.sh('gpioget -c gpiochip0 20 21 30'), '"20"=inactive "21"=inactive "30"=inactive');
  });

  // Linux 6.12's driver takes an interrupt as one of every input, and crashes at an input that nobody watches: so all are watched.
  await t.test('a changed input interrupts, and Linux reports the edge', async () => {
    const before = await interrupts(guest);
    const events = await guest.sh(`
      gpiomon -c gpiochip0 -n 16 ${INPUTS} >/tmp/events 2>&1 &
      until grep -q gpiomon /proc/interrupts; do usleep 10000; done
      gpioset -t0 -c gpiochip0 3=1
      wait
      cat /tmp/events`);
    assert.match(events, /rising\tgpiochip0 19 "IIN3"/);
    assert.equal(await interrupts(guest), before + 1, 'one interrupt, no storm');
  });

  await t.test('64 MiB there and back, on both disks at once', async (sub) => {
    await timed(sub, 'dd and sha256sum, disk a', () => roundTrip(guest, diskA, first));
    await timed(sub, 'dd and sha256sum, disk b', () => roundTrip(guest, diskB, second));
    const both = `dd if=${diskA} of=/dev/null bs=1M count=64 iflag=direct & dd if=${diskB} of=/dev/null bs=1M count=64 iflag=direct; wait`;
    await timed(sub, '128 MiB from both together', () => guest.sh(both));
  });

  await t.test('1 000 random reads are what the image has', (sub) =>
    timed(sub, '1000 dd', () => randomReads(guest, diskA, first)),
  );

  await t.test('an ext4 file system holds its files, seen from inside and outside', (sub) =>
    timed(sub, 'mkfs, mount, copy, fsck', () => ext4(guest, diskA, first)),
  );

  await t.test('the devices share one set of mappings and one account', () => {
    const [a, b] = [house.holdings('disk-a'), house.holdings('disk-b')];
    assert.deepEqual(a, b);
    assert.equal(house.pages.pieces, a.mappings);
    assert.equal(a.pinnedPages, a.lockedPages);
    assert.equal(
      house.pinsOf('disk-a') + house.pinsOf('disk-b'),
      a.pinnedPages,
      'queues alone: no command is under way',
    );
    assert.deepEqual(house.warnings, []);
  });

  await guest.close();
  await Promise.all(['gpio', 'disk-a', 'disk-b'].map((name) => house.disconnected(name)));
  house.assertIdle();
});

/** How often the board has interrupted. */
async function interrupts(guest: LinuxGuest): Promise<number> {
  const line = await guest.sh('grep "fasteoi *0000:00:04.0" /proc/interrupts');
  return Number(line.trim().split(/\s+/)[1]);
}
