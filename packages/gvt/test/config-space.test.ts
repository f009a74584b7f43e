import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CONFIG, REGION } from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions } from './fake-guest.js';
import { RecordingBackend } from './recording-backend.js';

const MEMORY = 2;

/** A guest whose hypervisor traps BAR0 and maps the aperture, and its registers of config space. */
function start(options: FakeGuestOptions = {}) {
  let backend: RecordingBackend | undefined;
  const guest = new FakeGuest({
    ...options,
    hypervisor: (parts) => {
      backend = new RecordingBackend(parts);
      return backend;
    },
  });
  assert.ok(backend);
  assert.deepEqual(backend.take(), ['opregion 8192', 'edid 3 128', 'attach']);
  const write = (offset: number, value: number) => guest.write32(offset, value, REGION.CONFIG);
  const read = (offset: number) => guest.read32(offset, REGION.CONFIG);
  const write16 = (offset: number, value: number) =>
    guest.device.writeRegion(REGION.CONFIG, offset, Uint8Array.of(value & 0xff, value >> 8));
  const { low } = guest;
  return { guest, backend, write, write16, read, low };
}

describe('config space places its windows', () => {
  test('a BAR is trapped while memory decoding is on; a move takes the old place away first', () => {
    const { guest, backend, write, write16, low } = start();
    const pages = (low.size / 4096).toString(16);
    const first = (base: number) => (base / 4096 + low.base / 4096).toString(16);
    write(CONFIG.BAR0, 0xf0000000);
    write(CONFIG.BAR2, 0xc0000000);
    assert.deepEqual(backend.take(), []);
    write16(CONFIG.COMMAND, MEMORY);
    assert.deepEqual(backend.take(), ['trap f0000000..f0ffffff', `map ${first(0xc0000000)}+${pages}`]);
    write16(CONFIG.COMMAND, MEMORY | 4);
    assert.deepEqual(backend.take(), []);
    write(CONFIG.BAR0, 0xe0000000);
    assert.deepEqual(backend.take(), ['untrap f0000000..f0ffffff', 'trap e0000000..e0ffffff']);
    write(CONFIG.BAR0 + 4, 1);
    assert.deepEqual(backend.take(), ['untrap e0000000..e0ffffff', 'trap 1e0000000..1e0ffffff']);
    write16(CONFIG.COMMAND, 0);
    assert.deepEqual(backend.take(), ['untrap 1e0000000..1e0ffffff', `unmap ${first(0xc0000000)}+${pages}`]);
    guest.finish();
  });

  test('a BAR that is being sized is nowhere, whichever half is asked', () => {
    const { guest, backend, write, write16, read } = start();
    write(CONFIG.BAR0, 0xf0000000);
    write16(CONFIG.COMMAND, MEMORY);
    backend.take();
    write(CONFIG.BAR0, 0xffffffff);
    assert.equal(read(CONFIG.BAR0), 0xff000004);
    assert.deepEqual(backend.take(), ['untrap f0000000..f0ffffff']);
    write(CONFIG.BAR0 + 4, 0xffffffff);
    assert.equal(read(CONFIG.BAR0 + 4), 0xffffffff);
    write(CONFIG.BAR0, 0xf0000000);
    assert.deepEqual(backend.take(), []);
    write(CONFIG.BAR0 + 4, 0);
    assert.deepEqual(backend.take(), ['trap f0000000..f0ffffff']);
    guest.finish();
  });

  test('a reset and a close take the places away', () => {
    for (const end of ['reset', 'close'] as const) {
      const { guest, backend, write16, read } = start();
      write16(CONFIG.COMMAND, MEMORY);
      assert.equal(backend.take().length, 2);
      guest.device[end]();
      assert.deepEqual(
        backend.take().map((call) => call.split(' ')[0]),
        ['untrap', 'unmap'],
      );
      assert.equal(read(CONFIG.COMMAND), 0x00100000);
      if (end === 'reset') guest.finish();
    }
  });

  test('a backend that fails lets the write fail; the place is not taken', () => {
    const { guest, backend, write16 } = start();
    backend.failing.add('setTrapArea');
    assert.throws(() => write16(CONFIG.COMMAND, MEMORY), { name: 'GVT_NO_GUEST', errno: 'ESRCH' });
    backend.failing.clear();
    write16(CONFIG.COMMAND, MEMORY);
    assert.deepEqual(
      backend.take().map((call) => call.split(' ')[0]),
      ['trap', 'map'],
    );
    guest.finish();
  });
});

describe('config space registers', () => {
  test('COMMAND and STATUS may be restored by one dword', () => {
    const { guest, backend, write, read } = start();
    write(CONFIG.COMMAND, 0xffff0000 | MEMORY);
    assert.equal(read(CONFIG.COMMAND), 0x00100002);
    assert.equal(backend.take()[0], 'trap 0..ffffff');
    guest.finish();
  });

  const registers: readonly (readonly [what: string, offset: number, value: number, got: number])[] = [
    ['COMMAND', CONFIG.COMMAND, 0xffff, 0x001007ff],
    ['the cache line size, but not the latency timer', 0x0c, 0xffffffff, 0xff],
    ['the interrupt line, but not the pin', 0x3c, 0xffffffff, 0x1ff],
    ['the size of a ROM that there is not', CONFIG.ROM, 0xfffff800, 0],
    ['the size of a ROM with its enable bit', CONFIG.ROM, 0xffffffff, 0],
    ['a ROM address', CONFIG.ROM, 0xc0000801, 0xc0000801],
    ['SWSCI keeps nothing', CONFIG.SWSCI, 0xffffffff, 0],
    ['the address of the OpRegion', CONFIG.ASLS, 0x7fff0000, 0x7fff0000],
    ['GMCH control', CONFIG.GMCH_CTL, 0xffff, 0xc0],
    ['the power state alone', CONFIG.PMCSR, 0xffffffff, 3],
    ['a BAR that there is not', 0x20, 0xffffffff, 0],
    ['vendor and device', 0, 0, 0x19128086],
  ];
  for (const [what, offset, value, got] of registers) {
    test(`writes to ${what}`, () => {
      const { guest, write, read } = start();
      write(offset, value);
      assert.equal(read(offset), got);
      guest.finish();
    });
  }

  test('a primary display has class VGA', () => {
    const { guest, read } = start({ primary: true });
    assert.equal(read(8), 0x03000006);
    guest.finish();
  });

  const refused: readonly (readonly [what: string, offset: number, length: number, name: string])[] = [
    ['5 bytes', 0, 5, 'GVT_CONFIG_ACCESS'],
    ['8 bytes at a BAR', CONFIG.BAR0, 8, 'GVT_CONFIG_ACCESS'],
    ['4 bytes over the end', 4094, 4, 'GVT_OUT_OF_REGION'],
  ];
  for (const [what, offset, length, name] of refused) {
    test(`refuses ${what}`, () => {
      const { guest } = start();
      const write = () => guest.device.writeRegion(REGION.CONFIG, offset, new Uint8Array(length));
      assert.throws(write, { name, errno: 'EINVAL' });
      guest.finish();
    });
  }
});
