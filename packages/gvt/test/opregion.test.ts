import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PinionError } from '@pinion/core';
import { type BackendParts, CONFIG, KvmBackend, OPREGION, REGION } from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const PLACE = 0x5000;
const TRIGGER = 0x8001;

/** A hypervisor whose guest has one page at PLACE, and nothing else. */
class OnePageGuest extends KvmBackend {
  readonly page = new DataView(new ArrayBuffer(4096));

  override readGuest(gpa: bigint, into: Uint8Array): void {
    into.set(new Uint8Array(this.page.buffer, this.#check(gpa), into.length));
  }

  override writeGuest(gpa: bigint, from: Uint8Array): void {
    new Uint8Array(this.page.buffer).set(from, this.#check(gpa));
  }

  #check(gpa: bigint): number {
    const offset = Number(gpa) - PLACE;
    if (offset >= 0 && offset < 4096) return offset;
    throw new PinionError('TEST_HOLE', 'EFAULT', 'nothing there');
  }
}

function start() {
  let backend: OnePageGuest | undefined;
  const hypervisor = (parts: BackendParts) => {
    backend = new OnePageGuest(parts);
    return backend;
  };
  const guest = new FakeGuest({ hypervisor });
  assert.ok(backend);
  const config = (offset: number, value: number) => guest.write32(offset, value, REGION.CONFIG);
  const bytes = new Uint8Array(8192);
  guest.device.readRegion(REGION.OPREGION, 0, bytes);
  return { guest, page: backend.page, config, view: new DataView(bytes.buffer), bytes };
}

const text = (bytes: Uint8Array, at: number, length: number): string =>
  String.fromCharCode(...bytes.subarray(at, at + length));

describe('the OpRegion', () => {
  test('has the header, the lid and the mailbox that i915 looks for', () => {
    const { guest, view, bytes } = start();
    assert.equal(text(bytes, 0, 16), 'IntelGraphicsMem');
    const fields = [view.getUint32(0x10, true), view.getUint32(0x14, true), view.getUint32(0x58, true), bytes[0x1ac]];
    assert.deepEqual(fields, [8, 0x02000000, 8, 3]);
    guest.finish();
  });

  test('has a video BIOS table whose sizes, signatures and sum are right', () => {
    const { guest, view, bytes } = start();
    const vbt = OPREGION.VBT;
    const size = view.getUint16(vbt + 24, true);
    const data = vbt + view.getUint32(vbt + 28, true);
    assert.equal(text(bytes, vbt, 4), '$VBT');
    assert.equal(text(bytes, data, 16), 'BIOS_DATA_BLOCK ');
    assert.equal(view.getUint16(data + 16, true), 186);
    assert.equal(view.getUint16(data + 20, true), size - (data - vbt));
    assert.equal(bytes.subarray(vbt, vbt + size).reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
    guest.finish();
  });

  test('its general definitions have one DisplayPort child of 33 bytes for each of ports A to D', () => {
    const { guest, view, bytes } = start();
    const block = OPREGION.VBT + 48 + 22;
    assert.deepEqual([bytes[block], view.getUint16(block + 1, true), bytes[block + 7]], [2, 5 + 4 * 33, 33]);
    const children = Array.from({ length: 4 }, (_, index) => block + 8 + index * 33).map((child) => [
      view.getUint16(child, true),
      view.getUint16(child + 2, true),
      bytes[child + 16],
      bytes[child + 25],
    ]);
    assert.deepEqual(children, [
      [0x04, 0x68c6, 10, 0x40],
      [0x40, 0x68c6, 7, 0x10],
      [0x20, 0x68c6, 8, 0x20],
      [0x10, 0x68c6, 9, 0x30],
    ]);
    guest.finish();
  });

  test('is read-only', () => {
    const { guest } = start();
    const write = () => guest.write32(0, 1, REGION.OPREGION);
    assert.throws(write, { name: 'GVT_READ_ONLY_REGION', errno: 'EINVAL' });
    guest.finish();
  });
});

describe('services of the OpRegion', () => {
  const calls: readonly (readonly [what: string, scic: number, left: number, parm: number])[] = [
    ['supported calls of the BIOS data', 0x09, 0, 0],
    ['requested callbacks', 0x09 | (1 << 8), 0, 0],
    ['supported callbacks', 0x0d, 0, 0],
    ['the boot display', 0xe9 | (5 << 8), 0x508, 7],
    ['a callback', 0xed | (1 << 8), 0x10c, 7],
    ['a reserved function', 0xe1, 0, 7],
  ];
  for (const [what, scic, left, parm] of calls) {
    test(`${what}`, () => {
      const { guest, page, config } = start();
      config(CONFIG.ASLS, PLACE);
      page.setUint32(OPREGION.SCIC, scic, true);
      page.setUint32(OPREGION.PARM, 7, true);
      config(CONFIG.SWSCI, TRIGGER);
      assert.deepEqual([page.getUint32(OPREGION.SCIC, true), page.getUint32(OPREGION.PARM, true)], [left, parm]);
      guest.finish();
    });
  }

  test('nothing happens without trigger, for an SMI, or before the guest has an OpRegion', () => {
    const { guest, page, config } = start();
    page.setUint32(OPREGION.SCIC, 9, true);
    config(CONFIG.SWSCI, TRIGGER);
    assert.match(guest.log.warnings.join(), /before it has one/);
    config(CONFIG.ASLS, PLACE);
    config(CONFIG.SWSCI, 0x8000);
    config(CONFIG.SWSCI, 1);
    assert.equal(page.getUint32(OPREGION.SCIC, true), 9);
    guest.device.reset();
    config(CONFIG.SWSCI, TRIGGER);
    assert.equal(page.getUint32(OPREGION.SCIC, true), 9);
    guest.finish();
  });

  test('an OpRegion where the guest has no memory lets the write fail', () => {
    const { guest, config } = start();
    config(CONFIG.ASLS, 0x7000_0000);
    assert.throws(() => config(CONFIG.SWSCI, TRIGGER), { name: 'TEST_HOLE', errno: 'EFAULT' });
    guest.finish();
  });
});
