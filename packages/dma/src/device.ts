const MASK_32 = 0xffff_ffffn;
/** log2 of the bytes in a frame, for masks. */
const SHIFT = 12n;

/** What a device says about the DMA it can do, and what its driver told the kernel. Source: struct device, dma_parms. */
export class DmaDevice {
  readonly name: string;
  /** Name of the driver that is bound, for reports and filters. */
  driver: string;
  /** Highest byte address the device can emit; 0 reads back as 32 bits. */
  #mask = MASK_32;
  /** The same for coherent memory. */
  coherentMask = MASK_32;
  /** A bus between device and memory that carries fewer bits: its highest address; 0: none. */
  busLimit = 0n;
  /** The longest segment of a list that it takes, in bytes. */
  #maxSegment = 65536;
  #segmentBoundary = MASK_32;
  #boundarySize = 2 ** 32;
  /** Low address bits that bouncing must keep. */
  minAlign = 0;
  /** Try below 4 GiB first; turned off for good by the first failure there. Source: pci_32bit_workaround. */
  below4GFirst = true;

  constructor(name: string, driver = name) {
    this.name = name;
    this.driver = driver;
  }

  get mask(): bigint {
    return this.#mask === 0n ? MASK_32 : this.#mask;
  }
  set mask(mask: bigint) {
    this.#mask = mask;
  }

  get maxSegment(): number {
    return this.#maxSegment;
  }
  /** 0 means the default of 64 KiB. */
  set maxSegment(bytes: number) {
    this.#maxSegment = bytes === 0 ? 65536 : bytes;
  }

  /** No segment may cross a multiple of this plus one; a power of two minus one. */
  get segmentBoundary(): bigint {
    return this.#segmentBoundary;
  }
  set segmentBoundary(mask: bigint) {
    this.#segmentBoundary = mask;
    this.#boundarySize = Number(mask + 1n);
  }
  /** The boundary plus one: bytes between two places that no segment crosses. */
  get boundarySize(): number {
    return this.#boundarySize;
  }

  /** The lower of the mask and the bus limit. */
  reach(mask: bigint): bigint {
    return this.busLimit !== 0n && this.busLimit < mask ? this.busLimit : mask;
  }

  /** The highest frame that begins at or below a mask. */
  limitFrame(mask: bigint): number {
    return Number(this.reach(mask) >> SHIFT);
  }
}
