/** Register offsets in BAR0, PCI layout and command-streamer bits. Source: Intel PRM (Skylake), i915 register headers. */

/** VFIO region and interrupt indexes; those above VGA are of this device alone. Source: VFIO_PCI_*_INDEX. */
export const REGION = { BAR0: 0, BAR2: 2, ROM: 6, CONFIG: 7, VGA: 8, OPREGION: 9, EDID: 10 } as const;
export const IRQ = { INTX: 0, MSI: 1 } as const;

export const CONFIG_SIZE = 4096;
export const BAR0_SIZE = 16 * 1024 * 1024;
/** Registers are the first 2 MB of BAR0. */
export const MMIO_SIZE = 2 * 1024 * 1024;
/** The global graphics translation table is the upper half of BAR0. */
export const GTT_OFFSET = 8 * 1024 * 1024;
export const GTT_SIZE = 8 * 1024 * 1024;
/** The largest surface a command or a plane may name, bytes. */
export const MAX_SURFACE = 36 * 1024 * 1024;

/** Registers of the blitter command streamer (BCS). */
export const BCS = {
  TAIL: 0x22030,
  HEAD: 0x22034,
  START: 0x22038,
  CTL: 0x2203c,
  /** Header of the instruction that stopped the engine. */
  IPEHR: 0x22068,
  /** Graphics address of the instruction that stopped the engine. */
  ACTHD: 0x22074,
  /** Hardware status page, graphics address. */
  HWS_PGA: 0x22080,
  EIR: 0x220b0,
  TIMESTAMP: 0x22358,
} as const;
/** RING_CTL: the ring is enabled; its size in pages less one. */
export const RING_ENABLE = 1;
export const RING_PAGES = 0x1ff000;
/** RING_HEAD: byte offset, and the wrap count above it. */
export const HEAD_OFFSET = 0x1ffffc;
export const TAIL_OFFSET = 0x1ffff8;
/** EIR: instruction error. */
export const EIR_INSTRUCTION = 1;

/** A nibble that is all ones switches 64 KiB pages on in per-process tables. Source: i915 gvt, GEN8_GAMW_ECO_DEV_RW_IA. */
export const GAMW_ECO = 0x4080;
export const GAMW_ECO_IPS = 0xf;

/** GDRST: a bit starts a reset and reads as zero when done. */
export const GDRST = 0x941c;
export const GDRST_FULL = 1;
export const GDRST_BCS = 8;

/** Page fault report: register, address bits 43:12, address bits 47:44 with the GGTT flag. */
export const FAULT = { REG: 0x4094, DATA0: 0x4b10, DATA1: 0x4b14 } as const;
export const FAULT_VALID = 1;
/** Level of the entry that led nowhere, less one, in bits 2:1; engine id in bits 14:12. */
export const FAULT_TYPE_SHIFT = 1;
export const FAULT_ENGINE_SHIFT = 12;
export const FAULT_GGTT = 0x10;

/** Interrupt tree: master control, and the GT0 bank that holds RCS (15:0) and BCS (31:16). */
export const INTERRUPT = { MASTER: 0x44200, ISR: 0x44300, IMR: 0x44304, IIR: 0x44308, IER: 0x4430c } as const;
export const MASTER_ENABLE = 0x80000000;
export const MASTER_RCS = 1;
export const MASTER_BCS = 2;
/** GT0, blitter: MI_USER_INTERRUPT, an error that stands in EIR, MI_FLUSH_DW notify. */
export const BCS_USER_INTERRUPT = 1 << 16;
export const BCS_ERROR_INTERRUPT = 1 << 19;
export const BCS_FLUSH_NOTIFY = 1 << 20;

/** Pipe A and its primary plane. */
export const DISPLAY = {
  /** Bit 31: the pipe runs. */
  TRANSCONF: 0x70008,
  /** (width - 1) << 16 | (height - 1). */
  PIPESRC: 0x6001c,
  PLANE_CTL: 0x70180,
  /** In units of 64 bytes (linear) or tile widths. */
  PLANE_STRIDE: 0x70188,
  /** Graphics address, page aligned. Writing it arms the plane. */
  PLANE_SURF: 0x7019c,
} as const;
export const PIPE_ENABLE = 0x80000000;
export const PLANE_ENABLE = 0x80000000;
/** PLANE_CTL format field (27:24). */
export const PLANE_FORMAT = { XRGB8888: 4 << 24, RGB565: 14 << 24 } as const;
export const PLANE_FORMAT_MASK = 0xf << 24;
/** PLANE_CTL: red is the lowest byte. */
export const PLANE_ORDER_RGBX = 1 << 20;
/** PLANE_CTL tiling field (12:10). */
export const PLANE_TILING = { LINEAR: 0, X: 1 << 10, Y: 4 << 10 } as const;
export const PLANE_TILING_MASK = 7 << 10;

/** PVINFO: the page that tells a guest that it runs on a vGPU and what it owns. Source: i915_pvinfo.h. */
export const PVINFO = {
  BASE: 0x78000,
  SIZE: 0x1000,
  MAGIC_LOW: 0x78000,
  MAGIC_HIGH: 0x78004,
  /** Minor version in the upper half. */
  VERSION: 0x78008,
  ID: 0x7800c,
  CAPS: 0x78010,
  LOW_BASE: 0x78040,
  LOW_SIZE: 0x78044,
  HIGH_BASE: 0x78048,
  HIGH_SIZE: 0x7804c,
  FENCES: 0x78050,
  DISPLAY_READY: 0x78804,
  /** Four dwords that nobody may write. */
  RESERVED: 0x78808,
  G2V_NOTIFY: 0x78818,
  CURSOR_X_HOT: 0x78830,
  CURSOR_Y_HOT: 0x78834,
  /** Four roots of 8 bytes for a notification. */
  PDP: 0x78838,
  /** A context descriptor of 8 bytes for a notification. */
  DESCRIPTOR: 0x78858,
} as const;
/** PVINFO.CAPS: 48-bit per-process tables, a hardware status page that is kept up to date, large pages. */
export const PVINFO_CAPS = { FULL_PPGTT: 4, HWSP: 8, HUGE_GTT: 16 } as const;
/** What a guest notifies of. Source: enum vgt_g2v_type. */
export const G2V = {
  EXECLIST_CONTEXT_CREATE: 6,
  EXECLIST_CONTEXT_DESTROY: 7,
  DISPLAY_READY: 1,
  L3_CREATE: 2,
  L3_DESTROY: 3,
  L4_CREATE: 4,
  L4_DESTROY: 5,
} as const;
export const PVINFO_MAGIC_LOW = 0x76544776;
export const PVINFO_MAGIC_HIGH = 0x47765447;

/** Offsets in config space. Source: PCI Local Bus specification; Skylake host configuration. */
export const CONFIG = {
  COMMAND: 0x04,
  STATUS: 0x06,
  BAR0: 0x10,
  BAR2: 0x18,
  ROM: 0x30,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  /** Graphics mode: GTT size in bits 7:6, stolen memory in 15:8. */
  GMCH_CTL: 0x50,
  MSI: 0xac,
  MSI_CONTROL: 0xae,
  MSI_ADDRESS: 0xb0,
  MSI_DATA: 0xb4,
  PM: 0xd0,
  PMCSR: 0xd4,
  /** Software SCI: bit 15 selects SCI, bit 0 triggers it. */
  SWSCI: 0xe8,
  /** Guest-physical address of the OpRegion. */
  ASLS: 0xfc,
} as const;
