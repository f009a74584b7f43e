import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn } from '@pinion/core';
import {
  type BackendParts,
  CONFIG,
  createGvtDriver,
  DISPLAY,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PVINFO,
  REGION,
  SIZE_4K,
  xyColorBlt,
} from '@pinion/gvt';
import { FakeGuest, FakePins, KeptLog, ManualClock } from './fake-guest.js';
import { RecordingBackend } from './recording-backend.js';

const GDRST = 0x941c;
const none = () => assert.fail('no copies');

/** What a device of `driver` is created with. */
const contextOf = (name: string, type = 'V5_8') => ({
  name,
  type,
  parent: 'gpu',
  dma: { read: none, write: none },
  clock: new ManualClock(),
  log: new KeptLog(),
  pins: new FakePins(),
});

/** A picture of one page on the screen. */
function showScreen(guest: FakeGuest): void {
  guest.write32(DISPLAY.PIPESRC, (15 << 16) | 15);
  guest.write32(DISPLAY.PLANE_STRIDE, 1);
  guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
  guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
  guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
}

describe('opening', () => {
  test('a guest has one vGPU of a GPU open; another guest may', () => {
    const driver = createGvtDriver();
    const [a, b, c] = ['a', 'b', 'c'].map((name) => {
      driver.create(contextOf(name));
      return driver.device(name) ?? assert.fail();
    });
    assert.ok(a && b && c);
    const [one, other] = [{ name: 'one' }, { name: 'one' }];
    a.setGuest(one);
    b.setGuest(one);
    c.setGuest(other);
    a.open();
    assert.throws(() => b.open(), { name: 'GVT_GUEST_HAS_VGPU', errno: 'EEXIST', message: /vGPU a open/ });
    c.open();
    a.close();
    b.open();
    assert.throws(() => a.open(), { name: 'GVT_GUEST_HAS_VGPU', errno: 'EEXIST' });
    for (const device of [b, c]) device.close();
  });

  test('whose a vGPU is cannot change while it is open', () => {
    const driver = createGvtDriver();
    driver.create(contextOf('a'));
    driver.create(contextOf('b'));
    const [a, b] = [driver.device('a') ?? assert.fail(), driver.device('b') ?? assert.fail()];
    const guest = { name: 'guest' };
    a.setGuest(guest);
    a.open();
    a.setGuest(undefined);
    b.setGuest(guest);
    assert.throws(() => b.open(), { errno: 'EEXIST' });
    a.close();
    b.open();
    b.close();
  });

  test('one that fails leaves the guest free to open another', () => {
    let failing = true;
    const hypervisor = (parts: BackendParts) =>
      new RecordingBackend(parts, failing && parts.device === 'a' ? ['attach'] : []);
    const driver = createGvtDriver({ hypervisor });
    driver.create(contextOf('a'));
    failing = false;
    driver.create(contextOf('b'));
    const [a, b] = [driver.device('a') ?? assert.fail(), driver.device('b') ?? assert.fail()];
    const guest = { name: 'guest' };
    a.setGuest(guest);
    b.setGuest(guest);
    assert.throws(() => a.open(), { errno: 'ESRCH' });
    b.open();
    b.close();
    a.remove();
    b.remove();
    assert.equal(driver.available('V5_8'), 6);
  });
});

describe('creating and removing', () => {
  for (const step of ['setOpregion', 'setEdid']) {
    test(`a failure in ${step} gives everything back`, () => {
      const driver = createGvtDriver({ hypervisor: (parts) => new RecordingBackend(parts, [step]) });
      assert.throws(() => driver.create(contextOf('a')), { errno: 'ESRCH' });
      assert.deepEqual([driver.available('V5_8'), driver.device('a')], [6, undefined]);
    });
  }

  test('a hypervisor that cannot be had gives everything back', () => {
    let fail = true;
    const driver = createGvtDriver({
      hypervisor: (parts) => {
        if (fail) throw new TypeError('no hypervisor');
        return new RecordingBackend(parts);
      },
    });
    assert.throws(() => driver.create(contextOf('a')), TypeError);
    fail = false;
    driver.create(contextOf('a'));
    assert.deepEqual([driver.available('V5_8'), driver.device('a')?.resources.id], [5, 1]);
  });

  test('one that is gone but still shown outside does not hide another of its name', () => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base, 0, 4);
    showScreen(guest);
    const shown = guest.device.exportPlane() ?? assert.fail();
    guest.finish();
    guest.device.remove();
    const next = new FakeGuest({ driver: guest.driver });
    shown.close();
    assert.equal(guest.driver.device('vgpu'), next.device);
    next.finish();
    next.device.remove();
    assert.deepEqual([guest.driver.device('vgpu'), guest.driver.available('V5_8')], [undefined, 6]);
  });

  test('an open vGPU cannot be removed', () => {
    const guest = new FakeGuest();
    assert.throws(() => guest.device.remove(), { name: 'GVT_BUSY', errno: 'EBUSY' });
    assert.equal(guest.driver.available('V5_8'), 5);
    guest.finish();
    guest.device.remove();
    assert.equal(guest.driver.available('V5_8'), 6);
  });
});

describe('resets', () => {
  test('GDRST of all engines clears the registers below the interrupt tree; table and display stay', () => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base, 0, 8);
    guest.write32(0x44100, 1);
    guest.write32(0x45100, 2);
    guest.write32(GDRST, 1);
    assert.deepEqual([guest.read32(GDRST), guest.read32(0x44100), guest.read32(0x45100)], [0, 0, 2]);
    assert.deepEqual([guest.pins.pages, guest.read32(PVINFO.LOW_BASE)], [8, guest.low.base]);
    guest.finish();
  });

  test('GDRST of the blitter leaves other registers', () => {
    const guest = new FakeGuest();
    guest.write32(0x44100, 1);
    guest.write32(GDRST, 8);
    assert.deepEqual([guest.read32(GDRST), guest.read32(0x44100)], [0, 1]);
    guest.finish();
  });

  test('a device reset after D3hot is a resume: what tables of processes hold stays; the next one is whole', () => {
    const guest = new FakeGuest();
    const { backend } = guest.device;
    backend.dmaMapGuestPage(asGfn(20), SIZE_4K);
    guest.mapPages(guest.low.base, 0, 8);
    guest.write32(CONFIG.PMCSR, 3, REGION.CONFIG);
    guest.write32(CONFIG.PMCSR, 0, REGION.CONFIG);
    guest.device.reset();
    assert.deepEqual([guest.pins.pages, guest.device.stats.tableEntries], [1, 0]);
    guest.device.reset();
    assert.equal(guest.pins.pages, 0);
    guest.finish();
  });

  test('tables whose writes were not heard in failsafe mode do not outlive a resume', () => {
    const guest = new FakeGuest();
    guest.device.backend.dmaMapGuestPage(asGfn(20), SIZE_4K);
    guest.read32(PVINFO.MAGIC_LOW);
    guest.write32(PVINFO.RESERVED, 1);
    assert.ok(guest.device.failsafe);
    guest.write32(CONFIG.PMCSR, 3, REGION.CONFIG);
    guest.device.reset();
    assert.deepEqual(
      [guest.pins.pages, guest.device.failsafe, guest.read32(PVINFO.MAGIC_LOW)],
      [0, undefined, 0x76544776],
    );
    guest.finish();
  });

  test('a close in which the hypervisor fails gives everything back and tells', () => {
    for (const call of ['setTrapArea', 'mapGfnToPfn']) {
      let backend: RecordingBackend | undefined;
      const hypervisor = (parts: BackendParts) => {
        backend = new RecordingBackend(parts);
        return backend;
      };
      const guest = new FakeGuest({ hypervisor });
      guest.mapPages(guest.low.base, 0, 8);
      guest.write32(CONFIG.BAR0, 0xe0000000, REGION.CONFIG);
      guest.write32(CONFIG.BAR2, 0xc0000000, REGION.CONFIG);
      guest.write32(CONFIG.COMMAND, 2, REGION.CONFIG);
      backend?.failing.add(call);
      assert.throws(() => guest.device.close(), { errno: 'ESRCH' }, call);
      assert.deepEqual([guest.pins.pages, guest.clock.waiting, guest.device.stats.tableEntries], [0, 0, 0], call);
      backend?.failing.clear();
      guest.device.open();
      guest.finish();
    }
  });

  test('a device reset while a job runs stops it there', () => {
    const guest = new FakeGuest();
    guest.mapPages(guest.low.base + 4096, 16, 64);
    guest.startRing(guest.low.base, 100);
    const target = { address: guest.low.base + 4096, pitch: 4096 };
    guest.submit(xyColorBlt({ target, rect: { x1: 0, y1: 0, x2: 1024, y2: 64 }, color: 0xffffffff }));
    guest.device.reset();
    guest.clock.drain();
    assert.deepEqual([guest.peek(16, 0), guest.pins.pages, guest.device.engine], [0, 0, 'idle']);
    guest.finish();
  });

  test('a close after D3hot is a close', () => {
    const guest = new FakeGuest();
    guest.write32(CONFIG.PMCSR, 3, REGION.CONFIG);
    guest.device.backend.dmaMapGuestPage(asGfn(20), SIZE_4K);
    guest.finish();
    guest.device.open();
    guest.device.backend.dmaMapGuestPage(asGfn(20), SIZE_4K);
    guest.device.reset();
    assert.equal(guest.pins.pages, 0);
    guest.finish();
  });
});
