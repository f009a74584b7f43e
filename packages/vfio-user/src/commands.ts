/** Command numbers. 14 (DIRTY_PAGES) was taken out of the specification and is refused. */
export const COMMAND = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;

const NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, number]) => [number, name]));
/** A command for people. */
export const commandName = (command: number): string => NAMES.get(command) ?? `command ${command}`;

/** Bits of the header's flags. TYPE: 0 is a command, 1 its reply; everything else is nothing we know. */
export const HEADER_FLAG = { TYPE: 0xf, REPLY: 1, NO_REPLY: 0x10, ERROR: 0x20 } as const;
/** Bits of DMA_MAP's flags. MMAP and FILE_IO are libvfio-user's: how the file is to be reached. */
export const DMA_MAP_FLAG = { READ: 1, WRITE: 2, MMAP: 4, FILE_IO: 8 } as const;
/** Bits of DMA_UNMAP's flags. */
export const DMA_UNMAP_FLAG = { GET_DIRTY_BITMAP: 1, ALL: 2 } as const;
/** Bits of DEVICE_GET_INFO's flags. */
export const DEVICE_FLAG = { RESET: 1, PCI: 2 } as const;
/** Bits of DEVICE_GET_REGION_INFO's flags. */
export const REGION_FLAG = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** Ids of region capabilities. */
export const REGION_CAP = { SPARSE_MMAP: 1, TYPE: 2 } as const;
/** Bits of DEVICE_GET_IRQ_INFO's flags. */
export const IRQ_FLAG = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;
/** Bits of DEVICE_SET_IRQS's flags: one DATA and one ACTION. */
export const SET_IRQS_FLAG = { NONE: 1, BOOL: 2, EVENTFD: 4, MASK: 8, UNMASK: 0x10, TRIGGER: 0x20 } as const;
/** Bits of DEVICE_FEATURE's flags above the feature's number. */
export const FEATURE_FLAG = { MASK: 0xffff, GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000 } as const;
/** Numbers of device features. */
export const FEATURE_ID = {
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
} as const;
const FEATURES = new Map<number, string>(Object.entries(FEATURE_ID).map(([name, number]) => [number, name]));
/** A feature for people. */
export const featureName = (feature: number): string => FEATURES.get(feature) ?? 'one that is not known here';
/** Regions of a PCI device. */
export const PCI_REGION = { BAR0: 0, ROM: 6, CONFIG: 7, VGA: 8, COUNT: 9 } as const;
/** Interrupt indices of a PCI device. */
export const PCI_IRQ = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4, COUNT: 5 } as const;
