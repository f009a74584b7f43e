import { gvtErrors } from './errors.js';
import { BAR0_SIZE, CONFIG, CONFIG_SIZE } from './regs.js';

/** Skylake GT2. */
const VENDOR = 0x8086;
const DEVICE = 0x1912;
/** The first that is not a sample for developers, so that drivers do not complain. */
const REVISION = 0x06;
/** Display controller that is not VGA, and a primary display. */
const CLASS_OTHER = 0x038000;
const CLASS_VGA = 0x030000;
const BAR_64BIT = 0x4;
const BAR_64BIT_PREFETCH = 0xc;
/** The kind of a BAR, in its low bits. */
const BAR_KIND = 0xf;
/** GGMS 3: 8 MB of GTT. No stolen memory. */
const GGMS_8MB = 3 << 6;
const STATUS_CAPABILITIES = 0x10;
/** STATUS, high byte: write 1 to clear. */
const STATUS_CLEAR = 0xf9;
const CAPABILITY_MSI = 0x05;
const CAPABILITY_PM = 0x01;
const MSI_ENABLE = 1;
/** What a plain 32-bit single message must not have set. */
const MSI_OTHER = 0xfffe;
const MEMORY_ENABLE = 2;
const D3HOT = 3;
const ONES = 0xffffffff;
/** The address bits of the ROM's register. */
const ROM_ADDRESS = 0xfffff800;

/** What else a write to config space does. Guest-physical addresses in bytes. */
export interface ConfigEffects {
  /** The guest has placed, moved or taken away BAR0 (registers and table) or BAR2 (aperture). Undefined: it is not decoded. */
  placed(bar: 0 | 2, base: bigint | undefined): void;
  /** A call of the OpRegion's services. @throws PinionError: the write fails. */
  swsci(value: number): void;
  /** Where the guest has its copy of the OpRegion. */
  opregionAt(gpa: number): void;
  /** The function was put into D3hot. */
  sleeping(): void;
}

interface Bar {
  readonly index: 0 | 2;
  readonly offset: number;
  readonly size: number;
  readonly flags: number;
}

/** Which bits of the ordinary bytes a guest may change: [offset, mask of each byte]. Source: the RW bitmap of i915 gvt cfg_space.c. */
const WRITABLE: readonly (readonly [offset: number, ...masks: number[]])[] = [
  [CONFIG.COMMAND, 0xff, 0x07],
  [0x0c, 0xff],
  [CONFIG.ROM, 0x01, 0xf8, 0xff, 0xff],
  [CONFIG.INTERRUPT_LINE, 0xff],
  [CONFIG.MSI_CONTROL, 0x71],
  [CONFIG.MSI_ADDRESS, 0xfc, 0xff, 0xff, 0xff],
  [CONFIG.MSI_DATA, 0xff, 0xff],
  [CONFIG.PMCSR, 0x03],
  [CONFIG.ASLS, 0xff, 0xff, 0xff, 0xff],
];

/**
 * The 4096 bytes of PCI configuration of a vGPU. Where GVT-g lets a guest overwrite everything above the header, capabilities
 * and identity stay here as they are. Source: i915 gvt cfg_space.c.
 */
export class ConfigSpace {
  readonly #bytes = new Uint8Array(CONFIG_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #mask = new Uint8Array(CONFIG_SIZE);
  readonly #bars: readonly Bar[];
  readonly #classCode: number;
  readonly #effects: ConfigEffects;
  /** Halves of BARs that hold the answer to a sizing, by their offset. */
  readonly #sizing = new Set<number>();

  /** `apertureBytes`: size of BAR2, a power of two. `primary`: the guest's first display (class VGA). */
  constructor(
    about: { readonly apertureBytes: number; readonly primary?: boolean | undefined },
    effects: ConfigEffects,
  ) {
    this.#effects = effects;
    this.#classCode = about.primary === true ? CLASS_VGA : CLASS_OTHER;
    this.#bars = [
      { index: 0, offset: CONFIG.BAR0, size: BAR0_SIZE, flags: BAR_64BIT },
      { index: 2, offset: CONFIG.BAR2, size: about.apertureBytes, flags: BAR_64BIT_PREFETCH },
    ];
    for (const [offset, ...masks] of WRITABLE) this.#mask.set(masks, offset);
    for (const { offset, size } of this.#bars) {
      const mask = new DataView(this.#mask.buffer, offset, 8);
      mask.setUint32(0, ~(size - 1), true);
      mask.setUint32(4, ONES, true);
    }
    this.#powerOn();
  }

  /** As after power-on: decoding off, BARs unassigned, MSI off. What was decoded is not any more. */
  reset(): void {
    this.#powerOn();
    for (const { index } of this.#bars) this.#effects.placed(index, undefined);
  }

  /** Fills `into` from `offset`, which the caller has checked against the region. */
  read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /**
   * A write of 1..4 bytes; bits that a guest cannot change keep their value. An access that covers COMMAND and STATUS is two, as
   * a driver that restores config space by dwords needs it.
   * @throws PinionError GVT_CONFIG_ACCESS (EINVAL), and what the OpRegion's service throws.
   */
  write(offset: number, from: Uint8Array): void {
    if (from.length > 4 || offset + from.length > CONFIG_SIZE)
      throw gvtErrors.CONFIG_ACCESS({ offset, length: from.length });
    const dword = offset & ~3;
    if (dword === CONFIG.SWSCI) this.#swsci(offset, from);
    else if (dword === CONFIG.ROM) this.#writeRom(offset, from);
    else this.#store(offset, from);
    if (dword === CONFIG.COMMAND) this.#placeAll();
    else if (dword === CONFIG.ASLS) this.#effects.opregionAt(this.#view.getUint32(CONFIG.ASLS, true));
    else if (dword === CONFIG.PMCSR && (this.#bytes[CONFIG.PMCSR] ?? 0) % 4 === D3HOT) this.#effects.sleeping();
    else this.#wroteBar(dword, from);
  }

  /** The message to send, undefined while MSI is off. @throws PinionError GVT_MSI_CONTROL (EINVAL) for more than one message. */
  msi(): { readonly address: number; readonly data: number } | undefined {
    const control = this.#view.getUint16(CONFIG.MSI_CONTROL, true);
    if ((control & MSI_ENABLE) === 0) return undefined;
    if ((control & MSI_OTHER) !== 0) throw gvtErrors.MSI_CONTROL({ control });
    const address = this.#view.getUint32(CONFIG.MSI_ADDRESS, true);
    return { address, data: this.#view.getUint16(CONFIG.MSI_DATA, true) };
  }

  #powerOn(): void {
    const view = this.#view;
    this.#sizing.clear();
    this.#bytes.fill(0);
    view.setUint16(0x00, VENDOR, true);
    view.setUint16(0x02, DEVICE, true);
    view.setUint16(CONFIG.STATUS, STATUS_CAPABILITIES, true);
    view.setUint32(0x08, (this.#classCode << 8) | REVISION, true);
    for (const { offset, flags } of this.#bars) view.setUint32(offset, flags, true);
    view.setUint16(0x2c, VENDOR, true);
    view.setUint16(0x2e, DEVICE, true);
    view.setUint8(CONFIG.CAPABILITIES, CONFIG.MSI);
    view.setUint8(0x3d, 1); // INTA
    view.setUint16(CONFIG.GMCH_CTL, GGMS_8MB, true);
    view.setUint16(CONFIG.MSI, CAPABILITY_MSI | (CONFIG.PM << 8), true);
    view.setUint16(CONFIG.PM, CAPABILITY_PM, true);
    view.setUint16(CONFIG.PM + 2, 2, true); // PM version 2
  }

  #store(offset: number, from: Uint8Array): void {
    for (const [index, byte] of from.entries()) this.#writeByte(offset + index, byte);
  }

  #writeByte(offset: number, byte: number): void {
    const old = this.#bytes[offset] ?? 0;
    if (offset === CONFIG.STATUS + 1) {
      this.#bytes[offset] = old & ~(byte & STATUS_CLEAR);
      return;
    }
    const mask = this.#mask[offset] ?? 0;
    this.#bytes[offset] = (old & ~mask) | (byte & mask);
  }

  /** There is no ROM: a sizing reads zero. */
  #writeRom(offset: number, from: Uint8Array): void {
    this.#store(offset, from);
    if (this.#view.getUint32(CONFIG.ROM, true) >>> 11 === ROM_ADDRESS >>> 11) this.#view.setUint32(CONFIG.ROM, 0, true);
  }

  /** The register itself keeps nothing: every trigger is a new one. */
  #swsci(offset: number, from: Uint8Array): void {
    let value = 0;
    for (const [index, byte] of from.entries()) value |= byte << (8 * (offset - CONFIG.SWSCI + index));
    this.#effects.swsci(value >>> 0);
  }

  #wroteBar(dword: number, from: Uint8Array): void {
    const bar = this.#bars.find(({ offset }) => dword === offset || dword === offset + 4);
    if (bar === undefined) return;
    if (from.length === 4 && from.every((byte) => byte === 0xff)) this.#sizing.add(dword);
    else this.#sizing.delete(dword);
    this.#effects.placed(bar.index, this.#base(bar));
  }

  #placeAll(): void {
    for (const bar of this.#bars) this.#effects.placed(bar.index, this.#base(bar));
  }

  /** Where a BAR is decoded; undefined while memory decoding is off, or the BAR holds the answer to a sizing. */
  #base({ offset }: Bar): bigint | undefined {
    const decoding = ((this.#bytes[CONFIG.COMMAND] ?? 0) & MEMORY_ENABLE) !== 0;
    if (!decoding || this.#sizing.has(offset) || this.#sizing.has(offset + 4)) return undefined;
    return this.#view.getBigUint64(offset, true) & ~BigInt(BAR_KIND);
  }
}
