import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PinionError } from '@pinion/core';
import {
  CURSOR,
  DISPLAY,
  DP_AUX,
  DRM_PLANE,
  FRAME_PERIOD,
  GMBUS,
  PLANE_OFFSET,
  PLANE_QUERY,
  REGION,
} from '@pinion/gvt';
import fc from 'fast-check';
import { FakeGuest } from './fake-guest.js';

/** Everything that the display and the monitor's channels listen to. */
const REGISTERS: readonly number[] = [
  ...Object.values(DISPLAY),
  ...Object.values(CURSOR),
  ...Object.values(GMBUS),
  PLANE_OFFSET,
  ...[0, 4, 8, 12, 16, 20].map((at) => DP_AUX.CONTROL + 3 * DP_AUX.STRIDE + at),
];

/** Values that mean something: all kinds, few bits, addresses of the slice, and pictures of a sane size. */
const value = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  fc.nat(31).map((bit) => 2 ** bit),
  fc.integer({ min: 0, max: 0xf }).map((bits) => (0x8000_0000 | (bits << 24)) >>> 0),
  fc.nat(2000).map((page) => 0x0800_0000 + page * 4096),
  fc.record({ width: fc.nat(200), height: fc.nat(100) }).map(({ width, height }) => ((width << 16) | height) >>> 0),
);
const writes = fc.array(fc.tuple(fc.constantFrom(...REGISTERS), value), { maxLength: 30 });

/** What may be refused is refused by name. */
function attempt(action: () => void): void {
  try {
    action();
  } catch (cause) {
    assert.ok(cause instanceof PinionError, String(cause));
  }
}

describe('whatever a guest writes to its display', () => {
  test('looking at it, exporting it and watching it ends, with a picture or a named error, and holds nothing', async () => {
    await fc.assert(
      fc.asyncProperty(writes, async (script) => {
        const guest = new FakeGuest();
        guest.mapPages(guest.low.base, 0, 64);
        const stream = guest.device.frames();
        for (const [register, word] of script) {
          guest.write32(register, word);
          guest.read32(register);
        }
        attempt(() => {
          const { width, height, pixels } = guest.device.frame();
          assert.equal(pixels.length, width * height * 4);
        });
        for (const planeType of [DRM_PLANE.PRIMARY, DRM_PLANE.CURSOR]) {
          attempt(() => {
            const { bufferId, plane } = guest.device.queryPlane({ flags: PLANE_QUERY.DMABUF, planeType });
            if (plane !== undefined) guest.device.getBuffer(bufferId).close();
          });
        }
        guest.clock.advance(FRAME_PERIOD * 2);
        const { value: picture } = await stream.next();
        assert.equal(picture.frame.pixels.length, picture.frame.width * picture.frame.height * 4);
        await stream.return?.();
        assert.deepEqual([guest.device.exported.pages, guest.pins.pages], [0, 64]);
        guest.finish();
      }),
      { numRuns: 60 },
    );
  });

  test('many small pixels are not turned into a huge picture', () => {
    const guest = new FakeGuest({ type: 'V5_2' });
    guest.write32(DISPLAY.TRANSCONF, 0x8000_0000);
    guest.write32(DISPLAY.PIPESRC, (8191 << 16) | 4095);
    guest.write32(DISPLAY.PLANE_STRIDE, 128);
    guest.write32(DISPLAY.PLANE_CTL, 0x8c00_0000);
    guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
    assert.throws(() => guest.device.frame(), { name: 'GVT_BAD_PLANE', errno: 'EINVAL', message: /too many/ });
    guest.finish();
  });

  const edid = fc.tuple(fc.integer({ min: 0, max: 4095 }), fc.uint8Array({ minLength: 1, maxLength: 200 }));
  test('and whatever a VMM writes to the EDID region', () => {
    fc.assert(
      fc.property(fc.array(edid, { maxLength: 20 }), (script) => {
        const guest = new FakeGuest();
        for (const [offset, bytes] of script) {
          attempt(() => guest.device.writeRegion(REGION.EDID, offset, bytes));
          attempt(() => guest.device.readRegion(REGION.EDID, offset, new Uint8Array(bytes.length)));
        }
        assert.equal(guest.device.display.monitor.edid.length, 128);
        guest.finish();
      }),
      { numRuns: 60 },
    );
  });
});
