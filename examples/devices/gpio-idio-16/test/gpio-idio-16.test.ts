import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMediator, type DeviceFile, EXTENSION } from '@pinion/core';
import { type GpioBoard, type GpioOptions, gpioIdio16, IRQ_STATUS, PORT } from '@pinion/example-gpio-idio-16';
import { COMMAND, CONFIG, PciSoftware, STATUS } from '@pinion/pci';
import { SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';

const BAR = 2;

/** What the stock Linux driver does, port by port. */
class LinuxDriver {
  readonly #pci: PciSoftware;
  handled = 0;
  lines = 0;

  constructor(pci: PciSoftware) {
    this.#pci = pci;
  }

  probe(): void {
    assert.deepEqual([this.#pci.config(CONFIG.VENDOR_ID, 2), this.#pci.config(CONFIG.DEVICE_ID, 2)], [0x494f, 0x0dc8]);
    assert.deepEqual(this.#pci.sizeBars(), [{ index: BAR, kind: 'io', size: 256n, prefetchable: false }]);
    this.#pci.assignBars({ memory: 0n, io: 0xc000n });
    this.#pci.enable(COMMAND.IO);
    for (const port of [PORT.FILTER, PORT.IRQ_CONTROL, PORT.IN_LOW]) this.out(port, 0);
  }

  in(port: number): number {
    return this.#pci.read(BAR, port, 1);
  }

  out(port: number, value: number): void {
    this.#pci.write(BAR, port, value, 1);
  }

  set(line: number, value: boolean): void {
    const port = line < 8 ? PORT.OUT_LOW : PORT.OUT_HIGH;
    const mask = 1 << (line % 8);
    this.out(port, value ? this.in(port) | mask : this.in(port) & ~mask);
  }

  /** Line 0-15: outputs; 16-31: inputs. */
  get(line: number): boolean {
    const port = [PORT.OUT_LOW, PORT.OUT_HIGH, PORT.IN_LOW, PORT.IN_HIGH][line >> 3] ?? 0;
    return (this.in(port) & (1 << (line % 8))) !== 0;
  }

  unmask(): void {
    this.in(PORT.IRQ_CONTROL);
  }

  interrupt(): void {
    const status = this.in(PORT.IRQ_STATUS);
    if ((status & 3) === 0 || (status & IRQ_STATUS.PENDING) === 0) return;
    this.handled += 1;
    this.lines = status & 3;
    this.out(PORT.IN_LOW, 0);
  }
}

async function withBoard(
  options: GpioOptions,
  run: (linux: LinuxDriver, pci: PciSoftware, file: DeviceFile) => void | Promise<void>,
): Promise<void> {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm' });
  const mediator = await createMediator({ memory: os.host, plugins: [type1(), gpioIdio16(options)] });
  const mdev = await mediator
    .registerParent('slot', 'gpio-idio-16')
    .create('board', '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f02');
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const file = await group.openDevice(mdev.uuid);
  const pci = new PciSoftware(file);
  const linux = new LinuxDriver(pci);
  mdev.device.ops.setIrqSink?.(() => linux.interrupt());
  await run(linux, pci, file);
  await mediator.close();
}

describe('gpio-idio-16 under the steps of the stock driver', () => {
  test('probes, drives outputs and reads them back at the inputs they are wired to', () =>
    withBoard({}, (linux) => {
      linux.probe();
      for (const line of [0, 7, 8, 15]) {
        linux.set(line, true);
        assert.deepEqual([linux.get(line), linux.get(16 + line)], [true, true]);
        linux.set(line, false);
        assert.deepEqual([linux.get(line), linux.get(16 + line)], [false, false]);
      }
    }));

  test('an input that changes interrupts once it is enabled; the handler clears it', () => {
    let board: GpioBoard | undefined;
    return withBoard({ wiring: (made) => (board = made) }, (linux, pci) => {
      linux.probe();
      board?.setInputs(0x0001);
      assert.equal(linux.handled, 0, 'not enabled yet');
      linux.unmask();
      board?.setInputs(0x0000);
      assert.deepEqual([linux.handled, linux.lines], [1, IRQ_STATUS.LOW]);
      board?.setInputs(0x8000);
      assert.deepEqual([linux.handled, linux.lines, linux.get(31)], [2, IRQ_STATUS.HIGH, true]);
      board?.setInputs(0x8000);
      assert.equal(linux.handled, 2, 'nothing changed');
      assert.equal(pci.config(CONFIG.STATUS, 2) & STATUS.INTERRUPT, 0);
      linux.out(PORT.IRQ_CONTROL, 0);
      board?.setInputs(0);
      assert.equal(linux.handled, 2, 'disabled');
    });
  });

  test('an interrupt that nobody clears stays up, also in STATUS', () => {
    let board: GpioBoard | undefined;
    return withBoard({ wiring: (made) => (board = made) }, (linux, pci) => {
      linux.probe();
      pci.enable(COMMAND.INTX_DISABLE);
      linux.unmask();
      board?.setInputs(0x0101);
      assert.equal(linux.handled, 0);
      assert.equal(pci.config(CONFIG.STATUS, 2) & STATUS.INTERRUPT, STATUS.INTERRUPT);
      pci.setConfig(CONFIG.COMMAND, COMMAND.IO, 2);
      assert.deepEqual([linux.handled, linux.lines], [1, 3]);
    });
  });

  test('ports nobody knows read as ones and take no harm; wide accesses are one for each port', () =>
    withBoard({}, (linux, pci) => {
      linux.probe();
      pci.write(BAR, 7, 0x1234_5678);
      pci.write(BAR, 0xff, 1, 1);
      assert.deepEqual([linux.in(7), linux.in(0xff), linux.in(PORT.OUT_LOW)], [0xff, 0xff, 0]);
      linux.out(PORT.OUT_LOW, 0xa5);
      assert.equal(pci.read(BAR, 0, 2), 0xa5a5);
    }));

  test('decoding off: ones, and writes are lost', () =>
    withBoard({}, (linux, pci) => {
      linux.probe();
      pci.setConfig(CONFIG.COMMAND, 0, 2);
      linux.out(PORT.OUT_LOW, 0x55);
      assert.equal(linux.in(PORT.OUT_LOW), 0xff);
      pci.enable(COMMAND.IO);
      assert.equal(linux.in(PORT.OUT_LOW), 0);
    }));

  test('a reset switches the outputs off and the interrupt too', () => {
    const levels: number[] = [];
    return withBoard({ wiring: (board) => levels.push(board.outputs) }, async (linux, _pci, file) => {
      linux.probe();
      linux.set(3, true);
      await file.reset();
      assert.deepEqual([linux.in(PORT.OUT_LOW), linux.in(PORT.IRQ_STATUS), levels.at(-1)], [0, 0, 0]);
    });
  });
});
