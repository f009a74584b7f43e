import {
  asIovaFrame,
  type DeviceOps,
  defineDriver,
  type FrameRange,
  type PinningDeviceContext,
  type PinningDeviceOps,
  type PinningDriver,
} from '@pinion/core';

/** A device that journals its duties; a test replaces the duty it wants to misbehave. */
export class FakeDevice implements PinningDeviceOps {
  readonly context: PinningDeviceContext;
  readonly regions = [
    { index: 0, name: 'bar0', size: 16, readable: true, writable: true },
    { index: 1, name: 'rom', size: 16, readable: true, writable: false },
  ];
  readonly registers = new Uint8Array(16);
  readonly #journal: string[];
  onOpen: () => void | Promise<void> = () => {};
  onClose: () => void | Promise<void> = () => this.unpinAll();
  onReset: () => void | Promise<void> = () => {};
  onRemove: () => void | Promise<void> = () => {};
  onRequest: (count: number) => void = () => {};
  onDmaUnmap: (range: FrameRange) => void | Promise<void> = (range) => this.unpinWithin(range);

  constructor(context: PinningDeviceContext, journal: string[]) {
    this.context = context;
    this.#journal = journal;
  }

  get name(): string {
    return this.context.name;
  }

  open(): void | Promise<void> {
    this.#journal.push(`${this.name}.open`);
    return this.onOpen();
  }

  close(): void | Promise<void> {
    this.#journal.push(`${this.name}.close`);
    return this.onClose();
  }

  reset(): void | Promise<void> {
    this.#journal.push(`${this.name}.reset`);
    return this.onReset();
  }

  remove(): void | Promise<void> {
    this.#journal.push(`${this.name}.remove`);
    return this.onRemove();
  }

  request(count: number): void {
    this.#journal.push(`${this.name}.request ${count}`);
    this.onRequest(count);
  }

  readRegion(_index: number, offset: number, bytes: Uint8Array): void {
    bytes.set(this.registers.subarray(offset, offset + bytes.length));
  }

  writeRegion(_index: number, offset: number, bytes: Uint8Array): void {
    this.registers.set(bytes, offset);
  }

  dmaUnmap(range: FrameRange): void | Promise<void> {
    this.#journal.push(`${this.name}.dmaUnmap ${range.first}..${range.last}`);
    return this.onDmaUnmap(range);
  }

  unpinWithin(range: FrameRange): void {
    for (let frame = range.first; frame <= range.last; frame = asIovaFrame(frame + 1)) {
      for (let n = this.context.pins.count(frame); n > 0; n -= 1) this.context.pins.unpin(frame, 1);
    }
  }

  unpinAll(): void {
    this.unpinWithin({ first: asIovaFrame(0), last: asIovaFrame(4096) });
  }
}

/** A pinning driver of FakeDevices, in order of creation. */
export interface FakeDriver extends PinningDriver {
  readonly devices: FakeDevice[];
}

export function fakeDriver(journal: string[], about: { name?: string; maxInstances?: number } = {}): FakeDriver {
  const devices: FakeDevice[] = [];
  return defineDriver({
    name: about.name ?? 'fakedrv',
    deviceApi: 'vfio-fake',
    types: [{ id: 'one' }, { id: 'two' }],
    ...(about.maxInstances === undefined ? {} : { maxInstances: about.maxInstances }),
    pins: true,
    devices,
    create(context: PinningDeviceContext) {
      const device = new FakeDevice(context, journal);
      devices.push(device);
      return device;
    },
  });
}

/** A passthrough function that journals its open and close. */
export const fakeFunction = (name: string, journal: string[]): DeviceOps => ({
  open: () => void journal.push(`${name}.open`),
  close: () => void journal.push(`${name}.close`),
  request: (count) => void journal.push(`${name}.request ${count}`),
});
