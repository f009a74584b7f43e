import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Container, createMediator, type DeviceFile, EXTENSION, PROT_READ, PROT_RW } from '@pinion/core';
import {
  BUFFER,
  DMA,
  type EduOptions,
  edu,
  factorial,
  IDENTIFICATION,
  INTERRUPT,
  REGISTER,
  STATUS,
} from '@pinion/example-edu';
import { createSoftwareIommu } from '@pinion/iommu';
import { CAPABILITY, COMMAND, CONFIG, MSI, PciSoftware, type RegionAccess } from '@pinion/pci';
import {
  type DriverSeat,
  FakeClock,
  failedCases,
  runVendorDriver,
  SimulatedOs,
  type SimulatedTask,
} from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import fc from 'fast-check';

const RAM = 0x10_0000n;
const SIZE = 0x8000n;

interface Seat {
  readonly clock: FakeClock;
  readonly task: SimulatedTask;
  readonly container: Container;
  readonly file: DeviceFile;
  readonly pci: PciSoftware;
  readonly irqs: string[];
  readonly vaddr: bigint;
  readonly warned: string[];
}

/** An edu card behind type1, with a guest of 8 pages at 1 MiB. Ends with nothing pinned. */
async function withCard(options: EduOptions, run: (seat: Seat) => void | Promise<void>): Promise<void> {
  const os = new SimulatedOs();
  const clock = new FakeClock();
  const task = os.spawn({ name: 'vmm' });
  const warned: string[] = [];
  const log = { info: () => {}, warn: (message: string) => void warned.push(message) };
  const mediator = await createMediator({ memory: os.host, plugins: [type1(), edu(options)], clock, log });
  const mdev = await mediator.registerParent('slot', 'edu').create('card', '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f03');
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const file = await group.openDevice(mdev.uuid);
  const vaddr = task.memory.mmap({ size: SIZE });
  container.mapDma({ iova: RAM, size: SIZE, vaddr, prot: PROT_RW });
  const irqs: string[] = [];
  mdev.device.ops.setIrqSink?.((index, vector) => irqs.push(`${index}:${vector}`));
  const pci = new PciSoftware(file);
  pci.assignBars({ memory: 0xfea0_0000n, io: 0n });
  pci.enable();
  await run({ clock, task, container, file, pci, irqs, vaddr, warned });
  await mediator.close();
  assert.equal(os.host.pinnedPages, 0);
}

function transfer(pci: PciSoftware, from: bigint, to: bigint, about: { count: number; command: number }): void {
  pci.write(0, REGISTER.DMA_SOURCE, from, 8);
  pci.write(0, REGISTER.DMA_DESTINATION, to, 8);
  pci.write(0, REGISTER.DMA_COUNT, about.count, 8);
  pci.write(0, REGISTER.DMA_COMMAND, about.command);
}
const busy = (pci: PciSoftware): boolean => (pci.read(0, REGISTER.DMA_COMMAND) & DMA.START) !== 0;
const DEVICE = BigInt(BUFFER.at);

describe('edu under the steps of its documentation', () => {
  test('identification, liveness, factorial', () =>
    withCard({ computeDelay: 5 }, ({ pci, clock, irqs }) => {
      assert.deepEqual(
        [pci.config(CONFIG.VENDOR_ID), pci.read(0, REGISTER.IDENTIFICATION)],
        [0x11e8_1234, IDENTIFICATION],
      );
      pci.write(0, REGISTER.LIVENESS, 0x1234_5678);
      assert.equal(pci.read(0, REGISTER.LIVENESS), 0xedcb_a987);
      pci.write(0, REGISTER.STATUS, STATUS.INTERRUPT_WHEN_DONE | STATUS.COMPUTING);
      pci.write(0, REGISTER.FACTORIAL, 10);
      pci.write(0, REGISTER.FACTORIAL, 3);
      assert.equal(pci.read(0, REGISTER.STATUS), STATUS.INTERRUPT_WHEN_DONE | STATUS.COMPUTING);
      clock.advance(5);
      assert.deepEqual([pci.read(0, REGISTER.FACTORIAL), pci.read(0, REGISTER.STATUS)], [3_628_800, 0x80]);
      assert.deepEqual([irqs, pci.read(0, REGISTER.INTERRUPT_STATUS)], [['0:0'], INTERRUPT.FACTORIAL]);
    }));

  test('interrupts: the pin stays up until every value is acknowledged; with MSI each value is a message', () =>
    withCard({}, ({ pci, irqs }) => {
      pci.write(0, REGISTER.INTERRUPT_RAISE, 0x30);
      pci.write(0, REGISTER.INTERRUPT_ACKNOWLEDGE, 0x10);
      assert.deepEqual([pci.config(CONFIG.STATUS, 2) & 8, pci.read(0, REGISTER.INTERRUPT_STATUS)], [8, 0x20]);
      pci.write(0, REGISTER.INTERRUPT_ACKNOWLEDGE, 0xffff_ffff);
      assert.equal(pci.config(CONFIG.STATUS, 2) & 8, 0);
      pci.setConfig((pci.capability(CAPABILITY.MSI) ?? 0) + MSI.CONTROL, 1, 2);
      pci.write(0, REGISTER.INTERRUPT_RAISE, 1);
      pci.write(0, REGISTER.INTERRUPT_RAISE, 1);
      assert.deepEqual(irqs, ['0:0', '0:0', '1:0', '1:0'], 'the pin is told again while it is up');
    }));

  test('there and back, over a page border', () =>
    withCard({}, ({ pci, clock, task, vaddr, irqs, container }) => {
      const bytes = Uint8Array.from({ length: 100 }, (_, n) => n + 1);
      task.memory.poke(vaddr + 4050n, bytes);
      transfer(pci, RAM + 4050n, DEVICE + 10n, { count: 100, command: DMA.START });
      assert.deepEqual([busy(pci), container.stats.pinnedPages], [true, 2]);
      clock.advance(100);
      assert.deepEqual([busy(pci), container.stats.pinnedPages, irqs], [false, 0, []]);
      transfer(pci, DEVICE + 10n, RAM + 0x3000n, {
        count: 100,
        command: DMA.START | DMA.TO_RAM | DMA.INTERRUPT_WHEN_DONE,
      });
      clock.advance(100);
      assert.deepEqual(task.memory.peek(vaddr + 0x3000n, 100).slice(), bytes);
      assert.deepEqual([irqs, pci.read(0, REGISTER.INTERRUPT_STATUS)], [['0:0'], INTERRUPT.DMA]);
      assert.deepEqual(pci.read(0, BUFFER.at + 10), 0x0403_0201, 'the buffer is in the BAR too');
    }));

  const refused: readonly (readonly [what: string, from: bigint, to: bigint, count: number])[] = [
    ['no bytes', RAM, DEVICE, 0],
    ['more than the buffer', RAM, DEVICE, 4097],
    ['over the end of the buffer', RAM, DEVICE + 1n, 4096],
    ['before the buffer', RAM, DEVICE - 1n, 1],
    ['nowhere in the device', RAM, 0n, 1],
    ['a count of 2^63', RAM, DEVICE, 2 ** 63],
    ['a device address that wraps', RAM, (1n << 64n) - 1n, 2],
    ['no guest memory there', 0x20_0000n, DEVICE, 16],
    ['half of it is no guest memory', RAM + SIZE - 8n, DEVICE, 16],
  ];
  for (const [what, from, to, count] of refused) {
    test(`a transfer refused: ${what}`, () =>
      withCard({}, ({ pci, clock, warned, container }) => {
        transfer(pci, from, to, { count, command: DMA.START | DMA.INTERRUPT_WHEN_DONE });
        assert.deepEqual([busy(pci), warned.length, container.stats.pinnedPages], [false, 1, 0]);
        clock.advance(100);
        assert.equal(pci.read(0, REGISTER.INTERRUPT_STATUS), 0);
      }));
  }

  test('only 28 bits of an address count; registers are frozen while a transfer runs', () =>
    withCard({}, ({ pci, clock, task, vaddr }) => {
      task.memory.poke(vaddr, Uint8Array.of(7));
      transfer(pci, (1n << 40n) + RAM, DEVICE, { count: 1, command: DMA.START });
      transfer(pci, RAM + 1n, DEVICE, { count: 9, command: DMA.START | DMA.TO_RAM });
      assert.equal(pci.read64(0, REGISTER.DMA_COUNT), 1n);
      clock.advance(100);
      assert.equal(pci.read(0, BUFFER.at, 1), 7);
    }));

  test('no bus master: no DMA', () =>
    withCard({}, ({ pci, warned }) => {
      pci.setConfig(CONFIG.COMMAND, COMMAND.MEMORY, 2);
      transfer(pci, RAM, DEVICE, { count: 1, command: DMA.START });
      assert.deepEqual([busy(pci), warned.length], [false, 1]);
    }));

  test('read-only memory is read, and never written', () =>
    withCard({}, ({ pci, clock, container, vaddr, warned }) => {
      container.mapDma({ iova: 0x80_0000n, size: 4096n, vaddr, prot: PROT_READ });
      transfer(pci, 0x80_0000n, DEVICE, { count: 4, command: DMA.START });
      clock.advance(100);
      transfer(pci, DEVICE, 0x80_0000n, { count: 4, command: DMA.START | DMA.TO_RAM });
      assert.deepEqual([busy(pci), warned.length], [false, 1]);
    }));

  test('a mapping that goes away ends its transfer first; a reset drops it', () =>
    withCard({}, async ({ pci, clock, task, vaddr, container, file, irqs }) => {
      task.memory.poke(vaddr, Uint8Array.of(9));
      transfer(pci, RAM, DEVICE, { count: 1, command: DMA.START | DMA.INTERRUPT_WHEN_DONE });
      await container.unmapDma({ iova: RAM, size: SIZE });
      assert.deepEqual([busy(pci), pci.read(0, BUFFER.at, 1), irqs], [false, 9, ['0:0']]);
      container.mapDma({ iova: RAM, size: SIZE, vaddr, prot: PROT_RW });
      transfer(pci, RAM, DEVICE, { count: 1, command: DMA.START | DMA.INTERRUPT_WHEN_DONE });
      await file.reset();
      clock.advance(100);
      assert.deepEqual(
        [busy(pci), pci.read(0, BUFFER.at, 1), container.stats.pinnedPages, clock.pending],
        [false, 0, 0, 0],
      );
    }));

  test('factorials are those of 32 bits', () => {
    assert.deepEqual([0, 1, 5, 12, 34, 0xffff_ffff].map(factorial), [1, 1, 120, 479_001_600, 0, 0]);
    fc.assert(
      fc.property(fc.nat(40), (value) => {
        let exact = 1n;
        for (let factor = 2n; factor <= BigInt(value); factor += 1n) exact *= factor;
        assert.equal(BigInt(factorial(value)), BigInt.asUintN(32, exact));
      }),
    );
  });
});

/** A card holds a page while it moves bytes: one transfer at a time, of at most two pages. */
const begin = (seat: DriverSeat, at: bigint): void => {
  const pci = new PciSoftware(seat.file);
  pci.enable();
  transfer(pci, DEVICE, at, { count: 4096, command: DMA.START | DMA.TO_RAM });
};

/** The device as its driver made it: readable whether it is open or not. */
const opsOf = ({ ops }: DriverSeat): RegionAccess => ({
  readRegion: (index, offset, bytes) => ops.readRegion?.(index, offset, bytes),
  writeRegion: (index, offset, bytes) => ops.writeRegion?.(index, offset, bytes),
});

/** Cases that want more than one piece of memory at a time. The card has one engine. */
const SEVERAL_PIECES = [
  'gives back pins all over a mapping',
  'gives back pins in two mappings that go in one unmap',
  'of two mappings only one goes: nothing is held there, and the other can go later',
  'devices that share pages each give back their own pins, and nobody else’s',
  'a call for the whole address space gives back everything',
  'two unmaps at once',
];

test('edu does what every vendor driver promises, as far as one transfer at a time goes', async () => {
  const outcomes = await runVendorDriver({
    name: 'edu',
    capabilities: new Set(['wide', 'io', 'reset', 'passthrough']),
    backend: () => type1(),
    iommuType: EXTENSION.TYPE1v2_IOMMU,
    passthrough: (memory) => createSoftwareIommu({ memory }).createGroup({ functions: ['pt'] }),
    start() {
      let writing = false;
      return {
        plugin: edu({ dmaMask: (1n << 64n) - 1n }),
        driver: 'edu',
        type: 'card',
        parent: () => 'slot',
        pinSomething: (seat, [frame]) => begin(seat, BigInt(frame ?? 0) << 12n),
        isIdle(seat) {
          const command = new PciSoftware(opsOf(seat)).read(0, REGISTER.DMA_COMMAND);
          return command === 0xffff_ffff || (command & DMA.START) === 0;
        },
        wide: { pages: 2, pin: (seat, first) => begin(seat, (BigInt(first) << 12n) + 2048n) },
        beginWrite(seat, frame) {
          writing = true;
          begin(seat, BigInt(frame) << 12n);
        },
        finishIo: ({ clock }) => {
          if (writing) clock.advance(100);
        },
      };
    },
  });
  assert.deepEqual(failedCases(outcomes), SEVERAL_PIECES);
  assert.ok(outcomes.length > 2 * SEVERAL_PIECES.length);
});
