import type { BarSpec } from './bars.js';
import type { ConfigSpace } from './config-space.js';
import { pciErrors } from './errors.js';
import { COMMAND, CONFIG, STATUS_CLEARABLE } from './registers.js';

/** Who a function is. Source: PCI 3.0 section 6.2.1. */
export interface Identity {
  readonly vendor: number;
  readonly device: number;
  readonly revision?: number;
  /** Base class, subclass, programming interface: 0x010802 is an NVMe controller. */
  readonly classCode: number;
  /** Both default to the function's own. */
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** Pin A; absent when the function has no pin. */
  readonly interruptPin?: 'A';
}

const MAX = {
  vendor: 0xfffe,
  device: 0xffff,
  revision: 0xff,
  classCode: 0xff_ffff,
  subsystemVendor: 0xffff,
  subsystem: 0xffff,
} as const;
const ALWAYS_WRITABLE = COMMAND.BUS_MASTER | COMMAND.PARITY_RESPONSE | COMMAND.SERR;

function checkIdentity(identity: Identity): void {
  const { vendor, device, revision = 0, classCode, subsystemVendor = 0, subsystem = 0 } = identity;
  const values = { vendor, device, revision, classCode, subsystemVendor, subsystem };
  for (const [field, value] of Object.entries(values)) {
    const max = Object.entries(MAX).find(([name]) => name === field)?.[1] ?? 0;
    if (!Number.isInteger(value) || value < 0 || value > max) throw pciErrors.BAD_IDENTITY({ field, value, max });
  }
}

const bytesOf = (length: number, fill: (view: DataView) => void): Uint8Array => {
  const bytes = new Uint8Array(length);
  fill(new DataView(bytes.buffer));
  return bytes;
};

/** Decode bits can be set only for kinds of space the function has; the pin can be disabled only if there is one. */
function writableCommand(identity: Identity, bars: readonly BarSpec[], hasRom: boolean): number {
  const io = bars.some(({ kind }) => kind === 'io') ? COMMAND.IO : 0;
  const memory = hasRom || bars.some(({ kind }) => kind !== 'io') ? COMMAND.MEMORY : 0;
  return ALWAYS_WRITABLE | io | memory | (identity.interruptPin === undefined ? 0 : COMMAND.INTX_DISABLE);
}

/**
 * Declares the type 0 header but for address registers and capability pointer.
 * @throws PCI_BAD_IDENTITY (EINVAL). Source: PCI 3.0 sections 6.1-6.2.
 */
export function defineHeader(
  config: ConfigSpace,
  about: { identity: Identity; bars: readonly BarSpec[]; hasRom: boolean },
): void {
  const { identity, bars, hasRom } = about;
  checkIdentity(identity);
  const { vendor, device, revision = 0, classCode } = identity;
  config.define(0, {
    value: bytesOf(16, (view) => {
      view.setUint16(CONFIG.VENDOR_ID, vendor, true);
      view.setUint16(CONFIG.DEVICE_ID, device, true);
      view.setUint32(CONFIG.REVISION_ID, (classCode * 0x100 + revision) >>> 0, true);
    }),
    writable: bytesOf(16, (view) => {
      view.setUint16(CONFIG.COMMAND, writableCommand(identity, bars, hasRom), true);
      view.setUint8(0x0c, 0xff);
    }),
    clearable: bytesOf(16, (view) => view.setUint16(CONFIG.STATUS, STATUS_CLEARABLE, true)),
  });
  config.define(CONFIG.SUBSYSTEM_VENDOR_ID, {
    value: bytesOf(4, (view) => {
      view.setUint16(0, identity.subsystemVendor ?? vendor, true);
      view.setUint16(2, identity.subsystem ?? device, true);
    }),
  });
  config.define(CONFIG.INTERRUPT_LINE, {
    value: Uint8Array.of(0, identity.interruptPin === undefined ? 0 : 1),
    writable: Uint8Array.of(0xff, 0),
  });
}

const SMALLEST_ROM = 2048;
const LARGEST_ROM = 2 ** 24;

/** Bytes of the window for a ROM of `length` bytes: a power of two of at least 2 KiB. */
export const romSize = (length: number): number => Math.max(SMALLEST_ROM, 2 ** Math.ceil(Math.log2(length)));

/** Declares the expansion ROM's register: address and enable bit. @throws PCI_BAD_ROM (EINVAL). Source: PCI 3.0 section 6.2.5.2. */
export function defineRom(config: ConfigSpace, rom: Uint8Array): void {
  if (rom.length === 0 || rom.length > LARGEST_ROM) throw pciErrors.BAD_ROM({ size: rom.length });
  config.define(CONFIG.ROM, {
    value: new Uint8Array(4),
    writable: bytesOf(4, (view) => view.setUint32(0, (-romSize(rom.length) | 1) >>> 0, true)),
  });
}
