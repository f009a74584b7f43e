import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FENCE_BASE, GEN9_RULES, PVINFO, REGION, RegisterFile, RegisterRules } from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const dword = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const NOWHERE = 0x5000;
const RULES = new RegisterRules([
  { first: 0x100, last: 0x104, masked: true },
  { first: 0x200, last: 0x200, readOnly: 0xffff0000 },
  { first: 0x300, last: 0x300, readOnly: 0xffffffff },
  { first: 0x400, last: 0x404, unaligned: true },
]);

describe('rules', () => {
  const cases: readonly (readonly [what: string, offset: number, before: number, written: number, after: number])[] = [
    ['memory', NOWHERE, 5, 0x12345678, 0x12345678],
    ['masked: bits that are named', 0x100, 0x00f0, 0x00ff_000f, 0x000f],
    ['masked: bits that are not named', 0x104, 0x00f0, 0x000f_ffff, 0x00ff],
    ['masked: no mask changes nothing', 0x104, 0x00f0, 0xffff, 0x00f0],
    ['read-only bits', 0x200, 0xabcd_0000, 0x1234_5678, 0xabcd_5678],
    ['read-only', 0x300, 0x11, 0x22, 0x11],
  ];
  for (const [what, offset, before, written, after] of cases) {
    test(what, () => {
      const registers = new RegisterFile(RULES);
      registers.set(offset, before);
      registers.write(offset, dword(written));
      assert.equal(registers.get(offset), after);
    });
  }

  test('a behaviour gets what the rules leave, and stores itself', () => {
    const registers = new RegisterFile(RULES);
    const heard: number[] = [];
    registers.set(0x200, 0xabcd_0000);
    for (const offset of [0x100, 0x200, 0x300]) registers.define(offset, { write: (value) => heard.push(value) });
    for (const offset of [0x100, 0x200, 0x300]) registers.write(offset, dword(0xffff_1234));
    assert.deepEqual([heard, registers.get(0x100)], [[0xffff_1234, 0xabcd_1234], 0]);
  });

  test('8 bytes are two registers, the lower one first', () => {
    const registers = new RegisterFile(RULES);
    const heard: [number, number][] = [];
    for (const offset of [0x500, 0x504]) registers.define(offset, { write: (value) => heard.push([offset, value]) });
    registers.write(0x500, new Uint8Array([1, 0, 0, 0, 2, 0, 0, 0]));
    assert.deepEqual(heard, [
      [0x500, 1],
      [0x504, 2],
    ]);
  });

  test('a part of a register is merged with the rest', () => {
    const registers = new RegisterFile(RULES);
    registers.set(0x100, 0xff);
    registers.write(0x102, new Uint8Array([0x0f, 0]));
    assert.equal(registers.get(0x100), 0xff, 'the named bits take the lower half as it stands');
    registers.set(NOWHERE, 0x11223344);
    registers.write(NOWHERE + 1, new Uint8Array([0xaa]));
    assert.equal(registers.get(NOWHERE), 0x1122aa44);
  });

  test('what may be accessed unaligned may cross registers', () => {
    const registers = new RegisterFile(RULES);
    registers.write(0x402, new Uint8Array([1, 2, 3, 4]));
    const back = new Uint8Array(4);
    registers.read(0x402, back);
    assert.deepEqual([[...back], registers.get(0x400), registers.get(0x404)], [[1, 2, 3, 4], 0x02010000, 0x0403]);
  });

  const refused: readonly (readonly [offset: number, length: number])[] = [
    [NOWHERE + 1, 2],
    [NOWHERE + 2, 4],
    [NOWHERE + 4, 8],
    [NOWHERE, 3],
    [NOWHERE, 0],
    [NOWHERE, 16],
    [2 * 1024 * 1024, 4],
    [2 * 1024 * 1024 - 4, 8],
    [-4, 4],
  ];
  for (const [offset, length] of refused) {
    test(`${length} bytes at ${offset} are refused`, () => {
      const registers = new RegisterFile(RULES);
      const error = { name: 'GVT_MMIO_ACCESS', errno: 'EINVAL' };
      assert.throws(() => registers.read(offset, new Uint8Array(length)), error);
      assert.throws(() => registers.write(offset, new Uint8Array(length)), error);
    });
  }

  test('a behaviour that refuses a read leaves zeros', () => {
    const registers = new RegisterFile(RULES);
    registers.define(NOWHERE, { read: () => assert.fail('no') });
    const into = new Uint8Array(4).fill(9);
    assert.throws(() => registers.read(NOWHERE, into), /no/);
    assert.deepEqual([...into], [0, 0, 0, 0]);
  });

  test('no two rules of the generation name the same register', () => {
    const seen = new Set<number>();
    for (const { first, last } of GEN9_RULES) {
      for (let offset = first; offset <= last; offset += 4) {
        assert.ok(!seen.has(offset), `0x${offset.toString(16)} is named twice`);
        seen.add(offset);
      }
    }
  });
});

describe('the registers of a vGPU', () => {
  test('a chicken register is written with a mask, hot plug status cannot be', () => {
    const guest = new FakeGuest();
    guest.write32(0x7300, 0x0010_0010);
    guest.write32(0x7300, 0x0001_0001);
    assert.equal(guest.read32(0x7300), 0x11);
    const status = guest.read32(0xc4030) & 0x03030303;
    guest.write32(0xc4030, 0xffffffff);
    assert.equal(guest.read32(0xc4030) & 0x03030303, status);
    guest.finish();
  });

  for (const base of [0x2000, 0x12000, 0x1a000, 0x1c000, 0x22000]) {
    test(`status and buffer of the engine at 0x${base.toString(16)} are the device's`, () => {
      const guest = new FakeGuest();
      for (const offset of [0x234, 0x238, 0x370, 0x39c]) {
        const before = guest.read32(base + offset);
        guest.write32(base + offset, ~before >>> 0);
        assert.equal(guest.read32(base + offset), before);
      }
      guest.finish();
    });
  }
});

describe('fences', () => {
  const fence = (n: number) => FENCE_BASE + n * 8;
  const refused = { name: 'GVT_REGION_FAULT', errno: 'EFAULT' };

  test("the vGPU's own are memory", () => {
    const guest = new FakeGuest();
    guest.write32(fence(3), 0x1000);
    guest.write32(fence(3) + 4, 0x2000);
    assert.deepEqual(
      [guest.read32(fence(3)), guest.read32(fence(3) + 4), guest.device.failsafe],
      [0x1000, 0x2000, undefined],
    );
    guest.device.reset();
    assert.equal(guest.read32(fence(3)), 0);
    guest.finish();
  });

  for (const n of [4, 31]) {
    test(`fence ${n} is refused to a guest that knows where it runs`, () => {
      const guest = new FakeGuest();
      guest.read32(PVINFO.FENCES);
      const into = new Uint8Array(4).fill(9);
      assert.throws(() => guest.device.readRegion(REGION.BAR0, fence(n), into), refused);
      assert.throws(() => guest.write32(fence(n) + 4, 1), refused);
      assert.deepEqual([[...into], guest.device.failsafe], [[0, 0, 0, 0], undefined]);
      guest.finish();
    });

    test(`fence ${n} puts a guest that does not into failsafe mode, in which it is memory`, () => {
      const guest = new FakeGuest();
      assert.throws(() => guest.write32(fence(n), 1), refused);
      assert.match(guest.device.failsafe ?? '', /fence/);
      guest.write32(fence(n), 7);
      assert.equal(guest.read32(fence(n)), 7);
      guest.device.reset();
      assert.equal(guest.device.failsafe, undefined);
      guest.finish();
    });
  }
});
