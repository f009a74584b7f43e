import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn } from '@pinion/core';
import {
  type BackendParts,
  CURSOR,
  DISPLAY,
  DRM_PLANE,
  KvmBackend,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PLANE_QUERY,
  PVINFO,
  SIZE_2M,
  staticBackend,
  xenBackend,
} from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions, POISON } from './fake-guest.js';
import { RecordingBackend } from './recording-backend.js';

const PAGE = 4096;
/** The picture: 32 by 128 pixels, four pages; guest frames 10 to 13. */
const FIRST = 10;
const PAGES = 4;
const DMABUF = { flags: PLANE_QUERY.DMABUF, planeType: DRM_PLANE.PRIMARY };

function show(options: FakeGuestOptions = {}): FakeGuest {
  const guest = new FakeGuest(options);
  guest.mapPages(guest.low.base, FIRST, PAGES);
  guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
  guest.write32(DISPLAY.PIPESRC, (31 << 16) | 127);
  guest.write32(DISPLAY.PLANE_STRIDE, 2);
  guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
  guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
  for (let page = 0; page < PAGES; page++) guest.poke(FIRST + page, 0, [0x00111111 * (page + 1)]);
  return guest;
}

const take = (guest: FakeGuest) => guest.device.exportPlane() ?? assert.fail('the plane is off');
/** The first byte of each page as the exported plane shows it. */
const shades = (plane: ReturnType<typeof take>): number[] => {
  const { pixels } = plane.frame();
  return Array.from({ length: PAGES }, (_, page) => pixels[page * 32 * 32 * 4] ?? -1);
};
const clear = (guest: FakeGuest) => {
  for (let page = 0; page < PAGES; page++) guest.writeEntry(guest.low.base + page * PAGE, 0n);
};

describe('an exported plane', () => {
  test('holds its pages when the table forgets them, and shows what the guest writes there', () => {
    const guest = show();
    const plane = take(guest);
    assert.deepEqual(guest.device.exported, { buffers: 1, pages: PAGES });
    clear(guest);
    assert.deepEqual([guest.pins.pages, guest.device.stats.tableEntries], [PAGES, 0]);
    assert.deepEqual(shades(plane), [0x11, 0x22, 0x33, 0x44]);
    guest.poke(FIRST + 1, 0, [0x00990000]);
    assert.deepEqual(shades(plane), [0x11, 0x99, 0x33, 0x44]);
    plane.close();
    plane.close();
    assert.equal(guest.pins.pages, 0);
    assert.deepEqual([plane.state, shades(plane)], ['revoked', [0, 0, 0, 0]]);
    guest.finish();
  });

  test('is one buffer for all who ask for the same plane', () => {
    const guest = show();
    const { bufferId } = guest.device.queryPlane(DMABUF);
    assert.equal(guest.device.queryPlane(DMABUF).bufferId, bufferId);
    const handles = [guest.device.getBuffer(bufferId), guest.device.getBuffer(bufferId), take(guest)];
    assert.deepEqual(
      handles.map(({ id }) => id),
      [bufferId, bufferId, bufferId],
    );
    assert.deepEqual(guest.device.exported, { buffers: 1, pages: PAGES });
    clear(guest);
    for (const handle of handles.slice(0, 2)) handle.close();
    assert.equal(guest.pins.pages, PAGES);
    handles[2]?.close();
    assert.equal(guest.pins.pages, 0);
    guest.finish();
  });

  test('another buffer stands for another size, another place, and other pages in the same place', () => {
    const guest = show();
    const first = take(guest);
    guest.write32(DISPLAY.PIPESRC, (31 << 16) | 95);
    const shorter = take(guest);
    guest.write32(DISPLAY.PIPESRC, (31 << 16) | 127);
    guest.writeEntry(guest.low.base + 2 * PAGE, (40n << 12n) | 3n);
    const mixed = take(guest);
    assert.equal(new Set([first.id, shorter.id, mixed.id]).size, 3);
    assert.deepEqual([shades(first)[2], shades(mixed)[2]], [0x33, 0]);
    for (const handle of [first, shorter, mixed]) handle.close();
    assert.equal(guest.pins.pages, PAGES);
    guest.finish();
  });

  test('a buffer that was only queried is forgotten by the next query of something else', () => {
    const guest = show();
    const { bufferId } = guest.device.queryPlane(DMABUF);
    guest.write32(DISPLAY.PLANE_CTL, 0);
    guest.device.queryPlane(DMABUF);
    assert.throws(() => guest.device.getBuffer(bufferId), { name: 'GVT_NO_BUFFER', errno: 'EINVAL' });
    assert.deepEqual(guest.device.exported, { buffers: 0, pages: 0 });
    guest.finish();
  });

  test('reads as bytes, and refuses what is beyond its end', () => {
    const guest = show();
    using plane = take(guest);
    const bytes = new Uint8Array(4);
    plane.read(PAGE - 2, bytes);
    assert.deepEqual([...bytes], [0, 0, 0x22, 0x22]);
    for (const [offset, length] of [
      [PAGES * PAGE - 3, 4],
      [-1, 1],
      [Number.NaN, 1],
      [PAGES * PAGE, 1],
    ] as const) {
      const read = () => plane.read(offset, new Uint8Array(length));
      assert.throws(read, { name: 'GVT_EXPORT_RANGE', errno: 'EINVAL' });
    }
    plane.close();
    guest.finish();
  });

  test('exists for the cursor, too', () => {
    const guest = show();
    guest.mapPages(guest.low.base + 8 * PAGE, 50, 4);
    guest.poke(50, 0, [0x80402010]);
    guest.write32(CURSOR.CONTROL, 0x27);
    guest.write32(CURSOR.BASE, guest.low.base + 8 * PAGE);
    const cursor = guest.device.exportPlane('cursor') ?? assert.fail();
    assert.deepEqual([...cursor.frame().pixels.subarray(0, 4)], [0x40, 0x20, 0x10, 0x80]);
    cursor.close();
    guest.finish();
  });
});

describe('what cannot be exported', () => {
  test('a plane with a page that is not there: nothing stays held', () => {
    const guest = show();
    guest.writeEntry(guest.low.base + 3 * PAGE, 0n);
    assert.throws(() => take(guest), { name: 'GVT_EXPORT_PAGE', errno: 'EINVAL', message: /0x8003000/ });
    clear(guest);
    assert.deepEqual([guest.pins.pages, guest.device.exported.buffers], [0, 0]);
    guest.finish();
  });

  test('a page that the hypervisor does not hold: nothing stays held, and the cause is told', () => {
    class Refusing extends KvmBackend {
      override dmaPinGuestPage(...[dma, owner]: Parameters<KvmBackend['dmaPinGuestPage']>): void {
        if (dma === guest.pins.hostFrame(FIRST + 2)) super.dmaPinGuestPage((dma + 1000) as typeof dma, owner); // why: a frame that there is not
        super.dmaPinGuestPage(dma, owner);
      }
    }
    const guest = show({ hypervisor: (parts: BackendParts) => new Refusing(parts) });
    assert.throws(
      () => take(guest),
      (error: Error) => error.name === 'GVT_EXPORT_PAGE' && error.cause instanceof Error,
    );
    clear(guest);
    assert.equal(guest.pins.pages, 0);
    guest.finish();
  });

  test('anything, where the hypervisor cannot hold a display buffer', () => {
    class Xen extends KvmBackend {
      override get capabilities() {
        return { ...super.capabilities, dmaPin: false };
      }
    }
    const guest = show({ hypervisor: (parts: BackendParts) => new Xen(parts) });
    assert.throws(() => take(guest), { name: 'GVT_NO_EXPORT', errno: 'ENOTTY' });
    guest.finish();
  });

  for (const [name, hypervisor] of [
    ['xen', xenBackend],
    ['static', staticBackend({ memory: [{ first: asGfn(0), last: asGfn(63) }] })],
  ] as const) {
    test(`the ${name} hypervisor says that it cannot, and a picture is there all the same`, () => {
      const guest = show({ hypervisor });
      assert.equal(guest.device.backend.capabilities.dmaPin, false);
      const { bufferId } = guest.device.queryPlane(DMABUF);
      assert.throws(() => guest.device.getBuffer(bufferId), { name: 'GVT_NO_EXPORT', errno: 'ENOTTY' });
      assert.equal(guest.device.frame().pixels[0], 0x11);
      guest.device.close();
      assert.equal(guest.pins.pages, 0);
    });
  }

  for (const id of [0, 1, 99, -1, Number.NaN]) {
    test(`buffer ${id}, which no query has named`, () => {
      const guest = show();
      assert.throws(() => guest.device.getBuffer(id), { name: 'GVT_NO_BUFFER', errno: 'EINVAL' });
      guest.finish();
    });
  }
});

describe('guest memory that goes away', () => {
  test('behind entries that the guest has changed in failsafe mode: the buffer knows what it holds', () => {
    const guest = show();
    guest.read32(PVINFO.MAGIC_LOW);
    guest.write32(PVINFO.RESERVED, 1);
    for (let page = 0; page < PAGES; page++)
      guest.writeEntry(guest.low.base + page * PAGE, (BigInt(FIRST + 600 + page) << 12n) | 3n);
    const plane = take(guest);
    guest.unmap(FIRST, PAGES);
    assert.deepEqual([plane.state, guest.device.exported.pages, shades(plane)], ['revoked', 0, [0, 0, 0, 0]]);
    plane.close();
    guest.finish();
  });

  test('takes its pages out of the buffer: black, an error for bytes, nothing pinned, nothing read', () => {
    const guest = show();
    const plane = take(guest);
    guest.unmap(FIRST + 1, 2);
    assert.deepEqual([plane.state, shades(plane)], ['partly-revoked', [0x11, 0, 0, 0x44]]);
    const bytes = new Uint8Array(2 * PAGE).fill(1);
    assert.throws(() => plane.read(0, bytes), { name: 'GVT_EXPORT_REVOKED', errno: 'EFAULT' });
    assert.deepEqual([bytes[0], bytes[PAGE]], [0x11, 0]);
    assert.equal(guest.device.exported.pages, 2);
    guest.unmap(FIRST, PAGES);
    assert.deepEqual([plane.state, shades(plane)], ['revoked', [0, 0, 0, 0]]);
    assert.equal(guest.pins.pages, 0);
    plane.close();
    guest.finish();
  });

  test('a buffer that lost pages is not given out again', () => {
    const guest = show();
    const old = take(guest);
    guest.unmap(FIRST, 1);
    assert.throws(() => take(guest), { name: 'GVT_EXPORT_PAGE', errno: 'EINVAL' });
    guest.writeEntry(guest.low.base, (40n << 12n) | 3n);
    const fresh = take(guest);
    assert.notEqual(fresh.id, old.id);
    assert.deepEqual([fresh.state, old.state], ['live', 'partly-revoked']);
    old.close();
    fresh.close();
    guest.finish();
  });

  test('a page that went with a mapping of 2 MiB around it is gone, too; one beside it stays', () => {
    const guest = new FakeGuest({ pages: 2048 });
    const large = 512;
    guest.device.backend.dmaMapGuestPage(asGfn(large), SIZE_2M);
    guest.mapPages(guest.low.base, large, 1);
    guest.mapPages(guest.low.base + PAGE, large - 1, 1);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    guest.write32(DISPLAY.PIPESRC, (31 << 16) | 63);
    guest.write32(DISPLAY.PLANE_STRIDE, 2);
    guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
    guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
    const plane = take(guest);
    guest.unmap(large + 100, 1);
    assert.equal(plane.state, 'partly-revoked');
    assert.equal(guest.device.exported.pages, 1);
    assert.equal(plane.frame().pixels[0], 0);
    plane.close();
    guest.finish();
  });

  test('poison of given-up memory is never seen', () => {
    const guest = show();
    const plane = take(guest);
    for (let page = 0; page < PAGES; page++) guest.unmap(FIRST + page, 1);
    assert.equal(plane.frame().pixels.includes(POISON), false);
    plane.close();
    guest.finish();
  });
});

describe('the end', () => {
  test('close takes everything back while handles stay; a new open knows nothing of them', () => {
    const guest = show();
    const plane = take(guest);
    guest.device.close();
    assert.deepEqual([guest.pins.pages, plane.state, shades(plane)], [0, 'revoked', [0, 0, 0, 0]]);
    assert.throws(() => plane.read(0, new Uint8Array(1)), { name: 'GVT_EXPORT_REVOKED' });
    guest.device.open();
    guest.mapPages(guest.low.base, FIRST, PAGES);
    assert.equal(plane.state, 'revoked');
    plane.close();
    assert.equal(guest.pins.pages, PAGES);
    assert.throws(() => guest.device.getBuffer(plane.id), { name: 'GVT_NO_BUFFER' });
    guest.finish();
  });

  test('a reset takes everything back', () => {
    const guest = show();
    const plane = take(guest);
    guest.device.reset();
    assert.deepEqual([guest.pins.pages, plane.state, guest.device.exported.pages], [0, 'revoked', 0]);
    plane.close();
    guest.finish();
  });

  test('a hypervisor that does not keep the device gets its pages back', () => {
    let backend: RecordingBackend | undefined;
    const guest = show({
      hypervisor: (parts) => {
        backend = new RecordingBackend(parts, ['holdDevice']);
        return backend;
      },
    });
    const refs = () => guest.device.backend.usage;
    const before = refs();
    for (let times = 0; times < 2; times++) assert.throws(() => take(guest), { errno: 'ESRCH' });
    guest.writeEntry(guest.low.base, 0n);
    assert.deepEqual(refs(), { mappings: before.mappings - 1, pages: before.pages - 1 });
    backend?.failing.clear();
    guest.mapPages(guest.low.base, 0, 1);
    take(guest).close();
    guest.finish();
  });

  test('a handle keeps what the vGPU owns of its GPU, and the hypervisor is told', () => {
    let backend: RecordingBackend | undefined;
    const guest = show({
      hypervisor: (parts) => {
        backend = new RecordingBackend(parts);
        return backend;
      },
    });
    const [plane, second] = [take(guest), take(guest)];
    assert.deepEqual(backend?.take().slice(-1), ['hold']);
    guest.finish();
    guest.device.remove();
    assert.equal(guest.driver.device('vgpu'), guest.device);
    assert.equal(guest.driver.available('V5_8'), 5);
    plane.close();
    assert.equal(guest.driver.available('V5_8'), 5);
    second.close();
    assert.deepEqual([guest.driver.available('V5_8'), guest.driver.device('vgpu')], [6, undefined]);
    assert.deepEqual(backend?.take().slice(-1), ['let go']);
  });

  test('leftovers name the buffer that held a page', () => {
    const reports: string[] = [];
    const guest = show({
      onLeftovers: ({ leftovers }) => reports.push(...leftovers.map(({ gfn, refs }) => `${gfn}:${refs}`)),
      quirks: ['cache-destroyed-first'],
    });
    const plane = take(guest);
    clear(guest);
    guest.finish();
    assert.deepEqual(reports, ['10:1', '11:1', '12:1', '13:1']);
    plane.close();
  });
});
