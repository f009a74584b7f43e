/** What a PCI function's registers are called. Sources: PCI Local Bus 3.0 section 6.1-6.2, PCI Express Base 4.0 section 7.5, linux/pci_regs.h (names). */

/** Offsets of a type 0 header, in bytes. */
export const CONFIG = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  CLASS_CODE: 0x09,
  HEADER_TYPE: 0x0e,
  BAR0: 0x10,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  ROM: 0x30,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

/** Bits of the command register. */
export const COMMAND = {
  IO: 0x001,
  MEMORY: 0x002,
  BUS_MASTER: 0x004,
  PARITY_RESPONSE: 0x040,
  SERR: 0x100,
  INTX_DISABLE: 0x400,
} as const;

/** Bits of the status register. The last six are cleared by writing a one. */
export const STATUS = {
  INTERRUPT: 0x0008,
  CAPABILITIES: 0x0010,
  MASTER_PARITY_ERROR: 0x0100,
  SIGNALLED_TARGET_ABORT: 0x0800,
  RECEIVED_TARGET_ABORT: 0x1000,
  RECEIVED_MASTER_ABORT: 0x2000,
  SIGNALLED_SYSTEM_ERROR: 0x4000,
  DETECTED_PARITY_ERROR: 0x8000,
} as const;
export const STATUS_CLEARABLE = 0xf900;

/** Capability identifiers. Source: PCI Code and ID Assignment 1.11. */
export const CAPABILITY = { PM: 0x01, MSI: 0x05, VENDOR: 0x09, EXPRESS: 0x10, MSIX: 0x11 } as const;
/** Extended capability identifiers. */
export const EXTENDED = { DSN: 0x0003, VENDOR: 0x000b } as const;

/** Region indexes of a PCI device. Source: VFIO_PCI_BAR0_REGION_INDEX ... */
export const REGION = { BAR0: 0, ROM: 6, CONFIG: 7, VGA: 8 } as const;
/** Interrupt indexes of a PCI device. Source: VFIO_PCI_INTX_IRQ_INDEX ... */
export const IRQ = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;

/** Bytes of configuration space without and with extended capabilities. */
export const CONFIG_SIZE = 256;
export const EXPRESS_CONFIG_SIZE = 4096;
/** First byte that capabilities may use, and first of the extended ones. */
export const FIRST_CAPABILITY = 0x40;
export const FIRST_EXTENDED = 0x100;
/** Address registers of a type 0 header. */
export const BAR_COUNT = 6;
