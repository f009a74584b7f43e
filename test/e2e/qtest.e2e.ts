// Every example device behind a real QEMU, driven without a guest: what firmware and drivers do, one access at a time.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  BUFFER,
  DMA,
  REGISTER as EDU,
  STATUS as EDU_STATUS,
  edu,
  factorial,
  IDENTIFICATION,
  INTERRUPT,
} from '@pinion/example-edu';
import { gpioIdio16, IRQ_STATUS, PORT } from '@pinion/example-gpio-idio-16';
import {
  ADMIN,
  CC,
  CSTS,
  ENTRY,
  IDENTIFY,
  IO,
  MemoryStore,
  REGISTER as NVME,
  BAR as NVME_BAR,
  STATUS as NVME_STATUS,
  nvme,
} from '@pinion/example-nvme';
import { CAPABILITY, COMMAND, CONFIG } from '@pinion/pci';
import type { QtestClient } from '@pinion/vm';
import { DeviceHouse, type DeviceSpec } from './device-house.js';
import { poll, startQtest } from './qtest-machine.js';

const gpioSpec: DeviceSpec = { name: 'gpio', plugin: gpioIdio16(), driver: 'gpio-idio-16', type: 'board' };
const eduSpec: DeviceSpec = { name: 'edu', plugin: edu({ dmaDelay: 0 }), driver: 'edu', type: 'card' };
const nvmeSpec = (store: MemoryStore): DeviceSpec => ({
  name: 'disk',
  plugin: nvme({ store: () => store }),
  driver: 'nvme',
  type: 'disk',
});

const MIB = 1 << 20;

/** The line of the I/O APIC that a function's INTA is wired to on a q35: its slot, turned round. Source: QEMU, docs of ICH9. */
const lineOf = (slot: number): number => 20 + (slot % 4);

describe('gpio-idio-16 behind QEMU, without a guest', () => {
  test('is found, sized, placed, and reads all-ones until it is enabled', async (t) => {
    const house = await DeviceHouse.open(t, [gpioSpec]);
    const { qtest, functions, qemu } = await startQtest(t, [house.path('gpio')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    assert.equal(await pci.readConfig(CONFIG.VENDOR_ID, 4), 0x0dc8_494f);
    assert.equal((await pci.readConfig(CONFIG.CLASS_CODE - 1, 4)) >>> 8, 0x118000);
    const bar = await pci.placeBar(2);
    assert.deepEqual([bar.port, bar.size], [true, 256]);
    assert.equal(await qtest.readPort(bar.at + PORT.IN_LOW, 1), 0xff, 'ports are off');
    await pci.enable();
    assert.equal(await qtest.readPort(bar.at + PORT.IN_LOW, 1), 0);
    await qemu.close();
    await house.disconnected('gpio');
    house.assertIdle();
  });

  test('outputs come back at inputs, in either half, with an interrupt that is cleared', async (t) => {
    const house = await DeviceHouse.open(t, [gpioSpec]);
    const { qtest, functions } = await startQtest(t, [house.path('gpio')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    const { at } = await pci.placeBar(2);
    await pci.enable();
    await qtest.interceptInterrupts('ioapic');
    await qtest.readPort(at + PORT.IRQ_CONTROL, 1); // a read turns the interrupt on
    await qtest.writePort(at + PORT.OUT_HIGH, 1, 0xa5);
    await qtest.level(lineOf(4), true);
    assert.equal(await qtest.readPort(at + PORT.IN_HIGH, 1), 0xa5);
    assert.equal(await qtest.readPort(at + PORT.IRQ_STATUS, 1), IRQ_STATUS.HIGH | IRQ_STATUS.PENDING);
    await qtest.writePort(at + PORT.IN_LOW, 1, 0); // a write clears it
    await qtest.level(lineOf(4), false);
    assert.equal(await qtest.readPort(at + PORT.IRQ_STATUS, 1), 0);
    assert.equal(qtest.raised(lineOf(4)), false);
  });
});

describe('edu behind QEMU, without a guest', () => {
  test('computes, and interrupts by its line', async (t) => {
    const house = await DeviceHouse.open(t, [eduSpec]);
    const { qtest, functions } = await startQtest(t, [house.path('edu')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    const bar = await pci.placeBar(0);
    assert.deepEqual([bar.port, bar.wide, bar.size], [false, false, MIB]);
    await pci.enable();
    await qtest.interceptInterrupts('ioapic');
    const register = (offset: number): bigint => BigInt(bar.at + offset);
    assert.equal(await qtest.readRegister(register(EDU.IDENTIFICATION), 4), IDENTIFICATION);
    await qtest.writeRegister(register(EDU.LIVENESS), 4, 0x1234_5678);
    assert.equal(await qtest.readRegister(register(EDU.LIVENESS), 4), 0xedcb_a987);
    await qtest.writeRegister(register(EDU.STATUS), 4, EDU_STATUS.INTERRUPT_WHEN_DONE);
    await qtest.writeRegister(register(EDU.FACTORIAL), 4, 11);
    await qtest.level(lineOf(4), true);
    assert.equal(await qtest.readRegister(register(EDU.FACTORIAL), 4), factorial(11));
    assert.equal(await qtest.readRegister(register(EDU.INTERRUPT_STATUS), 4), INTERRUPT.FACTORIAL);
    await qtest.writeRegister(register(EDU.INTERRUPT_ACKNOWLEDGE), 4, INTERRUPT.FACTORIAL);
    await qtest.readRegister(register(EDU.INTERRUPT_STATUS), 4);
    assert.equal(qtest.raised(lineOf(4)), false);
  });

  test('moves bytes by DMA both ways, and says so by a message; the pages are free again', async (t) => {
    const house = await DeviceHouse.open(t, [eduSpec]);
    const { qtest, functions, qemu } = await startQtest(t, [house.path('edu')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    const { at } = await pci.placeBar(0);
    await pci.enable();
    const mailbox = 0x20_0000;
    await pci.enableMsi(mailbox, 0x4321);
    const [from, to] = [0x30_0100n, 0x30_3ff0n];
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) & 0xff);
    await qtest.writeMemory(from, bytes);
    const transfer = async (source: bigint, destination: bigint, command: number): Promise<void> => {
      await qtest.writeMemory(BigInt(mailbox), new Uint8Array(4));
      await qtest.writeRegister(BigInt(at + EDU.DMA_SOURCE), 4, Number(source));
      await qtest.writeRegister(BigInt(at + EDU.DMA_DESTINATION), 4, Number(destination));
      await qtest.writeRegister(BigInt(at + EDU.DMA_COUNT), 4, bytes.length);
      await qtest.writeRegister(BigInt(at + EDU.DMA_COMMAND), 4, command | DMA.START | DMA.INTERRUPT_WHEN_DONE);
      await poll(
        'the message',
        () => qtest.readRegister(BigInt(mailbox), 4),
        (value) => value === 0x4321,
      );
      assert.equal(await qtest.readRegister(BigInt(at + EDU.INTERRUPT_STATUS), 4), INTERRUPT.DMA);
      await qtest.writeRegister(BigInt(at + EDU.INTERRUPT_ACKNOWLEDGE), 4, INTERRUPT.DMA);
      assert.equal(house.pinsOf('edu'), 0);
    };
    await transfer(from, BigInt(BUFFER.at), 0);
    await transfer(BigInt(BUFFER.at), to, DMA.TO_RAM);
    assert.deepEqual(new Uint8Array(await qtest.readMemory(to, bytes.length)), bytes);
    assert.ok(house.counts.maps >= 1);
    await qemu.close();
    await house.disconnected('edu');
    house.assertIdle();
  });

  test('refuses DMA while it is no bus master', async (t) => {
    const house = await DeviceHouse.open(t, [eduSpec]);
    const { qtest, functions } = await startQtest(t, [house.path('edu')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    const { at } = await pci.placeBar(0);
    await pci.enable(COMMAND.MEMORY);
    await qtest.writeMemory(0x30_0000n, Uint8Array.of(1, 2, 3, 4));
    await qtest.writeRegister(BigInt(at + EDU.DMA_SOURCE), 4, BUFFER.at);
    await qtest.writeRegister(BigInt(at + EDU.DMA_DESTINATION), 4, 0x30_0000);
    await qtest.writeRegister(BigInt(at + EDU.DMA_COUNT), 4, 4);
    await qtest.writeRegister(BigInt(at + EDU.DMA_COMMAND), 4, DMA.START | DMA.TO_RAM);
    assert.equal((await qtest.readRegister(BigInt(at + EDU.DMA_COMMAND), 4)) & DMA.START, 0);
    assert.deepEqual([...(await qtest.readMemory(0x30_0000n, 4))], [1, 2, 3, 4]);
  });
});

/** The queues and buffers of a driver in guest memory; pages of their own. */
const AT = {
  ASQ: 0x10_0000,
  ACQ: 0x10_1000,
  SQ: 0x10_2000,
  CQ: 0x10_3000,
  DATA: 0x11_0000,
  MAILBOX: 0x20_0000,
} as const;
const ENTRIES = 16;

/** Just enough of a driver: one command at a time on each queue. */
class TinyDriver {
  readonly #qtest: QtestClient;
  readonly #bar: number;
  readonly #tails = new Map<number, number>();

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

  async enable(): Promise<void> {
    await this.write(NVME.AQA, ((ENTRIES - 1) << 16) | (ENTRIES - 1));
    for (const [register, value] of [
      [NVME.ASQ_LOW, AT.ASQ],
      [NVME.ASQ_HIGH, 0],
      [NVME.ACQ_LOW, AT.ACQ],
      [NVME.ACQ_HIGH, 0],
    ] as const) {
      await this.write(register, value);
    }
    await this.write(NVME.CC, CC.EN | (ENTRY.IOSQES << 16) | (ENTRY.IOCQES << 20));
    await poll(
      'ready',
      () => this.read(NVME.CSTS),
      (csts) => (csts & CSTS.RDY) !== 0,
    );
  }

  /** Sends a command of dwords 0, 6-7 (PRP 1), 8-9 (PRP 2), 10-12. @returns the status without its phase. */
  async submit(queue: number, { dwords }: { dwords: Readonly<Record<number, number>> }): Promise<number> {
    const tail = this.#tails.get(queue) ?? 0;
    const [sq, cq] = queue === 0 ? [AT.ASQ, AT.ACQ] : [AT.SQ, AT.CQ];
    const entry = new DataView(new ArrayBuffer(ENTRY.SUBMISSION));
    for (const [index, value] of Object.entries(dwords)) entry.setUint32(Number(index) * 4, value, true);
    await this.#qtest.writeMemory(BigInt(sq + tail * ENTRY.SUBMISSION), new Uint8Array(entry.buffer));
    const next = (tail + 1) % ENTRIES;
    await this.write(NVME.DOORBELLS + queue * 8, next);
    const at = BigInt(cq + tail * ENTRY.COMPLETION + 12);
    const done = await poll(
      'the completion',
      () => this.#qtest.readRegister(at, 4),
      (dword) => (dword & 0x1_0000) !== 0,
    );
    await this.write(NVME.DOORBELLS + queue * 8 + 4, next);
    this.#tails.set(queue, next);
    return done >>> 17;
  }
}

describe('nvme behind QEMU, without a guest', () => {
  test('identifies itself, makes queues, writes and reads, and signals by MSI-X', async (t) => {
    const store = new MemoryStore(MIB);
    const house = await DeviceHouse.open(t, [nvmeSpec(store)]);
    const { qtest, functions, qemu } = await startQtest(t, [house.path('disk')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    const bar = await pci.placeBar(0);
    assert.deepEqual([bar.wide, bar.size], [true, NVME_BAR.SIZE]);
    await pci.enable();
    // vector 1 is a write of 0x77 to the mailbox
    const msix = await pci.capability(CAPABILITY.MSIX);
    const vector = BigInt(bar.at + NVME_BAR.MSIX_TABLE + 16);
    for (const [i, value] of [AT.MAILBOX, 0, 0x77, 0].entries())
      await qtest.writeRegister(vector + BigInt(i * 4), 4, value);
    await pci.writeConfig(msix + 2, 2, 0x8000);

    const driver = new TinyDriver(qtest, bar.at);
    await driver.enable();
    assert.equal(
      await driver.submit(0, { dwords: { 0: ADMIN.IDENTIFY, 6: AT.DATA, 10: IDENTIFY.CONTROLLER } }),
      NVME_STATUS.SUCCESS,
    );
    assert.equal(
      Buffer.from(await qtest.readMemory(BigInt(AT.DATA + 24), 16))
        .toString()
        .trimEnd(),
      'Pinion NVMe disk',
    );
    const size = ((ENTRIES - 1) << 16) | 1;
    assert.equal(
      await driver.submit(0, { dwords: { 0: ADMIN.CREATE_CQ, 6: AT.CQ, 10: size, 11: (1 << 16) | 3 } }),
      NVME_STATUS.SUCCESS,
    );
    assert.equal(
      await driver.submit(0, { dwords: { 0: ADMIN.CREATE_SQ, 6: AT.SQ, 10: size, 11: (1 << 16) | 1 } }),
      NVME_STATUS.SUCCESS,
    );

    const data = Uint8Array.from({ length: 8192 }, (_, i) => (i * 13 + (i >> 8)) & 0xff);
    await qtest.writeMemory(BigInt(AT.DATA), data);
    const blocks = data.length / 512;
    const write = { 0: IO.WRITE, 1: 1, 6: AT.DATA, 8: AT.DATA + 4096, 10: 7, 12: blocks - 1 };
    assert.equal(await driver.submit(1, { dwords: write }), NVME_STATUS.SUCCESS);
    assert.equal(await qtest.readRegister(BigInt(AT.MAILBOX), 4), 0x77);
    assert.deepEqual(store.bytes.subarray(7 * 512, 7 * 512 + data.length), data);
    const elsewhere = AT.DATA + 0x4000;
    const read = { ...write, 0: IO.READ, 6: elsewhere, 8: elsewhere + 4096 };
    assert.equal(await driver.submit(1, { dwords: read }), NVME_STATUS.SUCCESS);
    assert.deepEqual(new Uint8Array(await qtest.readMemory(BigInt(elsewhere), data.length)), data);
    assert.equal(house.pinsOf('disk'), 4, 'the pages of four queues, and no other');

    await qemu.close();
    await house.disconnected('disk');
    house.assertIdle();
  });

  const wrong: readonly (readonly [what: string, dwords: Readonly<Record<number, number>>, status: number])[] = [
    [
      'data where there is no memory',
      { 0: ADMIN.IDENTIFY, 6: 0xd000_0000, 10: IDENTIFY.CONTROLLER },
      NVME_STATUS.DATA_TRANSFER_ERROR,
    ],
    ['an opcode that there is not', { 0: 0x7f }, NVME_STATUS.INVALID_OPCODE],
    [
      'a queue at no page',
      { 0: ADMIN.CREATE_CQ, 6: 0x10_3004, 10: (15 << 16) | 1, 11: 1 },
      NVME_STATUS.INVALID_PRP_OFFSET,
    ],
  ];
  test('a wrong command ends with its status, and the next one works', async (t) => {
    const house = await DeviceHouse.open(t, [nvmeSpec(new MemoryStore(MIB))]);
    const { qtest, functions } = await startQtest(t, [house.path('disk')]);
    const [pci] = functions;
    assert.ok(pci !== undefined);
    const { at } = await pci.placeBar(0);
    await pci.enable();
    const driver = new TinyDriver(qtest, at);
    await driver.enable();
    for (const [what, dwords, status] of wrong) assert.equal(await driver.submit(0, { dwords }), status, what);
    assert.equal(
      await driver.submit(0, { dwords: { 0: ADMIN.IDENTIFY, 6: AT.DATA, 10: IDENTIFY.CONTROLLER } }),
      NVME_STATUS.SUCCESS,
    );
  });
});

test('two devices of one VM share its mappings: each is there once, and stays until the last of them is gone', async (t) => {
  const house = await DeviceHouse.open(t, [nvmeSpec(new MemoryStore(MIB)), eduSpec]);
  const { qemu, functions } = await startQtest(t, [house.path('disk'), house.path('edu')]);
  const before = house.holdings('disk');
  assert.ok(before.mappings > 0);
  assert.deepEqual(house.holdings('edu'), before);
  assert.equal(house.counts.maps - house.counts.unmaps, before.mappings, 'one mapping for both');
  assert.equal(house.pages.pieces, before.mappings);
  const [, pci] = functions;
  assert.ok(pci !== undefined);
  await pci.enable();

  await house.hangUp('disk');
  assert.deepEqual(house.holdings('edu'), before, 'the other device still has its memory');
  assert.equal(await pci.readConfig(CONFIG.VENDOR_ID, 4), 0x11e8_1234);

  await house.hangUp('edu');
  await qemu.close();
  house.assertIdle();
});
