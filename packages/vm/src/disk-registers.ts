/**
 * The registers of the passthrough disk, bytes in BAR0, little endian, 4 bytes each; a 64-bit value takes two, the low half first.
 * The interface is our own: the smallest that shows DMA by a function which only its IOMMU holds back.
 */
export const DISK = {
  /** Reads `DISK_MAGIC`. */
  MAGIC: 0x00,
  /** Blocks of `DISK_BLOCK` bytes, 64 bit. */
  CAPACITY: 0x08,
  /** First block of the transfer, 64 bit. */
  LBA: 0x10,
  /** Blocks to transfer, 1..`DISK_MAX_BLOCKS`. */
  COUNT: 0x18,
  /** `DISK_TO_MEMORY` or `DISK_FROM_MEMORY`. */
  DIRECTION: 0x1c,
  /** Where the data is or goes, as the device says it: 64 bit, any alignment. */
  IOVA: 0x20,
  /** A write of anything starts the transfer. Ignored while one runs. */
  DOORBELL: 0x28,
  /** One of `DISK_STATUS`. Read-only. */
  STATUS: 0x2c,
  /** Bit 0: the transfer ended. Writing 1 clears it. */
  INTERRUPT: 0x30,
  /** Bit 0: the end of a transfer raises MSI 0 if that is on, else the pin, until the interrupt is cleared. */
  INTERRUPT_ENABLE: 0x34,
} as const;

export const DISK_MAGIC = 0x4b534450; // "PDSK"
export const DISK_BLOCK = 512;
export const DISK_MAX_BLOCKS = 32_768;
export const DISK_BAR_SIZE = 4096;
export const DISK_TO_MEMORY = 0;
export const DISK_FROM_MEMORY = 1;

/** `DMA_FAULT`: the IOMMU refused an access. `BAD_COMMAND`: count or direction. `MEDIA`: the image failed or is too small. */
export const DISK_STATUS = { IDLE: 0, BUSY: 1, DONE: 2, DMA_FAULT: 3, BAD_COMMAND: 4, MEDIA: 5 } as const;

/** What a driver needs of configuration space to take the function into use. */
export const DISK_CONFIG = { ID: 0x00, COMMAND: 0x04, MEMORY: 2, BUS_MASTER: 4 } as const;
/** Vendor 1de5 (a number of our own choice), device 0001. */
export const DISK_PCI_ID = 0x0001_1de5;
