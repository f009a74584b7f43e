import { hex } from '@pinion/core';
import type { ConfigSpace } from './config-space.js';
import { pciErrors } from './errors.js';
import { CAPABILITY, CONFIG, EXTENDED, FIRST_CAPABILITY, FIRST_EXTENDED, STATUS } from './registers.js';

/**
 * One capability. `body` is what follows the header (2 bytes: id, next; extended 4 bytes: id, version, next), with masks of the
 * same length for what software may write (`writable`) and clear by a one (`clearable`).
 */
export interface Capability {
  readonly id: number;
  readonly name: string;
  /** Only extended ones have a version. */
  readonly version?: number;
  readonly body: Uint8Array;
  readonly writable?: Uint8Array;
  readonly clearable?: Uint8Array;
  /** For MSI-X: where table and pending bits are. */
  readonly msix?: MsixPlace;
  /** For MSI. */
  readonly msi?: MsiForm;
  /** For PCI Express: the function can be reset alone. */
  readonly flr?: boolean;
}

/** Where an MSI-X capability has its structures. Offsets in bytes from the start of the BAR, multiples of 8. */
export interface MsixPlace {
  /** 1..2048. */
  readonly vectors: number;
  readonly table: { readonly bar: number; readonly offset: number };
  readonly pba: { readonly bar: number; readonly offset: number };
}

export interface MsiForm {
  /** 1, 2, 4, 8, 16 or 32. */
  readonly vectors: number;
  /** 64-bit addresses. */
  readonly wide: boolean;
  /** Per-vector masking: mask and pending registers. */
  readonly maskable: boolean;
}

/** Offsets inside capabilities, from the capability's first byte. */
export const PM = { CAPABILITIES: 2, CONTROL: 4, STATE_MASK: 0b11, D3HOT: 0b11, NO_SOFT_RESET: 0x8 } as const;
export const MSI = { CONTROL: 2, ADDRESS: 4, ENABLE: 0x1, WIDE: 0x80, MASKABLE: 0x100 } as const;
export const MSIX = { CONTROL: 2, TABLE: 4, PBA: 8, ENABLE: 0x8000, FUNCTION_MASK: 0x4000, ENTRY_SIZE: 16 } as const;
export const EXPRESS = {
  CAPABILITIES: 2,
  DEVICE_CAPABILITIES: 4,
  DEVICE_CONTROL: 8,
  DEVICE_STATUS: 10,
  FLR_CAPABLE: 0x1000_0000,
  INITIATE_FLR: 0x8000,
  SIZE: 0x3c,
} as const;

const bytesOf = (length: number, fill: (view: DataView) => void): Uint8Array => {
  const bytes = new Uint8Array(length);
  fill(new DataView(bytes.buffer));
  return bytes;
};

const bad = (name: string, problem: string): unknown => pciErrors.BAD_CAPABILITY({ name, problem });

/** Power management 1.2: D0 and D3hot, no soft reset (state survives D3hot). Source: PCI PM 1.2 section 3.2. */
export const powerManagement = (): Capability => ({
  id: CAPABILITY.PM,
  name: 'pm',
  body: bytesOf(6, (view) => {
    view.setUint16(0, 0x0003, true);
    view.setUint16(2, PM.NO_SOFT_RESET, true);
  }),
  writable: bytesOf(6, (view) => view.setUint16(2, PM.STATE_MASK, true)),
});

/** MSI. @throws PCI_BAD_CAPABILITY (EINVAL). Source: PCI 3.0 section 6.8.1. */
export function msi(form: Partial<MsiForm> = {}): Capability {
  const { vectors = 1, wide = true, maskable = false } = form;
  const exponent = [1, 2, 4, 8, 16, 32].indexOf(vectors);
  if (exponent < 0) throw bad('msi', `${vectors} vectors; use 1, 2, 4, 8, 16 or 32`);
  const data = wide ? 10 : 6;
  const length = maskable ? data + 12 : data + 2;
  const control = (exponent << 1) | (wide ? MSI.WIDE : 0) | (maskable ? MSI.MASKABLE : 0);
  return {
    id: CAPABILITY.MSI,
    name: 'msi',
    msi: { vectors, wide, maskable },
    body: bytesOf(length, (view) => view.setUint16(0, control, true)),
    writable: bytesOf(length, (view) => {
      view.setUint16(0, 0x0071, true);
      view.setUint32(2, 0xffff_fffc, true);
      if (wide) view.setUint32(6, 0xffff_ffff, true);
      view.setUint16(data, 0xffff, true);
      if (maskable) view.setUint32(data + 4, 2 ** vectors - 1, true);
    }),
  };
}

/** MSI-X. Its place in the BARs is checked when the device is made. @throws PCI_BAD_CAPABILITY (EINVAL). Source: PCI 3.0 section 6.8.2. */
export function msix(place: MsixPlace): Capability {
  const { vectors, table, pba } = place;
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > 2048)
    throw bad('msix', `${vectors} vectors; use 1 to 2048`);
  for (const { offset } of [table, pba]) {
    if (!Number.isInteger(offset / 8) || offset < 0) throw bad('msix', `offset ${offset} is no multiple of 8`);
  }
  return {
    id: CAPABILITY.MSIX,
    name: 'msix',
    msix: place,
    body: bytesOf(10, (view) => {
      view.setUint16(0, vectors - 1, true);
      view.setUint32(2, table.offset | table.bar, true);
      view.setUint32(6, pba.offset | pba.bar, true);
    }),
    writable: bytesOf(10, (view) => view.setUint16(0, MSIX.ENABLE | MSIX.FUNCTION_MASK, true)),
  };
}

/** PCI Express, version 2, one 2.5 GT/s lane. `flr`: function level reset. Source: PCI Express Base 4.0 section 7.5.3. */
export const express = (about: { readonly flr?: boolean; readonly integrated?: boolean } = {}): Capability => ({
  id: CAPABILITY.EXPRESS,
  name: 'express',
  flr: about.flr ?? true,
  body: bytesOf(EXPRESS.SIZE - 2, (view) => {
    view.setUint16(0, 0x0002 | (about.integrated === true ? 0x0090 : 0), true);
    view.setUint32(2, 0x8000 | ((about.flr ?? true) ? EXPRESS.FLR_CAPABLE : 0), true);
    if (about.integrated === true) return;
    view.setUint32(10, 0x0000_0011, true);
    view.setUint16(16, 0x0011, true);
  }),
  writable: bytesOf(EXPRESS.SIZE - 2, (view) => {
    view.setUint16(6, (about.flr ?? true) ? 0xffff : 0x7fff, true);
    view.setUint16(14, 0x00c3, true);
  }),
  clearable: bytesOf(EXPRESS.SIZE - 2, (view) => view.setUint16(8, 0x000f, true)),
});

/** A vendor's own capability, read-only for software. @throws PCI_BAD_CAPABILITY (EINVAL). Source: PCI 3.0 appendix H. */
export function vendorSpecific(data: Uint8Array): Capability {
  if (data.length > 0xff - 3) throw bad('vendor', `${data.length} bytes of data; use at most 252`);
  const body = new Uint8Array(1 + data.length);
  body[0] = body.length + 2;
  body.set(data, 1);
  return { id: CAPABILITY.VENDOR, name: 'vendor', body };
}

/** Device serial number (extended). Source: PCI Express Base 4.0 section 7.9.3. */
export const serialNumber = (serial: bigint): Capability => ({
  id: EXTENDED.DSN,
  name: 'dsn',
  version: 1,
  body: bytesOf(8, (view) => view.setBigUint64(0, serial, true)),
});

/** A vendor's own extended capability: id, revision and data. @throws PCI_BAD_CAPABILITY (EINVAL). Source: PCI Express Base 4.0 section 7.9.5. */
export function vendorExtended(about: {
  readonly id: number;
  readonly revision: number;
  readonly data: Uint8Array;
}): Capability {
  const length = about.data.length + 8;
  if (length > 0xfff) throw bad('vendor-extended', `${about.data.length} bytes of data; use at most 4087`);
  const body = bytesOf(length - 4, (view) =>
    view.setUint32(0, ((about.id & 0xffff) | ((about.revision & 0xf) << 16) | (length << 20)) >>> 0, true),
  );
  body.set(about.data, 4);
  return { id: EXTENDED.VENDOR, name: 'vendor-extended', version: 1, body };
}

/** Names of which there may be several. */
const REPEATABLE = ['vendor', 'vendor-extended'];
const aligned = (offset: number): number => Math.ceil(offset / 4) * 4;

/** Where each capability came to lie: its first byte in configuration space. */
export type CapabilityMap = ReadonlyMap<string, number>;

/**
 * Puts capabilities one behind the other, each on a multiple of 4, and links them. A second one of a repeatable name is
 * not in the map. @throws PCI_CAPABILITY_TWICE (EEXIST), PCI_CONFIG_FULL (ENOSPC).
 */
export function placeCapabilities(config: ConfigSpace, capabilities: readonly Capability[]): CapabilityMap {
  const places = new Map<string, number>();
  const chains = {
    plain: { next: FIRST_CAPABILITY, last: 0, end: 0x100 },
    extended: { next: FIRST_EXTENDED, last: 0, end: config.size },
  };
  for (const capability of capabilities) {
    const { name } = capability;
    if (places.has(name) && !REPEATABLE.includes(name)) throw pciErrors.CAPABILITY_TWICE({ name });
    const isExtended = capability.version !== undefined;
    const chain = isExtended ? chains.extended : chains.plain;
    const header = isExtended ? 4 : 2;
    const size = capability.body.length + header;
    if (chain.next + size > chain.end)
      throw pciErrors.CONFIG_FULL({ name, size, room: Math.max(chain.end - chain.next, 0) });
    define(config, chain.next, header, capability);
    if (isExtended) linkExtended(config, chain, capability);
    else linkPlain(config, chain, capability);
    if (!places.has(name)) places.set(name, chain.next);
    chain.last = chain.next;
    chain.next = aligned(chain.next + size);
  }
  return places;
}

function define(config: ConfigSpace, at: number, header: number, capability: Capability): void {
  const padded = (bytes: Uint8Array | undefined): Uint8Array => {
    const whole = new Uint8Array(header + capability.body.length);
    whole.set(bytes ?? [], header);
    return whole;
  };
  config.define(at, {
    value: padded(capability.body),
    writable: padded(capability.writable),
    clearable: padded(capability.clearable),
  });
}

type Chain = { readonly next: number; readonly last: number };

function linkPlain(config: ConfigSpace, { next, last }: Chain, { id }: Capability): void {
  config.preset(next, [id, 0]);
  config.preset(last === 0 ? CONFIG.CAPABILITIES : last + 1, [next]);
  config.preset(CONFIG.STATUS, [config.get8(CONFIG.STATUS) | STATUS.CAPABILITIES]);
}

function linkExtended(config: ConfigSpace, { next, last }: Chain, { id, version = 1 }: Capability): void {
  const header = (target: number, first: number): number => ((target << 20) | first) >>> 0;
  const bytes = (value: number): number[] =>
    [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 0xff);
  config.preset(next, bytes(header(0, (version << 16) | id)));
  if (last !== 0) config.preset(last, bytes(header(next, config.get32(last) & 0xf_ffff)));
}

/** Follows a chain as software does. @returns id and offset of each capability, in order; stops at a loop. */
export function walkCapabilities(read: (offset: number) => number): readonly { id: number; offset: number }[] {
  const found: { id: number; offset: number }[] = [];
  const seen = new Set<number>();
  for (let at = read(CONFIG.CAPABILITIES) & 0xfc; at >= FIRST_CAPABILITY && !seen.has(at); at = read(at + 1) & 0xfc) {
    seen.add(at);
    found.push({ id: read(at), offset: at });
  }
  return found;
}

/** For people: `0x40: 0x11`. */
export const formatCapability = ({ id, offset }: { id: number; offset: number }): string =>
  `${hex(offset)}: ${hex(id)}`;
