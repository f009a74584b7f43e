// Linux's own i915 driver, unmodified, on a vGPU behind a real QEMU: engines, contexts, display, hot plug, suspend and removal.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { definePlugin } from '@pinion/core';
import {
  createGvtDriver,
  EDID_REGION,
  type GvtDevice,
  LINK_STATE,
  type LiveFrame,
  makeEdid,
  REGION,
} from '@pinion/gvt';
import { LinuxGuest, vfioUserDevice } from '@pinion/vm';
import { DeviceHouse } from './device-house.js';
import { temporaryFolder } from './disks.js';
import { timed } from './stopwatch.js';

/** What a program of the guest does with its GPU; in C, since it speaks to the kernel. */
const FILL = join(import.meta.dirname, '..', '..', 'e2e', 'guest', 'i915-fill.c');
const UUID = '5e2e0000-0000-4000-8000-000000000001';
const [WIDTH, HEIGHT] = [1920, 1200];
/** Pages of a picture of that size, 4 bytes a pixel. */
const PICTURE = (WIDTH * HEIGHT * 4) / 4096;

/** The program, without libraries; undefined where nobody can make one. */
function fillProgram(folder: string): Uint8Array | undefined {
  const program = join(folder, 'i915-fill');
  const { status } = spawnSync(process.env['CC'] ?? 'cc', ['-O1', '-static', '-o', program, FILL], { stdio: 'ignore' });
  return status === 0 ? readFileSync(program) : undefined;
}

/** Pixels that are not black. */
const lit = (pixels: Uint8Array): number => {
  let count = 0;
  for (let at = 0; at < pixels.length; at += 4)
    if (pixels[at] !== 0 || pixels[at + 1] !== 0 || pixels[at + 2] !== 0) count += 1;
  return count;
};

/** A line of text on the guest's console. */
const say = (guest: LinuxGuest, text: string): Promise<string> => guest.sh(`echo '${text}' >/dev/tty0`);

/** The state of the connector that has the monitor, and its first mode. */
const connector = (guest: LinuxGuest): Promise<string> =>
  guest.sh(
    'for at in /sys/class/drm/card0-DP-*; do [ "$(cat $at/status)" = connected ] && head -1 $at/modes; done; true',
  );

/** A line of text has more pixels than a cursor that blinks. */
const LINE = 500;

/** The first picture, from now on, with at least so many pixels that are not black. */
async function shown(device: GvtDevice, least: number): Promise<LiveFrame> {
  for await (const picture of device.frames()) if (lit(picture.frame.pixels) >= least) return picture;
  assert.fail('the vGPU closed');
}

/** Waits until a command of the guest prints what is wanted. */
const until = (guest: LinuxGuest, command: string, wanted: string): Promise<string> =>
  guest.sh(`for attempt in $(seq 300); do [ "$(${command})" = '${wanted}' ] && break; usleep 100000; done; ${command}`);

const field = (device: GvtDevice, offset: number, value: number): void => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  device.writeRegion(REGION.EDID, offset, bytes);
};

test('Linux drives a vGPU with its stock i915', async (t) => {
  const driver = createGvtDriver({ apertureMb: 256 });
  const plugin = definePlugin({ name: 'gvt', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
  const house = await DeviceHouse.open(t, [{ name: 'vgpu', plugin, driver: 'gvt', type: 'V5_4' }]);
  const device = driver.device(UUID);
  assert.ok(device !== undefined);
  const fill = fillProgram(temporaryFolder(t));
  const files = new Map(fill === undefined ? [] : [['bin/i915-fill', { data: fill, mode: 0o755 }]]);
  const guest = await timed(t, 'boot', () =>
    LinuxGuest.boot({
      name: 'i915',
      contents: { modules: ['i915'], files },
      machine: { memory: 1024, devices: [vfioUserDevice(house.path('vgpu'), { id: 'vgpu' })] },
      bootLimit: 180_000,
    }),
  );
  t.after(() => guest.close());

  await t.test('it finds a GVT-g vGPU, takes its share of graphics memory, and starts all engines', async () => {
    await until(guest, 'cat /sys/class/graphics/fb0/virtual_size', `${WIDTH},${HEIGHT}`);
    const log = await guest.sh('dmesg');
    assert.match(log, /Virtual GPU for Intel GVT-g detected/);
    assert.match(log, /VGT balloon successfully/);
    assert.match(log, /Initialized i915/);
    assert.doesNotMatch(log, /cut here|GPU HANG|reset request timed out|Failed to (?:enable|disable) SAGV|BUG:/);
    assert.deepEqual([device.failsafe, device.engineError, device.stats.faults], [undefined, undefined, 0]);
    const interrupts = await guest.sh('grep i915 /proc/interrupts');
    assert.match(interrupts, /PCI-MSI/);
    assert.ok(Number(/:\s+(\d+)/.exec(interrupts)?.[1]) > 0);
    assert.deepEqual(house.warnings, []);
  });

  await t.test("its console is on the monitor, in the monitor's best mode", async () => {
    assert.equal(await connector(guest), `${WIDTH}x${HEIGHT}`);
    const picture = shown(device, lit(device.frame().pixels) + LINE);
    await say(guest, 'this text is seen from outside, at the next vertical blank after it was drawn');
    const { frame, damage } = await picture;
    assert.deepEqual([frame.width, frame.height], [WIDTH, HEIGHT]);
    assert.ok(damage.x2 > damage.x1 && damage.y2 > damage.y1);
  });

  await t.test('programs fill rectangles on the blitter, in address spaces of their own', async (sub) => {
    if (fill === undefined) return sub.skip('there is no C compiler that links without libraries');
    assert.equal(await guest.sh('i915-fill'), `${36 * 43} filled, 0 wrong`);
    const several = await guest.sh('for program in 1 2 3 4; do i915-fill & done; wait');
    assert.deepEqual(new Set(several.split('\n')), new Set([`${36 * 43} filled, 0 wrong`]));
    assert.deepEqual([device.failsafe, device.engineError, device.stats.faults], [undefined, undefined, 0]);
  });

  await t.test('an exported picture holds its pages while the driver goes, and shows its last text', async () => {
    using plane = device.exportPlane();
    assert.ok(plane !== undefined);
    assert.equal(device.exported.pages, PICTURE);
    const before = lit(plane.frame().pixels);
    assert.ok(before >= LINE);
    await guest.sh('echo 0 >/sys/class/vtconsole/vtcon1/bind; rmmod i915', 120_000);
    assert.equal(device.frame().width, 0);
    assert.ok(house.pinsOf('vgpu') >= PICTURE);
    assert.equal(plane.state, 'live');
    plane.close();
    assert.equal(device.exported.pages, 0);
    await guest.sh('insmod /lib/modules/i915.ko', 120_000);
    await until(guest, 'cat /sys/class/graphics/fb0/virtual_size', `${WIDTH},${HEIGHT}`);
    assert.equal(device.failsafe, undefined);
  });

  await t.test('the cable is pulled, and another monitor plugged in', async () => {
    field(device, EDID_REGION.LINK_STATE, LINK_STATE.DOWN);
    const status = 'cat /sys/class/drm/card0-DP-*/status | sort -u | tr "\\n" ,';
    assert.equal(await until(guest, status, 'disconnected,'), 'disconnected,');
    device.writeRegion(REGION.EDID, EDID_REGION.BLOCK, makeEdid(1024, 768));
    field(device, EDID_REGION.LINK_STATE, LINK_STATE.UP);
    await until(guest, status, 'connected,disconnected,');
    assert.equal(await connector(guest), '1024x768');
  });

  await t.test('the guest suspends its devices and resumes them', async () => {
    await guest.sh('echo devices >/sys/power/pm_test; echo mem >/sys/power/state', 120_000);
    await say(guest, 'awake again');
    const complaints = await guest.sh("dmesg | grep -E -A 12 'cut here|GPU HANG|BUG:' || true");
    assert.equal(complaints, '');
    assert.equal(device.failsafe, undefined);
  });

  await guest.kill();
  await house.disconnected('vgpu');
  house.assertIdle();
  assert.equal(device.stats.cachePages, 0);
});
