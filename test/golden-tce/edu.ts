import type { PowerGroup } from '@pinion/spapr-tce';

const BUS_MASTER = 4;
const BUFFER_BYTES = 4096;
/** The function emits 28 bits of an address. Source: QEMU's edu device. */
const ADDRESS_MASK = (1n << 28n) - 1n;

/** The DMA engine of the recorded function: copies between its buffer and memory. */
export class EduDevice {
  readonly #group: PowerGroup;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #command = 0;

  constructor(group: PowerGroup) {
    this.#group = group;
  }

  writeCommand(value: number): void {
    this.#command = value;
  }

  /** `toDevice`: the function reads memory. What it cannot reach it reads as zeros, and does not write. */
  copy(iova: bigint, toDevice: boolean, length: number, offset: number): void {
    const bytes = this.#buffer.subarray(offset, offset + length);
    const reaches = (this.#command & BUS_MASTER) !== 0;
    if (toDevice && !reaches) bytes.fill(0);
    else if (toDevice) this.#group.dmaRead(iova & ADDRESS_MASK, bytes);
    else if (reaches) this.#group.dmaWrite(iova & ADDRESS_MASK, bytes);
  }
}
