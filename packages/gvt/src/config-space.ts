import { gvtErrors } from './errors.js';
import { BAR0_SIZE, CONFIG, CONFIG_SIZE } from './regs.js';

/** Skylake GT2. */
const VENDOR = 0x8086;
const DEVICE = 0x1912;
/** Display controller that is not VGA: a vGPU is never the primary display. */
const CLASS = 0x038000;
const BAR_64BIT = 0x4;
const BAR_64BIT_PREFETCH = 0xc;
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

interface Bar {
  readonly offset: number;
  readonly size: number;
  readonly flags: number;
}

/** Which bits of the ordinary bytes a guest may change: [offset, mask of each byte]. */
const WRITABLE: readonly (readonly [offset: number, ...masks: number[]])[] = [
  [CONFIG.COMMAND, 0x07, 0x04],
  [0x0c, 0xff, 0xff],
  [CONFIG.INTERRUPT_LINE, 0xff],
  [CONFIG.MSI_CONTROL, 0x71],
  [CONFIG.MSI_ADDRESS, 0xfc, 0xff, 0xff, 0xff],
  [CONFIG.MSI_DATA, 0xff, 0xff],
  [CONFIG.PMCSR, 0x03],
];

/** The 4096 bytes of PCI configuration of a vGPU. Source: i915 gvt cfg_space.c. */
export class ConfigSpace {
  readonly #bytes = new Uint8Array(CONFIG_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #mask = new Uint8Array(CONFIG_SIZE);
  readonly #bars: readonly Bar[];

  /** `apertureBytes`: size of BAR2, a power of two. */
  constructor(apertureBytes: number) {
    this.#bars = [
      { offset: CONFIG.BAR0, size: BAR0_SIZE, flags: BAR_64BIT },
      { offset: CONFIG.BAR2, size: apertureBytes, flags: BAR_64BIT_PREFETCH },
    ];
    for (const [offset, ...masks] of WRITABLE) this.#mask.set(masks, offset);
    for (const { offset, size } of this.#bars) {
      const mask = new DataView(this.#mask.buffer, offset, 8);
      mask.setUint32(0, ~(size - 1), true);
      mask.setUint32(4, 0xffffffff, true);
    }
    this.reset();
  }

  /** As after power-on: decoding off, BARs unassigned, MSI off. */
  reset(): void {
    const view = this.#view;
    this.#bytes.fill(0);
    view.setUint16(0x00, VENDOR, true);
    view.setUint16(0x02, DEVICE, true);
    view.setUint16(CONFIG.STATUS, STATUS_CAPABILITIES, true);
    view.setUint32(0x08, CLASS << 8, true);
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

  /** Fills `into` from `offset`, which the caller has checked against the region. */
  read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /** A write of 1..4 bytes; bits that a guest cannot change keep their value. @throws PinionError GVT_CONFIG_ACCESS (EINVAL). */
  write(offset: number, from: Uint8Array): void {
    if (from.length > 4) throw gvtErrors.CONFIG_ACCESS({ offset, length: from.length });
    for (const [index, byte] of from.entries()) this.#writeByte(offset + index, byte);
  }

  /** The message to send, undefined while MSI is off. @throws PinionError GVT_MSI_CONTROL (EINVAL) for more than one message. */
  msi(): { readonly address: number; readonly data: number } | undefined {
    const control = this.#view.getUint16(CONFIG.MSI_CONTROL, true);
    if ((control & MSI_ENABLE) === 0) return undefined;
    if ((control & MSI_OTHER) !== 0) throw gvtErrors.MSI_CONTROL({ control });
    const address = this.#view.getUint32(CONFIG.MSI_ADDRESS, true);
    return { address, data: this.#view.getUint16(CONFIG.MSI_DATA, true) };
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
}
