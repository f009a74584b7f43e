import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  CONFIG,
  DISPLAY,
  DRM_PLANE,
  EDID_REGION,
  edidProblem,
  INTERRUPT,
  LINK_STATE,
  MASTER_ENABLE,
  makeEdid,
  PCH_HOTPLUG,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PLANE_QUERY,
  REGION,
  SDE_ISR,
  SDE_PORT_D,
  SFUSE_STRAP,
} from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions } from './fake-guest.js';

const SDE = { IMR: 0xc4004, IIR: 0xc4008, IER: 0xc400c };

const sizeOf = (edid: Uint8Array): readonly number[] => {
  const at = (index: number) => edid[index] ?? 0;
  return [at(56) | ((at(58) >> 4) << 8), at(59) | ((at(61) >> 4) << 8)];
};

describe('EDID blocks', () => {
  const blocks: readonly (readonly [width: number, height: number, clock: number])[] = [
    [1024, 768, 6500],
    [1920, 1200, 15400],
  ];
  for (const [width, height, clock] of blocks) {
    test(`${width}x${height} is valid and prefers that mode`, () => {
      const edid = makeEdid(width, height);
      assert.equal(edidProblem(edid), undefined);
      assert.deepEqual(sizeOf(edid), [width, height]);
      assert.equal(new DataView(edid.buffer).getUint16(54, true), clock);
      assert.equal(edid.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
    });
  }

  test('standard timings of the larger one are those the reference lists', () => {
    const timings = [...makeEdid(1920, 1200).subarray(38, 54)];
    const wanted = [0xd1, 0xc0, 0x81, 0xc0, 0x81, 0x40, 0x81, 0x80, 0x95, 0x00, 0xa9, 0x40, 0xb3, 0x00, 0x01, 0x01];
    assert.deepEqual(timings, wanted);
  });

  const broken: readonly (readonly [what: string, breakIt: (edid: Uint8Array) => Uint8Array, problem: RegExp])[] = [
    ['too short', (edid) => edid.subarray(1), /127 bytes/],
    ['no header', (edid) => edid.fill(1, 3, 4), /header/],
    ['a wrong sum', (edid) => edid.fill(7, 20, 21), /checksum/],
    ['another version', (edid) => edid.fill(2, 18, 19).fill((edid[127] ?? 0) - 1, 127), /version/],
  ];
  for (const [what, breakIt, problem] of broken) {
    test(`${what} is noticed`, () => assert.match(edidProblem(breakIt(makeEdid(1024, 768))) ?? '', problem));
  }
});

/** A guest whose PCH interrupts are open, and the EDID region of its VMM. */
function start(options: FakeGuestOptions = {}) {
  const guest = new FakeGuest(options);
  guest.device.writeRegion(REGION.CONFIG, CONFIG.MSI_CONTROL, Uint8Array.of(1, 0));
  guest.write32(SDE.IMR, 0);
  guest.write32(SDE.IER, SDE_PORT_D);
  guest.write32(INTERRUPT.MASTER, MASTER_ENABLE);
  const field = (offset: number) => guest.read32(offset, REGION.EDID);
  const set = (offset: number, value: number) => guest.write32(offset, value, REGION.EDID);
  const block = (bytes: Uint8Array) => guest.device.writeRegion(REGION.EDID, EDID_REGION.BLOCK, bytes);
  return { guest, field, set, block };
}

describe('the EDID region', () => {
  test('tells its fields, one by one or all at once', () => {
    const { guest, field } = start({ type: 'V5_4' });
    const wanted = [EDID_REGION.BLOCK, 128, 128, 1920, 1200, LINK_STATE.UP];
    assert.deepEqual(
      [0, 4, 8, 12, 16, 20].map((offset) => field(offset)),
      wanted,
    );
    const all = new Uint8Array(24);
    guest.device.readRegion(REGION.EDID, 0, all);
    assert.deepEqual([...new Uint32Array(all.buffer)], wanted);
    guest.finish();
  });

  test('shows the block of the type', () => {
    const { guest } = start({ type: 'V5_8' });
    const block = new Uint8Array(128);
    guest.device.readRegion(REGION.EDID, EDID_REGION.BLOCK, block);
    assert.deepEqual(block, makeEdid(1024, 768));
    guest.finish();
  });

  test('link down, another block, link up: the guest hears of both and reads the new one', () => {
    const { guest, set, field, block } = start({ type: 'V5_8' });
    set(EDID_REGION.LINK_STATE, LINK_STATE.DOWN);
    assert.deepEqual([guest.read32(SFUSE_STRAP) & 1, guest.read32(SDE_ISR), guest.irqs.length], [0, 0, 1]);
    assert.equal(guest.read32(PCH_HOTPLUG), 3 << 16);
    assert.equal(guest.read32(SDE.IIR), SDE_PORT_D);
    guest.write32(SDE.IIR, SDE_PORT_D);
    block(makeEdid(1920, 1200));
    assert.deepEqual(guest.device.display.monitor.edid, makeEdid(1024, 768));
    set(EDID_REGION.LINK_STATE, LINK_STATE.UP);
    assert.deepEqual([guest.read32(SFUSE_STRAP) & 1, guest.read32(SDE_ISR), guest.irqs.length], [1, SDE_PORT_D, 2]);
    assert.deepEqual(guest.device.display.monitor.edid, makeEdid(1920, 1200));
    assert.equal(field(EDID_REGION.LINK_STATE), LINK_STATE.UP);
    guest.finish();
  });

  test('a guest cannot change the hotplug lines; a reset keeps them', () => {
    const { guest, set } = start();
    guest.write32(SDE_ISR, 0);
    assert.equal(guest.read32(SDE_ISR), SDE_PORT_D);
    set(EDID_REGION.LINK_STATE, LINK_STATE.DOWN);
    guest.device.reset();
    assert.equal(guest.read32(SDE_ISR), 0);
    assert.equal(guest.device.display.monitor.connected, false);
    guest.finish();
  });

  test('a hot plug inside the stream of pictures, between a query and its buffer, disturbs neither', async () => {
    const { guest, set } = start();
    guest.mapPages(guest.low.base, 0, 1);
    guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
    guest.write32(DISPLAY.PIPESRC, (15 << 16) | 15);
    guest.write32(DISPLAY.PLANE_STRIDE, 1);
    guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0);
    guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
    const stream = guest.device.frames();
    const { bufferId } = guest.device.queryPlane({ flags: PLANE_QUERY.DMABUF, planeType: DRM_PLANE.PRIMARY });
    set(EDID_REGION.LINK_STATE, LINK_STATE.DOWN);
    set(EDID_REGION.LINK_STATE, LINK_STATE.UP);
    const plane = guest.device.getBuffer(bufferId);
    assert.deepEqual([plane.state, (await stream.next()).value.frame.width], ['live', 16]);
    plane.close();
    await stream.return?.();
    guest.finish();
  });

  test('a block that is no EDID keeps the link down and the old block', () => {
    const { guest, set, field, block } = start({ type: 'V5_8' });
    set(EDID_REGION.LINK_STATE, LINK_STATE.DOWN);
    block(new Uint8Array(128));
    const up = () => set(EDID_REGION.LINK_STATE, LINK_STATE.UP);
    assert.throws(up, { name: 'GVT_BAD_EDID', errno: 'EINVAL', message: /header/ });
    assert.equal(field(EDID_REGION.LINK_STATE), LINK_STATE.DOWN);
    block(makeEdid(1024, 768));
    set(EDID_REGION.SIZE, 127);
    assert.throws(up, { name: 'GVT_BAD_EDID', errno: 'EINVAL', message: /127 bytes/ });
    set(EDID_REGION.SIZE, 128);
    up();
    assert.equal(guest.device.display.monitor.connected, true);
    guest.finish();
  });

  const refused: readonly (readonly [what: string, offset: number, bytes: Uint8Array, name: string, errno: string])[] =
    [
      ['129 bytes', EDID_REGION.SIZE, Uint8Array.of(129, 0, 0, 0), 'GVT_BAD_EDID', 'EINVAL'],
      ['a third link state', EDID_REGION.LINK_STATE, Uint8Array.of(3, 0, 0, 0), 'GVT_BAD_EDID', 'EINVAL'],
      ['the offset', EDID_REGION.OFFSET, new Uint8Array(4), 'GVT_EDID_READ_ONLY', 'EPERM'],
      ['the largest size', EDID_REGION.MAX_SIZE, new Uint8Array(4), 'GVT_EDID_READ_ONLY', 'EPERM'],
      ['the width', EDID_REGION.MAX_WIDTH, new Uint8Array(4), 'GVT_EDID_READ_ONLY', 'EPERM'],
      ['the height', EDID_REGION.MAX_HEIGHT, new Uint8Array(4), 'GVT_EDID_READ_ONLY', 'EPERM'],
      ['half a field', EDID_REGION.SIZE, new Uint8Array(2), 'GVT_EDID_ACCESS', 'EINVAL'],
      ['between two fields', 6, new Uint8Array(4), 'GVT_EDID_ACCESS', 'EINVAL'],
      ['behind the fields', 24, new Uint8Array(4), 'GVT_EDID_ACCESS', 'EINVAL'],
      ['over the end of the block', EDID_REGION.BLOCK + 127, new Uint8Array(2), 'GVT_EDID_ACCESS', 'EINVAL'],
      ['a block of 129 bytes', EDID_REGION.BLOCK, new Uint8Array(129), 'GVT_EDID_ACCESS', 'EINVAL'],
    ];
  for (const [what, offset, bytes, name, errno] of refused) {
    test(`refuses a write to ${what}`, () => {
      const { guest } = start();
      assert.throws(() => guest.device.writeRegion(REGION.EDID, offset, bytes), { name, errno });
      guest.finish();
    });
  }
});
