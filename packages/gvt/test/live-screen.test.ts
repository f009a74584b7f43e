import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  CONFIG,
  CURSOR,
  DISPLAY,
  FRAME_PERIOD,
  INTERRUPT,
  type LiveFrame,
  MASTER_ENABLE,
  PIPE,
  PIPE_ACTIVE,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  REGION,
} from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
const PIPE_A = { IMR: 0x44404, IIR: 0x44408, IER: 0x4440c };
const SECOND = 1000;

/** A picture of 16 by 16 in one page (guest frame 5), pipe on. */
function show(): FakeGuest {
  const guest = new FakeGuest();
  guest.mapPages(guest.low.base, 5, 4);
  guest.write32(DISPLAY.PIPESRC, (15 << 16) | 15);
  guest.write32(DISPLAY.PLANE_STRIDE, 1);
  guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
  guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
  guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
  return guest;
}

function openInterrupt(guest: FakeGuest): void {
  guest.device.writeRegion(REGION.CONFIG, CONFIG.MSI_CONTROL, Uint8Array.of(1, 0));
  guest.write32(PIPE_A.IMR, 0xfffffffe);
  guest.write32(PIPE_A.IER, 1);
  guest.write32(INTERRUPT.MASTER, MASTER_ENABLE);
}

describe('the vertical blank', () => {
  test('comes 60 times a second while the pipe runs and the guest lets it through', () => {
    const guest = show();
    guest.clock.advance(SECOND);
    assert.deepEqual([guest.irqs.length, guest.device.display.vblank.ticking], [0, false]);
    openInterrupt(guest);
    assert.equal(guest.clock.waiting, 1);
    guest.clock.advance(SECOND + 0.01);
    assert.deepEqual([guest.irqs.length, guest.read32(PIPE_A.IIR)], [60, 1]);
    guest.write32(PIPE_A.IIR, 1);
    guest.write32(PIPE_A.IMR, 0xffffffff);
    assert.deepEqual([guest.clock.waiting, guest.device.display.vblank.ticking], [0, false]);
    guest.clock.advance(SECOND);
    assert.equal(guest.irqs.length, 60);
    guest.finish();
  });

  test('a pipe that is off gives none, and has no timer', () => {
    const guest = show();
    openInterrupt(guest);
    guest.write32(DISPLAY.TRANSCONF, 0);
    assert.deepEqual([guest.read32(DISPLAY.TRANSCONF), guest.clock.waiting], [0, 0]);
    guest.clock.advance(SECOND);
    assert.equal(guest.irqs.length, 0);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    assert.equal(guest.read32(DISPLAY.TRANSCONF), (PIPE_ENABLE | PIPE_ACTIVE) >>> 0);
    guest.clock.advance(FRAME_PERIOD);
    assert.equal(guest.irqs.length, 1);
    guest.finish();
  });

  test('frames count by the clock, whether anybody looks or not, and stand while the pipe is off', () => {
    const guest = show();
    guest.clock.advance(SECOND);
    assert.equal(guest.read32(PIPE.FRAME_COUNT), 60);
    guest.clock.advance(FRAME_PERIOD / 2);
    const line = guest.read32(PIPE.SCANLINE);
    assert.ok(line >= 7 && line <= 9, `line ${line}`);
    guest.write32(DISPLAY.TRANSCONF, 0);
    guest.clock.advance(SECOND);
    assert.deepEqual([guest.read32(PIPE.FRAME_COUNT), guest.read32(PIPE.SCANLINE)], [60, 0]);
    guest.write32(PIPE.FRAME_COUNT, 7);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    guest.clock.advance(FRAME_PERIOD);
    assert.equal(guest.read32(PIPE.FRAME_COUNT), 61);
    guest.device.reset();
    assert.equal(guest.read32(PIPE.FRAME_COUNT), 0);
    guest.finish();
  });

  test('a flip is done at the next frame, once; a guest that masks it does not hear of it', () => {
    const guest = show();
    guest.write32(PIPE_A.IMR, 0xfffffff7);
    assert.equal(guest.clock.waiting, 1, 'of the surface that was set before');
    guest.clock.advance(FRAME_PERIOD);
    assert.deepEqual([guest.read32(PIPE_A.IIR), guest.clock.waiting], [8, 0]);
    guest.write32(PIPE_A.IIR, 8);
    guest.clock.advance(SECOND);
    assert.equal(guest.read32(PIPE_A.IIR), 0);
    guest.write32(DISPLAY.PLANE_SURF, guest.low.base + PAGE);
    assert.equal(guest.read32(PIPE_A.IIR), 0);
    guest.clock.advance(FRAME_PERIOD + 0.01);
    assert.equal(guest.read32(PIPE_A.IIR), 8);
    guest.write32(PIPE_A.IIR, 8);
    guest.write32(PIPE_A.IMR, 0xffffffff);
    guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
    assert.equal(guest.clock.waiting, 0);
    guest.finish();
  });

  test('reset and close end the timer', () => {
    const guest = show();
    openInterrupt(guest);
    guest.device.reset();
    assert.equal(guest.clock.waiting, 0);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    openInterrupt(guest);
    assert.equal(guest.clock.waiting, 1);
    guest.finish();
  });
});

/** The next picture, which must be there already. */
async function next(stream: AsyncIterator<LiveFrame>): Promise<LiveFrame> {
  const { done, value } = await stream.next();
  assert.equal(done, false);
  return value;
}

describe('a live screen', () => {
  test('begins with the picture that there is, then gives what has changed', async () => {
    const guest = show();
    guest.poke(5, 0, [0x00123456]);
    const stream = guest.device.frames();
    const first = await next(stream);
    assert.deepEqual([first.sequence, first.damage], [0, { x1: 0, y1: 0, x2: 16, y2: 16 }]);
    assert.deepEqual([...first.frame.pixels.subarray(0, 3)], [0x12, 0x34, 0x56]);
    guest.poke(5, 7 * 64 + 3 * 4, [0x00ffffff, 0x00ffffff]);
    guest.poke(5, 9 * 64 + 1 * 4, [0x00ffffff]);
    guest.clock.advance(FRAME_PERIOD);
    const second = await next(stream);
    assert.deepEqual([second.sequence, second.damage], [1, { x1: 1, y1: 7, x2: 5, y2: 10 }]);
    assert.equal(second.time, FRAME_PERIOD);
    assert.deepEqual(second.frame, guest.device.frame());
    await stream.return?.();
    assert.equal(guest.clock.waiting, 0);
    guest.finish();
  });

  test('gives nothing while nothing changes, and waits', async () => {
    const guest = show();
    const stream = guest.device.frames();
    await next(stream);
    const waiting = stream.next();
    guest.clock.advance(SECOND);
    guest.poke(5, 0, [1]);
    guest.clock.advance(FRAME_PERIOD);
    const { value } = await waiting;
    assert.deepEqual(value.damage, { x1: 0, y1: 0, x2: 1, y2: 1 });
    assert.equal(value.sequence, 1);
    await stream.return?.();
    guest.finish();
  });

  test('who is slow misses pictures, never damage', async () => {
    const guest = show();
    const stream = guest.device.frames();
    await next(stream);
    for (const [x, y] of [
      [2, 3],
      [9, 12],
    ] as const) {
      guest.poke(5, y * 64 + x * 4, [0x00ffffff]);
      guest.clock.advance(FRAME_PERIOD);
    }
    const late = await next(stream);
    assert.deepEqual([late.sequence, late.damage], [1, { x1: 2, y1: 3, x2: 10, y2: 13 }]);
    assert.equal(late.frame.pixels[(12 * 16 + 9) * 4], 255);
    await stream.return?.();
    guest.finish();
  });

  test('a cursor that moves damages where it was and where it is', async () => {
    const guest = show();
    guest.mapPages(guest.low.base + 16 * PAGE, 20, 4);
    guest.poke(20, 0, [0xffffffff]);
    guest.write32(CURSOR.BASE, guest.low.base + 16 * PAGE);
    guest.write32(CURSOR.POSITION, (12 << 16) | 13);
    guest.write32(CURSOR.CONTROL, 0x27);
    const stream = guest.device.frames();
    const first = await next(stream);
    assert.equal(first.frame.pixels[(12 * 16 + 13) * 4], 255);
    guest.write32(CURSOR.POSITION, (14 << 16) | 15);
    guest.clock.advance(FRAME_PERIOD);
    const moved = await next(stream);
    assert.deepEqual(moved.damage, { x1: 13, y1: 12, x2: 16, y2: 16 });
    assert.deepEqual([moved.frame.pixels[(12 * 16 + 13) * 4], moved.frame.pixels[(14 * 16 + 15) * 4]], [0, 255]);
    guest.write32(CURSOR.CONTROL, 0);
    guest.clock.advance(FRAME_PERIOD);
    assert.deepEqual((await next(stream)).damage, { x1: 15, y1: 14, x2: 16, y2: 16 });
    await stream.return?.();
    guest.finish();
  });

  test('goes dark with the pipe, tells why a plane cannot be shown, and comes back whole in a new size', async () => {
    const guest = show();
    const stream = guest.device.frames();
    await next(stream);
    guest.write32(DISPLAY.TRANSCONF, 0);
    const dark = await next(stream);
    assert.deepEqual([dark.frame.width, dark.problem], [0, undefined]);
    guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | (1 << 24)) >>> 0);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    guest.clock.advance(FRAME_PERIOD);
    const refused = await next(stream);
    assert.deepEqual([refused.frame.width, refused.problem?.name], [0, 'GVT_BAD_PLANE']);
    guest.write32(DISPLAY.PIPESRC, (7 << 16) | 3);
    guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
    guest.clock.advance(FRAME_PERIOD);
    const back = await next(stream);
    assert.deepEqual([back.problem, back.damage], [undefined, { x1: 0, y1: 0, x2: 8, y2: 4 }]);
    await stream.return?.();
    guest.finish();
  });

  test('a pipe that is switched off and on again and again gives no more pictures than there are frames', async () => {
    const guest = show();
    const stream = guest.device.frames();
    const pictures = Array.from({ length: 300 }, () => stream.next());
    for (let times = 0; times < 100; times++)
      for (const value of [0, PIPE_ENABLE]) guest.write32(DISPLAY.TRANSCONF, value);
    guest.clock.advance(FRAME_PERIOD);
    await stream.return?.();
    const widths = (await Promise.all(pictures)).flatMap(({ done, value }) =>
      done === true ? [] : [value.frame.width],
    );
    assert.deepEqual(widths, [16, 0, 16]);
    guest.finish();
  });

  test('several watch one screen; each gets a whole picture first; the last one to leave ends the timer', async () => {
    const guest = show();
    const [one, other] = [guest.device.frames(), guest.device.frames()];
    await next(one);
    guest.poke(5, 0, [0x00ff0000]);
    guest.clock.advance(FRAME_PERIOD);
    const third = guest.device.frames();
    const [a, b, c] = [await next(one), await next(other), await next(third)];
    assert.deepEqual([a.damage.x2, b.damage.x2, c.damage.x2], [1, 16, 16]);
    for (const picture of [a, b, c]) assert.equal(picture.frame.pixels[0], 255);
    await one.return?.();
    await other.return?.();
    assert.equal(guest.clock.waiting, 1);
    await third.return?.();
    assert.equal(guest.clock.waiting, 0);
    guest.finish();
  });

  test('memory that goes away turns black; poison is never seen', async () => {
    const guest = show();
    guest.poke(5, 0, [0x00ffffff]);
    const stream = guest.device.frames();
    assert.equal((await next(stream)).frame.pixels[0], 255);
    guest.unmap(5, 1);
    guest.clock.advance(FRAME_PERIOD);
    const gone = await next(stream);
    assert.ok(gone.frame.pixels.every((byte, index) => byte === (index % 4 === 3 ? 255 : 0)));
    await stream.return?.();
    guest.finish();
  });

  test('ends when the vGPU closes, after what it holds', async () => {
    const guest = show();
    const stream = guest.device.frames();
    const seen: number[] = [];
    const watching = (async () => {
      for await (const { sequence } of stream) seen.push(sequence);
    })();
    guest.finish();
    await watching;
    assert.deepEqual(seen[0], 0);
    assert.equal((await stream.next()).done, true);
  });

  test('a loop that is left stops watching', async () => {
    const guest = show();
    for await (const { frame } of guest.device.frames()) {
      assert.equal(frame.width, 16);
      break;
    }
    assert.equal(guest.clock.waiting, 0);
    guest.finish();
  });
});
