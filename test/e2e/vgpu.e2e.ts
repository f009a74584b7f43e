// A vGPU behind a real QEMU: without a guest, one access at a time, and with a Linux guest that drives it from a shell script.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { definePlugin } from '@pinion/core';
import {
  BCS,
  BCS_USER_INTERRUPT,
  createGvtDriver,
  DISPLAY,
  GTT_OFFSET,
  type GvtDevice,
  type GvtDriver,
  INTERRUPT,
  MASTER_ENABLE,
  miFlushStore,
  miUserInterrupt,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PVINFO,
  PVINFO_MAGIC_HIGH,
  PVINFO_MAGIC_LOW,
  xyColorBlt,
} from '@pinion/gvt';
import { CAPABILITY, COMMAND, CONFIG } from '@pinion/pci';
import { LinuxGuest, type QtestClient, vfioUserDevice } from '@pinion/vm';
import { DeviceHouse, type DeviceSpec } from './device-house.js';
import { poll, type QtestFunction, startQtest } from './qtest-machine.js';

const MB = 1 << 20;
const PAGE = 4096;
const PRESENT = 3;
const COLOR = 0xff336699;
const SEQNO = 0x600d;
/** The picture: 64 by 32 pixels of 4 bytes, two pages. */
const SCREEN = { width: 64, height: 32, pages: 2 } as const;
/** The rectangle that is filled. */
const RECT = { x1: 3, y1: 4, x2: 40, y2: 30 } as const;
/** Pages of the vGPU's slice: the ring, where it leaves its number, the picture. */
const SLOT = { ring: 0, status: 1, screen: 2 } as const;

interface Served {
  readonly house: DeviceHouse;
  readonly driver: GvtDriver;
  /** The only vGPU. */
  readonly device: () => GvtDevice;
}

/** One vGPU of a GPU with an aperture of 256 MB, on a socket. */
async function serve(t: Parameters<typeof DeviceHouse.open>[0]): Promise<Served> {
  const driver = createGvtDriver({ apertureMb: 256 });
  const plugin = definePlugin({ name: 'gvt', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
  const spec: DeviceSpec = { name: 'vgpu', plugin, driver: 'gvt', type: 'V5_4' };
  const house = await DeviceHouse.open(t, [spec]);
  const device = () => driver.device('5e2e0000-0000-4000-8000-000000000001') ?? assert.fail('there is a vGPU');
  return { house, driver, device };
}

/** The job: a fill, a number in the status page, an interrupt. `low`: where the slice begins. */
const jobFor = (low: number): readonly number[] =>
  [
    xyColorBlt({ target: { address: low + SLOT.screen * PAGE, pitch: SCREEN.width * 4 }, rect: RECT, color: COLOR }),
    miFlushStore(low + SLOT.status * PAGE, SEQNO),
    miUserInterrupt(),
  ].flat();

/** Registers that start the job, in order; the ring is one page, the tail in bytes. */
const startOf = (low: number, tail: number): readonly (readonly [register: number, value: number])[] => [
  [DISPLAY.PIPESRC, ((SCREEN.width - 1) << 16) | (SCREEN.height - 1)],
  [DISPLAY.PLANE_STRIDE, (SCREEN.width * 4) / 64],
  [DISPLAY.PLANE_CTL, (PLANE_ENABLE | PLANE_FORMAT.XRGB8888) >>> 0],
  [DISPLAY.TRANSCONF, PIPE_ENABLE],
  [DISPLAY.PLANE_SURF, low + SLOT.screen * PAGE],
  [INTERRUPT.IMR, ~BCS_USER_INTERRUPT >>> 0],
  [INTERRUPT.IER, BCS_USER_INTERRUPT],
  [INTERRUPT.MASTER, MASTER_ENABLE],
  [BCS.START, low + SLOT.ring * PAGE],
  [BCS.HEAD, 0],
  [BCS.CTL, 1],
  [BCS.TAIL, tail],
];

const padded = (dwords: readonly number[]): readonly number[] => (dwords.length % 2 === 0 ? dwords : [...dwords, 0]);

/** The colour of every pixel of the picture as the screen shows it: only those inside the rectangle are filled. */
function checkPicture(device: GvtDevice): void {
  const { width, height, pixels } = device.frame();
  assert.deepEqual([width, height], [SCREEN.width, SCREEN.height]);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside = x >= RECT.x1 && x < RECT.x2 && y >= RECT.y1 && y < RECT.y2;
      const at = (y * width + x) * 4;
      const color = [...pixels.subarray(at, at + 4)];
      assert.deepEqual(color, inside ? [0x33, 0x66, 0x99, 0xff] : [0, 0, 0, 0xff], `pixel ${x}, ${y}`);
    }
  }
}

/** The vGPU as something with a CPU's view: registers and table in BAR0. */
class Registers {
  readonly #qtest: QtestClient;
  readonly #bar: number;

  constructor(qtest: QtestClient, bar: number) {
    this.#qtest = qtest;
    this.#bar = bar;
  }

  read(offset: number): Promise<number> {
    return this.#qtest.readRegister(BigInt(this.#bar + offset), 4);
  }

  write(offset: number, value: number): Promise<void> {
    return this.#qtest.writeRegister(BigInt(this.#bar + offset), 4, value);
  }

  /** A table entry in two halves, as a 32-bit guest writes it. */
  async map(graphics: number, guest: number | undefined): Promise<void> {
    const entry = GTT_OFFSET + (graphics / PAGE) * 8;
    await this.write(entry, guest === undefined ? 0 : guest | PRESENT);
    await this.write(entry + 4, 0);
  }
}

/** Sizes a 64-bit BAR as firmware does, then places it at `at`. @returns its low dword after the sizing. */
async function place(pci: QtestFunction, index: number, at: number): Promise<number> {
  const offset = CONFIG.BAR0 + index * 4;
  await pci.writeConfig(offset, 4, 0xffffffff);
  const sized = await pci.readConfig(offset, 4);
  await pci.writeConfig(offset + 4, 4, 0xffffffff);
  assert.equal(await pci.readConfig(offset + 4, 4), 0xffffffff);
  await pci.writeConfig(offset, 4, at);
  await pci.writeConfig(offset + 4, 4, 0);
  assert.equal((await pci.readConfig(offset, 4)) & 0xfffffff0, at | 0);
  return sized;
}

describe('a vGPU behind QEMU, without a guest', () => {
  const BAR0 = 0xe000_0000;
  const BAR2 = 0xc000_0000;
  const MAILBOX = 0x20_0000;
  const MEMORY = 0x30_0000;

  test('has the ids, windows, MSI and power management of a Skylake display', async (t) => {
    const { house } = await serve(t);
    const { functions, qemu } = await startQtest(t, [house.path('vgpu')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    assert.equal(await pci.readConfig(CONFIG.VENDOR_ID, 4), 0x1912_8086);
    assert.equal((await pci.readConfig(CONFIG.CLASS_CODE - 1, 4)) >>> 8, 0x038000);
    assert.equal(await place(pci, 0, BAR0), 0xff000004);
    assert.equal(await place(pci, 2, BAR2), 0xf000000c);
    assert.equal(await pci.capability(CAPABILITY.MSI), 0xac);
    assert.equal(await pci.capability(CAPABILITY.PM), 0xd0);
    assert.equal((await pci.readConfig(0x50, 2)) & 0xffc0, 0xc0);
    await qemu.close();
    await house.disconnected('vgpu');
    house.assertIdle();
  });

  test('fills a rectangle in guest memory, says so by a message, and gives every page back', async (t) => {
    const { house, device } = await serve(t);
    const { qtest, functions, qemu } = await startQtest(t, [house.path('vgpu')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    await place(pci, 0, BAR0);
    await place(pci, 2, BAR2);
    await pci.enable(COMMAND.MEMORY | COMMAND.BUS_MASTER);
    await pci.enableMsi(MAILBOX, 0x4321);
    const vgpu = new Registers(qtest, BAR0);
    assert.deepEqual(
      [await vgpu.read(PVINFO.MAGIC_LOW), await vgpu.read(PVINFO.MAGIC_HIGH)],
      [PVINFO_MAGIC_LOW, PVINFO_MAGIC_HIGH],
    );
    const low = await vgpu.read(PVINFO.LOW_BASE);
    assert.deepEqual([low, await vgpu.read(PVINFO.LOW_SIZE)], [128 * MB, 128 * MB]);
    const pages = SLOT.screen + SCREEN.pages;
    for (let page = 0; page < pages; page++) await vgpu.map(low + page * PAGE, MEMORY + page * PAGE);
    assert.equal(house.pinsOf('vgpu'), pages);
    const job = padded(jobFor(low));
    await qtest.writeMemory(BigInt(MEMORY), new Uint8Array(Uint32Array.from(job).buffer));
    for (const [register, value] of startOf(low, job.length * 4)) await vgpu.write(register, value);
    const read = (address: number) => qtest.readRegister(BigInt(address), 4);
    await poll(
      'the message',
      () => read(MAILBOX),
      (value) => value === 0x4321,
    );
    assert.equal(await read(MEMORY + SLOT.status * PAGE), SEQNO);
    const pixel = SLOT.screen * PAGE + (RECT.y1 * SCREEN.width + RECT.x1) * 4;
    assert.deepEqual([await read(MEMORY + pixel), await read(MEMORY + pixel - 4)], [COLOR, 0]);
    assert.equal(await read(BAR2 + low + pixel), COLOR, 'the same pixel through the aperture');
    checkPicture(device());
    for (let page = 0; page < pages; page++) await vgpu.map(low + page * PAGE, undefined);
    assert.equal(house.pinsOf('vgpu'), 0);
    assert.deepEqual(house.warnings, []);
    await qemu.close();
    await house.disconnected('vgpu');
    house.assertIdle();
  });

  test('a QEMU that is killed with a full table leaves nothing', async (t) => {
    const { house, device } = await serve(t);
    const { qtest, functions, qemu } = await startQtest(t, [house.path('vgpu')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    await place(pci, 0, BAR0);
    await pci.enable(COMMAND.MEMORY | COMMAND.BUS_MASTER);
    const vgpu = new Registers(qtest, BAR0);
    const low = await vgpu.read(PVINFO.LOW_BASE);
    for (let page = 0; page < 256; page++) await vgpu.map(low + page * PAGE, MEMORY + page * PAGE);
    await vgpu.read(PVINFO.LOW_BASE); // QEMU waits for no write, but a read comes behind them
    assert.equal(house.pinsOf('vgpu'), 256);
    await qemu.kill();
    await house.disconnected('vgpu');
    house.assertIdle();
    assert.equal(device().stats.tableEntries, 0);
  });
});

/** Guest memory that the kernel was told not to use: MiB where it begins, of how many. */
const SPARE = { at: 448, memory: 512 } as const;

/** What a person would do in the guest's shell: find the function, switch it on, map pages, write a job, start it, wait. */
const script = (low: number): string => {
  const memory = SPARE.at * MB;
  const job = padded(jobFor(low));
  const pages = SLOT.screen + SCREEN.pages;
  const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;
  const entries = Array.from({ length: pages }, (_, page) => {
    const entry = GTT_OFFSET + (low / PAGE + page) * 8;
    return `devmem $((bar + ${hex(entry)})) 64 ${hex((memory + page * PAGE) | PRESENT)}`;
  });
  const words = job.map((dword, index) => `devmem ${hex(memory + index * 4)} 32 ${hex(dword)}`);
  const registers = startOf(low, job.length * 4).map(
    ([register, value]) => `devmem $((bar + ${hex(register)})) 32 ${hex(value)}`,
  );
  return `
    set -e
    read -r bar rest </sys/bus/pci/devices/$slot/resource
    ${[...entries, ...words, ...registers].join('\n')}
    for attempt in $(seq 200); do
      value=$(devmem ${hex(memory + SLOT.status * PAGE)})
      [ "$value" = 0x${SEQNO.toString(16).toUpperCase().padStart(8, '0')} ] && break
      usleep 10000
    done
    echo "$value"`;
};

test('a Linux guest without a driver drives a vGPU from its shell', async (t) => {
  const { house, device } = await serve(t);
  const guest = await LinuxGuest.boot({
    name: 'vgpu',
    contents: { programs: true },
    kernelArgs: [`mem=${SPARE.at}M`],
    machine: { memory: SPARE.memory, devices: [vfioUserDevice(house.path('vgpu'), { id: 'vgpu' })] },
  });
  t.after(() => guest.close());
  const slot = await guest.sh(
    'for at in /sys/bus/pci/devices/*; do [ "$(cat $at/vendor)" = 0x8086 ] && [ "$(cat $at/device)" = 0x1912 ] && basename $at; done; true',
  );

  await t.test('lspci shows ids, class, windows, MSI and power management', async () => {
    const text = await guest.sh(`lspci -nn -vv -s ${slot} 2>/dev/null`);
    assert.match(text, /\[0380\]: .*\[8086:1912\]/);
    assert.match(text, /Region 0: Memory at \w+ \(64-bit, non-prefetchable\).*\[size=16M\]/);
    assert.match(text, /Region 2: Memory at \w+ \(64-bit, prefetchable\).*\[size=256M\]/);
    assert.match(text, /Capabilities: \[ac\] MSI: Enable. Count=1\/1 Maskable- 64bit-/);
    assert.match(text, /Capabilities: \[d0\] Power Management version 2/);
  });

  await t.test('PVINFO, the table, and one fill: its pixels are there, seen from outside', async () => {
    await guest.sh(`
      echo 1 >/sys/bus/pci/devices/${slot}/enable
      printf '\\006\\000' | dd of=/sys/bus/pci/devices/${slot}/config bs=1 seek=4 conv=notrunc 2>/dev/null`);
    const magic = await guest.sh(
      `read -r bar rest </sys/bus/pci/devices/${slot}/resource; devmem $((bar + ${PVINFO.BASE})) 64`,
    );
    assert.equal(magic, '0x4776544776544776');
    const { low } = device().resources;
    assert.equal(await guest.sh(`slot=${slot}\n${script(low.base)}`, 120_000), '0x0000600D');
    assert.equal(device().engineError, undefined);
    checkPicture(device());
    assert.equal(house.pinsOf('vgpu'), SLOT.screen + SCREEN.pages);
  });

  await guest.close();
  await house.disconnected('vgpu');
  house.assertIdle();
});
