/** Registers of the edu device, in BAR 0. Source: QEMU's documentation of the device (docs/specs/edu). */
export const REGISTER = {
  IDENTIFICATION: 0x00,
  LIVENESS: 0x04,
  FACTORIAL: 0x08,
  STATUS: 0x20,
  INTERRUPT_STATUS: 0x24,
  INTERRUPT_RAISE: 0x60,
  INTERRUPT_ACKNOWLEDGE: 0x64,
  DMA_SOURCE: 0x80,
  DMA_DESTINATION: 0x88,
  DMA_COUNT: 0x90,
  DMA_COMMAND: 0x98,
} as const;

/** 0xRRrr00ed: version 1.0. */
export const IDENTIFICATION = 0x0100_00ed;
export const STATUS = { COMPUTING: 0x01, INTERRUPT_WHEN_DONE: 0x80 } as const;
export const DMA = { START: 1, TO_RAM: 2, INTERRUPT_WHEN_DONE: 4 } as const;
/** Values in the interrupt status register. */
export const INTERRUPT = { FACTORIAL: 0x001, DMA: 0x100 } as const;

/** The device's own memory, as addresses of its DMA engine have it. */
export const BUFFER = { at: 0x4_0000, size: 4096 } as const;
export const BAR_SIZE = 0x10_0000;
