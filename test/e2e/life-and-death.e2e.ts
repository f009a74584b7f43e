// Devices that come and go under a running guest, and ends in the middle of I/O: of the guest, of QEMU, of the device's process.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LinuxGuest, pcieRootPort, type QemuDevice, vfioUserDevice } from '@pinion/vm';
import { DeviceHouse, openFiles } from './device-house.js';
import { diskBehind, diskIn, makeImage, randomReads, roundTrip, startIo } from './disk-checks.js';
import { makeDisk, temporaryFolder } from './disks.js';
import { ServeProcess } from './serve-process.js';
import { timed } from './stopwatch.js';

/** A folder for temporary files of this process alone, so that it can be looked through at the end. */
const own = mkdtempSync(join(tmpdir(), 'pinion-life-'));
process.env['TMPDIR'] = own;
after(() => rmSync(own, { recursive: true }));

/** The functions in the two ports, as Linux numbers them. */
const [FIRST, SECOND] = ['0000:01:00.0', '0000:02:00.0'] as const;
const PORTS = ['port-1', 'port-2'] as const;
const SLOW_DISK = fileURLToPath(new URL('slow-disk.js', import.meta.url));
/** Linux gives a command of an NVMe disk 30 s; this guest gives it 3. */
const MODULES = ['nvme_core io_timeout=3 admin_timeout=3', 'nvme'];

const plugged = (path: string, port: (typeof PORTS)[number] = 'port-1'): QemuDevice =>
  vfioUserDevice(path, { id: `disk-in-${port}`, bus: port });

/** A guest with ports for hot-plugging, and what stands in them. */
async function bootWith(t: TestContext, name: string, devices: readonly QemuDevice[]): Promise<LinuxGuest> {
  const guest = await timed(t, `boot of ${name}`, () =>
    LinuxGuest.boot({
      name,
      contents: { modules: MODULES },
      machine: {
        memory: 256,
        reboots: true,
        devices: [...PORTS.map((port, i) => pcieRootPort(port, i + 1)), ...devices],
      },
    }),
  );
  t.after(() => guest.kill());
  return guest;
}

const disappears = `for i in $(seq 200); do [ -e /sys/bus/pci/devices/${FIRST} ] || exit 0; usleep 50000; done; dmesg | tail; exit 1`;
const ioEnds = 'for i in $(seq 400); do [ -e /tmp/io-ended ] && exit 0; usleep 50000; done; dmesg | tail; exit 1';

// The disk has MSI, not MSI-X: QEMU 11.1 aborts when a vfio-user device with MSI-X is unplugged.
test('hot-unplug, hot-plug and reboot, idle and in the middle of I/O', async (t) => {
  const { spec, image } = makeDisk(t, 'disk', { interrupts: 'msi' });
  const house = await DeviceHouse.open(t, [spec]);
  const guest = await bootWith(t, 'plugging', [plugged(house.path('disk'))]);
  let disk = await diskBehind(guest, FIRST);

  await t.test('unplugged while idle: nothing of the guest is left with the server', async (sub) => {
    await timed(sub, 'device_del', () => guest.unplug('disk-in-port-1'));
    await house.disconnected('disk');
    house.assertIdle();
    await guest.sh(disappears);
  });

  await t.test('plugged in again: the driver binds, and the data is there', async (sub) => {
    disk = await timed(sub, 'device_add until there', async () => {
      await guest.plug(plugged(house.path('disk')));
      return diskBehind(guest, FIRST);
    });
    await roundTrip(guest, disk, image);
  });

  await t.test('unplugged in the middle of I/O: the I/O ends with an error, and nothing is left', async (sub) => {
    await startIo(guest, disk);
    await timed(sub, 'device_del', () => guest.unplug('disk-in-port-1'));
    await guest.sh(ioEnds);
    await guest.sh(disappears);
    await house.disconnected('disk');
    house.assertIdle();
  });

  await t.test('a second connection works as the first, and the guest reboots in the middle of I/O', async (sub) => {
    await guest.plug(plugged(house.path('disk')));
    await startIo(guest, await diskBehind(guest, FIRST));
    await timed(sub, 'reboot', () => guest.reboot());
    assert.ok(house.connected('disk'), 'the connection outlives a reboot');
    await randomReads(guest, await diskBehind(guest, FIRST), image);
    const { pinnedPages, lockedPages } = house.holdings('disk');
    assert.equal(house.pinsOf('disk'), pinnedPages);
    assert.equal(lockedPages, pinnedPages);
    assert.ok(pinnedPages <= 24, `queues of one boot, not of two: ${pinnedPages} pages`);
  });

  assert.deepEqual(house.warnings, []);
  await guest.close();
  await house.disconnected('disk');
  house.assertIdle();
});

test('QEMU is killed in the middle of I/O: its memory is given back, and the next VM finds the disk', async (t) => {
  const { spec, image } = makeDisk(t, 'disk');
  const house = await DeviceHouse.open(t, [spec]);
  const before = openFiles();
  const first = await bootWith(t, 'first', [plugged(house.path('disk'))]);
  await startIo(first, await diskBehind(first, FIRST));
  assert.ok(house.holdings('disk').pinnedPages > 0);
  const running = assert.rejects(first.sh('sleep 1000'), {
    name: 'VM_QEMU_FAILED',
    message: /ended by signal SIGKILL/,
  });
  await first.kill();
  await running;
  await timed(t, 'until nothing is left', () => house.disconnected('disk'));
  house.assertIdle();
  assert.equal(openFiles(), before, 'descriptors of this process');

  const second = await bootWith(t, 'second', [plugged(house.path('disk'))]);
  await randomReads(second, await diskBehind(second, FIRST), image);
  await second.close();
  await house.disconnected('disk');
  house.assertIdle();
});

test('a guest that panics in the middle of I/O is told apart from QEMU, and leaves nothing', async (t) => {
  const { spec } = makeDisk(t, 'disk');
  const house = await DeviceHouse.open(t, [spec]);
  const guest = await LinuxGuest.boot({
    name: 'panicking',
    contents: { modules: MODULES },
    machine: { memory: 256, devices: [vfioUserDevice(house.path('disk'), { addr: '4.0' })] },
  });
  t.after(() => guest.kill());
  await startIo(guest, await diskIn(guest, 4));
  await assert.rejects(guest.sh('echo c >/proc/sysrq-trigger'), {
    name: 'VM_QEMU_FAILED',
    message:
      /^QEMU of panicking ended by a kernel panic of its guest; the last it said:\nKernel panic - not syncing: sysrq triggered crash/,
  });
  await house.disconnected('disk');
  house.assertIdle();
});

test('the device’s process is killed in the middle of I/O: the guest gets errors, and a new process serves the same disk', async (t) => {
  const folder = temporaryFolder(t);
  const [image, socket] = [join(folder, 'disk.img'), join(folder, 'disk.sock')];
  makeImage(image);
  const slow = `slow-disk,option.image=${image},socket=${socket}`;
  const first = await timed(t, 'pinion serve', () => ServeProcess.start(t, '--plugin', SLOW_DISK, '--device', slow));
  const guest = await bootWith(t, 'surviving', [plugged(socket)]);
  await startIo(guest, await diskBehind(guest, FIRST));

  await first.kill();
  await timed(t, 'until the guest’s I/O has failed', () => guest.sh(ioEnds));
  assert.match(guest.qemu.output, /vfio.*(?:EOF|Broken pipe|Connection reset|closed)/i, 'QEMU says what happened');
  assert.match(
    await guest.sh('dmesg'),
    /nvme nvme0: .*(?:controller is down|Device not ready|Disabling device|Device shutdown|frozen)/,
  );
  assert.equal(await guest.sh('echo alive'), 'alive');

  const second = await ServeProcess.start(t, '--device', 'nvme', '--image', image, '--socket-path', socket);
  const disk = await timed(t, 'a new process, a new device', async () => {
    await guest.plug(plugged(socket, 'port-2'));
    return diskBehind(guest, SECOND);
  });
  await second.event('connected');
  await roundTrip(guest, disk, image);

  await startIo(guest, disk);
  assert.equal(
    await timed(t, 'SIGTERM in the middle of I/O', () => second.stop()),
    0,
    'exit status 0: nothing was left',
  );
  assert.deepEqual((await second.event('stopped'))['left'], { mappings: 0, pins: 0, lockedPages: 0, open: [] });
  assert.equal(existsSync(socket), false);
  assert.equal(await guest.sh('echo alive'), 'alive');
  await guest.close();
});

test('a socket that nobody listens on, and a device that is in use, are clear errors', async (t) => {
  const { spec } = makeDisk(t, 'disk');
  const house = await DeviceHouse.open(t, [spec]);
  const nowhere = join(temporaryFolder(t), 'nowhere.sock');
  await assert.rejects(LinuxGuest.boot({ name: 'lost', machine: { devices: [vfioUserDevice(nowhere)] } }), {
    name: 'VM_QEMU_FAILED',
    message:
      /QEMU of lost ended by exit status 1; the last it said:\n.*Failed to connect to '.*nowhere\.sock': No such file or directory/,
  });
  const guest = await bootWith(t, 'asking', []);
  await assert.rejects(guest.plug(plugged(nowhere)), {
    name: 'VM_QMP_REFUSED',
    message: /QEMU refused device_add: Failed to connect to/,
  });
  await guest.plug(plugged(house.path('disk')));
  await diskBehind(guest, FIRST);
  await guest.close();
  await house.disconnected('disk');
  house.assertIdle();
});

test('no process and no file of all that is left', () => {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => statOf(pid))
    .filter((stat) => Number(/^\d+ \(.*\) \S (\d+)/s.exec(stat)?.[1]) === process.pid);
  assert.deepEqual(children, []);
  assert.deepEqual(readdirSync(tmpdir()), []);
});

/** Empty for a process that has gone meanwhile. */
function statOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return ''; // why: it ended between the listing and this
  }
}
