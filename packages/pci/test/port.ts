import type { DeviceOps, IrqSink } from '@pinion/core';
import { type BarHandler, type BarSpec, type Identity, memoryBar, REGION } from '@pinion/pci';

/** Who the functions of these tests are. */
export const identity: Identity = {
  vendor: 0x1234,
  device: 0x5678,
  revision: 9,
  classCode: 0x010802,
  interruptPin: 'A',
};

/** A BAR over plain memory, filled with 0x5a. */
export const bar = (index: number, kind: BarSpec['kind'], size: number, prefetchable = false): BarSpec => ({
  index,
  kind,
  size,
  prefetchable,
  handler: memory(Math.min(size, 65_536)),
});
const memory = (size: number): BarHandler => memoryBar(new Uint8Array(size).fill(0x5a));

/** Bytes for people: pairs of hex digits. */
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** A function from the outside: what software on the bus does. */
export class Port {
  readonly ops: DeviceOps;
  /** Interrupts that came, as `index:vector`. */
  readonly irqs: string[] = [];

  constructor(ops: DeviceOps) {
    this.ops = ops;
    const sink: IrqSink = (index, vector) => this.irqs.push(`${index}:${vector}`);
    ops.setIrqSink?.(sink);
  }

  /** Interrupts since the last call. */
  took(): string[] {
    return this.irqs.splice(0);
  }

  bytes(region: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.ops.readRegion?.(region, offset, bytes);
    return bytes;
  }

  get(region: number, offset: number, size = 4): number {
    return Number(this.get64(region, offset, size));
  }

  get64(region: number, offset: number, size = 8): bigint {
    const bytes = new Uint8Array(8);
    bytes.set(this.bytes(region, offset, size));
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  put(region: number, offset: number, value: number | bigint, size = 4): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    this.ops.writeRegion?.(region, offset, bytes.subarray(0, size));
  }

  config(offset: number, size = 4): number {
    return this.get(REGION.CONFIG, offset, size);
  }

  setConfig(offset: number, value: number, size = 4): void {
    this.put(REGION.CONFIG, offset, value, size);
  }
}
