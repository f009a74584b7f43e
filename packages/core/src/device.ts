import type { BackendDevice } from './backend.js';
import { DevicePins } from './device-pins.js';
import type { Duty } from './duty-guard.js';
import { coreErrors } from './errors.js';
import type { Group } from './group.js';
import type { Task } from './memory.js';
import { Migration } from './migration.js';
import { Mutex } from './mutex.js';
import type { DmaApi } from './pins.js';
import type { Runtime } from './runtime.js';
import { asIovaFrame, type FrameRange, type IovaFrame, LAST_FRAME } from './units.js';
import type { DeviceOps, PinningDeviceOps } from './vendor-driver.js';

/** Milliseconds between two requests to give a device back. Source: vfio_unregister_group_dev(). */
export const REQUEST_INTERVAL = 10_000;

const WHOLE_SPACE: FrameRange = { first: asIovaFrame(0), last: asIovaFrame(LAST_FRAME) };

const hasDuty = (ops: DeviceOps | undefined): ops is PinningDeviceOps =>
  ops !== undefined && 'dmaUnmap' in ops && typeof ops.dmaUnmap === 'function';

/**
 * A device in its group: who may open it, what it holds, and the end of its life. Several openers share one open device;
 * the driver's `open` runs for the first and `close` for the last. Source: struct vfio_device.
 */
export class Device {
  readonly name: string;
  readonly driver: string;
  readonly group: Group;
  readonly pins: DevicePins;
  readonly dma: DmaApi;
  readonly #runtime: Runtime;
  readonly #lock = new Mutex();
  readonly #closeWaiters = new Set<() => void>();
  readonly #backendDevice: BackendDevice;
  #ops: DeviceOps | undefined;
  #migration: Migration | undefined;
  #openCount = 0;
  #state: 'registered' | 'unregistering' | 'gone' = 'registered';

  constructor(runtime: Runtime, group: Group, about: { name: string; driver: string }) {
    this.#runtime = runtime;
    this.group = group;
    this.name = about.name;
    this.driver = about.driver;
    this.pins = new DevicePins(this.#seat(), runtime);
    this.dma = {
      read: (iova, bytes) => this.copy(iova, bytes, false),
      write: (iova, bytes) => this.copy(iova, bytes, true),
    };
    this.#backendDevice = this.#asBackendDevice();
  }

  /** What the driver made. Set once, before anybody can open the device. */
  get ops(): DeviceOps {
    if (this.#ops === undefined) throw coreErrors.DEVICE_GONE({ device: this.name });
    return this.#ops;
  }

  set ops(ops: DeviceOps) {
    this.#ops = ops;
    if (ops.migration !== undefined) {
      this.#migration = new Migration(this.name, ops.migration, (section) => this.#alone(section));
    }
  }

  /** How its state is saved and restored; undefined: it cannot be migrated. */
  get migration(): Migration | undefined {
    return this.#migration;
  }

  get openCount(): number {
    return this.#openCount;
  }

  get state(): 'registered' | 'unregistering' | 'gone' {
    return this.#state;
  }

  get hasDmaUnmap(): boolean {
    return hasDuty(this.#ops);
  }

  /**
   * One more opener. The first one registers the device with the backend, then runs the driver's `open`; a failure undoes
   * both. @throws CORE_DEVICE_GONE (ENODEV), CORE_NO_CONTAINER, CORE_NO_IOMMU (EINVAL), and what the driver throws.
   */
  async open(): Promise<void> {
    this.#runtime.guard.refuseInside(`open of device ${this.name}`, ['open', 'close', 'reset', 'dmaUnmap']);
    await this.#alone(() => this.#open());
  }

  /**
   * One opener less. The last one runs the driver's `close` and verifies that every pin came back.
   * @throws CORE_PINS_LEFT (EBUSY) and whatever `close` threw - in both cases the device is closed all the same.
   */
  async close(): Promise<void> {
    this.checkMayClose();
    await this.#alone(() => this.#close());
  }

  /** Whether a close could begin here. @throws CORE_REENTRY (EBUSY) inside a duty; whoever counts openers asks before it uncounts one. */
  checkMayClose(): void {
    this.#runtime.guard.refuseInside(`close of device ${this.name}`, ['open', 'close', 'reset', 'dmaUnmap']);
  }

  /** VFIO_DEVICE_RESET. @throws CORE_NO_RESET (ENOTTY), CORE_NOT_OPEN (EINVAL), the driver's. */
  async reset(): Promise<void> {
    this.#runtime.guard.refuseInside(`reset of device ${this.name}`, ['open', 'close', 'reset', 'dmaUnmap']);
    await this.#alone(async () => {
      this.#checkOpen('reset');
      const ops = this.ops;
      if (ops.reset === undefined) throw coreErrors.NO_RESET({ device: this.name });
      await this.#duty('reset', () => ops.reset?.());
      this.#migration?.reset();
    });
  }

  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#checkRegion('readable', index, offset, bytes.length);
    this.ops.readRegion?.(index, offset, bytes);
  }

  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#checkRegion('writable', index, offset, bytes.length);
    this.ops.writeRegion?.(index, offset, bytes);
  }

  /**
   * vfio_dma_rw(). `caller` absent: the driver's own worker.
   * @throws CORE_NOT_OPEN, CORE_BAD_COUNT (EINVAL, no bytes), CORE_NOT_SUPPORTED (ENOTTY), the backend's.
   */
  copy(iova: bigint, bytes: Uint8Array, write: boolean, caller?: Task): void {
    if (bytes.length === 0) throw coreErrors.BAD_COUNT({ device: this.name, count: 0 });
    this.#checkOpen('dma_rw');
    this.group.requireContainer('dma_rw').dmaRw(iova, bytes, write, caller);
  }

  /** The mapping over `range` is gone. */
  forgetPins(range: FrameRange): void {
    this.pins.forget(range);
  }

  /**
   * Takes the device away: asks its users again and again (every 10 s) until all closed it. New openers get ENODEV.
   * Source: vfio_unregister_group_dev().
   */
  async unregister(): Promise<void> {
    this.#runtime.guard.refuseInside(`removal of device ${this.name}`, [
      'create',
      'open',
      'close',
      'reset',
      'dmaUnmap',
    ]);
    if (this.#state !== 'registered') throw coreErrors.DEVICE_GONE({ device: this.name });
    this.#state = 'unregistering';
    for (let count = 0; this.#openCount > 0 || this.#lock.busy; count += 1) {
      this.#request(count);
      await this.#waitForClose();
    }
    this.#state = 'gone';
    this.group.removeDevice(this);
  }

  #request(count: number): void {
    try {
      this.#ops?.request?.(count);
    } catch (error) {
      this.#runtime.publish('driver:failed', { device: this.name, driver: this.driver, duty: 'request', error });
    }
    this.#runtime.publish('device:requested', { device: this.name, driver: this.driver, count });
  }

  /** Settles when nobody has the device open or is about to, or after the interval. */
  #waitForClose(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        this.#closeWaiters.delete(done);
        resolve();
      };
      const cancel = this.#runtime.clock.after(REQUEST_INTERVAL, done);
      this.#closeWaiters.add(done);
    });
  }

  async #open(): Promise<void> {
    if (this.#state !== 'registered') throw coreErrors.DEVICE_GONE({ device: this.name });
    if (this.#openCount > 0) {
      this.#openCount += 1;
      return;
    }
    const container = this.group.requireContainer(`open of device ${this.name}`);
    const backend = container.requireBackend(`open of device ${this.name}`);
    this.group.addUser();
    this.#openCount = 1;
    try {
      await backend.registerDevice?.(this.#backendDevice);
      try {
        await this.#duty('open', () => this.#ops?.open?.());
      } catch (cause) {
        this.#reclaimPins();
        await backend.unregisterDevice?.(this.#backendDevice);
        throw cause;
      }
    } catch (cause) {
      this.#closed();
      throw cause;
    }
    this.#runtime.publish('device:opened', { device: this.name, driver: this.driver });
  }

  async #close(): Promise<void> {
    if (this.#openCount === 0) throw coreErrors.NOT_OPEN({ device: this.name, operation: 'close' });
    if (this.#openCount > 1) {
      this.#openCount -= 1;
      return;
    }
    const backend = this.group.requireContainer(`close of device ${this.name}`).requireBackend('close');
    const failures: unknown[] = [];
    await this.#duty('close', () => this.#ops?.close?.()).catch((failure: unknown) => failures.push(failure));
    const left = this.#reclaimPins();
    await backend.unregisterDevice?.(this.#backendDevice);
    this.#closed();
    this.#runtime.publish('device:closed', { device: this.name, driver: this.driver });
    if (failures.length > 0) throw failures[0];
    if (left !== undefined) throw left;
  }

  #closed(): void {
    this.#migration?.reset();
    this.#openCount = 0;
    this.group.dropUser();
  }

  /** Runs a section with no other one of this device beside it; then whoever waits for an idle device may look. */
  async #alone(section: () => Promise<void>): Promise<void> {
    try {
      await this.#lock.run(section);
    } finally {
      if (!this.#lock.busy && this.#openCount === 0) for (const waiter of [...this.#closeWaiters]) waiter();
    }
  }

  /** Verifies the duty of `close`. @returns the error to throw if pins were left. */
  #reclaimPins(): unknown {
    const release = this.group.container?.backend?.pinPolicy?.leftAtClose !== 'kept';
    const frames = this.pins.reclaim(release);
    if (frames.length === 0) return undefined;
    const container = this.group.container?.name ?? '';
    this.#runtime.publish('pages:leaked', { container, device: this.name, driver: this.driver, frames });
    return release
      ? coreErrors.PINS_LEFT({ device: this.name, driver: this.driver, frames, released: release })
      : undefined;
  }

  async #duty(duty: Duty, action: () => void | Promise<void>): Promise<void> {
    try {
      await this.#runtime.guard.run({ device: this.name, driver: this.driver, duty }, action);
    } catch (error) {
      this.#runtime.publish('driver:failed', { device: this.name, driver: this.driver, duty, error });
      throw error;
    }
  }

  #checkOpen(operation: string): void {
    if (this.#openCount === 0) throw coreErrors.NOT_OPEN({ device: this.name, operation });
  }

  #checkRegion(access: 'readable' | 'writable', index: number, offset: number, length: number): void {
    this.#checkOpen('region access');
    const region = this.ops.regions?.find((info) => info.index === index);
    if (region === undefined || !region[access]) throw coreErrors.NO_REGION({ device: this.name, index, access });
    if (Number.isInteger(offset) && offset >= 0 && offset + length <= region.size) return;
    throw coreErrors.OUT_OF_REGION({ device: this.name, index, offset, length, size: region.size });
  }

  #seat(): ConstructorParameters<typeof DevicePins>[0] {
    const device = this;
    return {
      name: device.name,
      driver: device.driver,
      get hasDmaUnmap() {
        return device.hasDmaUnmap;
      },
      get isOpen() {
        return device.#openCount > 0;
      },
      get containerName() {
        return device.group.container?.name ?? '';
      },
      get backendName() {
        return device.group.container?.backendName ?? 'none';
      },
      get backend() {
        return device.group.container?.backend;
      },
      group: device.group,
      otherHolder: (frame: IovaFrame) => device.group.container?.holderOf(frame, device),
    };
  }

  #asBackendDevice(): BackendDevice {
    const device = this;
    const who = { device: device.name, driver: device.driver, duty: 'dmaUnmap' } as const;
    return {
      name: device.name,
      driver: device.driver,
      group: device.group,
      get hasDmaUnmap() {
        return device.hasDmaUnmap;
      },
      async dmaUnmap(range: FrameRange): Promise<void> {
        const ops = device.#ops;
        if (!hasDuty(ops)) return;
        try {
          await device.#runtime.guard.runNamed(who, () => ops.dmaUnmap(range));
        } catch (error) {
          device.#runtime.publish('driver:failed', {
            device: device.name,
            driver: device.driver,
            duty: 'dmaUnmap',
            error,
          });
          throw error;
        }
      },
      pinnedFrames: (range: FrameRange = WHOLE_SPACE) => device.pins.within(range),
    };
  }
}
