/** A machine without a CPU, and a PCI function of it as firmware sees it. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { CAPABILITY, COMMAND, CONFIG, STATUS } from '@pinion/pci';
import { type AccessSize, findQemuKit, Qemu, QtestClient, vfioUserDevice } from '@pinion/vm';

/** Ports of the configuration mechanism of PCs. Source: PCI Local Bus 3.0, section 3.2.2.3.2. */
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const ENABLE = 0x8000_0000;

/** Where devices are put: above memory, below the firmware. */
const MEMORY_WINDOW = 0xe000_0000;
const PORT_WINDOW = 0xc000;
const WINDOW_STEP = 0x10_0000;

const PROBE = 0xffff_ffff;
const POLLS = 5_000;

export interface Bar {
  readonly port: boolean;
  readonly wide: boolean;
  readonly size: number;
  readonly at: number;
}

/** A PCI function in a slot of bus 0. */
export class QtestFunction {
  readonly #qtest: QtestClient;
  readonly #slot: number;

  constructor(qtest: QtestClient, slot: number) {
    this.#qtest = qtest;
    this.#slot = slot;
  }

  async readConfig(offset: number, size: AccessSize): Promise<number> {
    await this.#select(offset);
    return this.#qtest.readPort(CONFIG_DATA + (offset & 3), size);
  }

  async writeConfig(offset: number, size: AccessSize, value: number): Promise<void> {
    await this.#select(offset);
    await this.#qtest.writePort(CONFIG_DATA + (offset & 3), size, value);
  }

  /** Finds a BAR's size as firmware does, and puts it at a place of its own. */
  async placeBar(index: number): Promise<Bar> {
    const offset = CONFIG.BAR0 + index * 4;
    await this.writeConfig(offset, 4, PROBE);
    const mask = await this.readConfig(offset, 4);
    const port = (mask & 1) === 1;
    const wide = !port && (mask & 6) === 4;
    const size = (~(mask & (port ? ~3 : ~15)) + 1) >>> 0;
    const at = port ? PORT_WINDOW + this.#slot * 0x100 : MEMORY_WINDOW + this.#slot * WINDOW_STEP;
    await this.writeConfig(offset, 4, at);
    if (wide) await this.writeConfig(offset + 4, 4, 0);
    return { port, wide, size: port ? size & 0xffff : size, at };
  }

  async enable(bits: number = COMMAND.IO | COMMAND.MEMORY | COMMAND.BUS_MASTER): Promise<void> {
    await this.writeConfig(CONFIG.COMMAND, 2, bits);
  }

  /** The offset of a capability. */
  async capability(id: number): Promise<number> {
    assert.ok((await this.readConfig(CONFIG.STATUS, 2)) & STATUS.CAPABILITIES, 'it has capabilities');
    let at = await this.readConfig(CONFIG.CAPABILITIES, 1);
    while (at !== 0) {
      if ((await this.readConfig(at, 1)) === id) return at;
      at = await this.readConfig(at + 1, 1);
    }
    assert.fail(`there is no capability ${id}`);
  }

  /** Turns MSI on: a message is `data` written at `address`. */
  async enableMsi(address: number, data: number): Promise<void> {
    const at = await this.capability(CAPABILITY.MSI);
    const control = await this.readConfig(at + 2, 2);
    const wide = (control & 0x80) !== 0;
    await this.writeConfig(at + 4, 4, address);
    if (wide) await this.writeConfig(at + 8, 4, 0);
    await this.writeConfig(at + (wide ? 12 : 8), 2, data);
    await this.writeConfig(at + 2, 2, control | 1);
  }

  async #select(offset: number): Promise<void> {
    await this.#qtest.writePort(CONFIG_ADDRESS, 4, (ENABLE | (this.#slot << 11) | (offset & 0xfc)) >>> 0);
  }
}

export interface QtestMachine {
  readonly qemu: Qemu;
  readonly qtest: QtestClient;
  /** The devices, in the order of their sockets. */
  readonly functions: readonly QtestFunction[];
}

const FIRST_SLOT = 4;

/** Starts a machine with these vfio-user sockets in slots of bus 0; it ends with the test. */
export async function startQtest(t: TestContext, paths: readonly string[]): Promise<QtestMachine> {
  const devices = paths.map((path, i) => vfioUserDevice(path, { id: `device-${i}`, addr: `${FIRST_SLOT + i}.0` }));
  const qemu = await Qemu.start({
    program: findQemuKit().qemu,
    name: 'qtest',
    machine: { memory: 64, accelerator: 'qtest', devices },
    channels: ['qtest'],
  });
  t.after(() => qemu.close());
  const qtest = new QtestClient({ stream: qemu.channel('qtest') });
  void qemu.exited.then(() => qtest.fail(qemu.failure()));
  return { qemu, qtest, functions: paths.map((_, i) => new QtestFunction(qtest, FIRST_SLOT + i)) };
}

/** Reads until `good`, a bounded number of times: each reading lets the device go on. @returns what was good. */
export async function poll<T>(what: string, read: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  for (let i = 0; i < POLLS; i += 1) {
    const value = await read();
    if (good(value)) return value;
  }
  assert.fail(`${what}: not within ${POLLS} readings`);
}
