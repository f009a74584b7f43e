import { CAPABILITY, IRQ, MSI, MSIX, walkCapabilities } from '@pinion/pci';
import type { BusFunction } from './bus-function.js';

/** What a message writes, and where. */
export interface Message {
  readonly address: bigint;
  readonly data: number;
}

const CONFIG_REGION = 7;
const MULTIPLE_SHIFT = 4;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Address and data that the guest programmed for a message of `index` (MSI or MSI-X); undefined if the function has no such
 * capability. Source: PCI 3.0 section 6.8.
 */
export function messageOf(pci: BusFunction, index: number, vector: number): Message | undefined {
  const config = (offset: number, length: number): DataView => viewOf(pci.read(CONFIG_REGION, offset, length));
  const id = index === IRQ.MSIX ? CAPABILITY.MSIX : CAPABILITY.MSI;
  const at = walkCapabilities((offset) => config(offset, 1).getUint8(0)).find((each) => each.id === id)?.offset;
  if (at === undefined) return undefined;
  return index === IRQ.MSIX ? msixMessage(pci, config(at, 12), vector) : msiMessage(config(at, 14), vector);
}

function msixMessage(pci: BusFunction, capability: DataView, vector: number): Message {
  const table = capability.getUint32(MSIX.TABLE, true);
  const entry = viewOf(pci.read(table & 0b111, (table & ~0b111) + vector * MSIX.ENTRY_SIZE, MSIX.ENTRY_SIZE));
  return { address: entry.getBigUint64(0, true), data: entry.getUint32(8, true) };
}

function msiMessage(capability: DataView, vector: number): Message {
  const control = capability.getUint16(MSI.CONTROL, true);
  const wide = (control & MSI.WIDE) !== 0;
  const high = wide ? BigInt(capability.getUint32(MSI.ADDRESS + 4, true)) << 32n : 0n;
  const enabled = 1 << ((control >> MULTIPLE_SHIFT) & 0b111);
  const data = capability.getUint16(wide ? 12 : 8, true);
  return {
    address: high | BigInt(capability.getUint32(MSI.ADDRESS, true)),
    data: (data & ~(enabled - 1)) | (vector % enabled),
  };
}

/** Where a PC takes messages. Source: Intel SDM volume 3, 10.11. */
const FIRST_ADDRESS = 0xfee0_0000n;
const LAST_ADDRESS = 0xfeef_ffffn;
const FIRST_VECTOR = 16;
const LOWEST_PRIORITY = 1;

/** The interrupt vector that a message is for, or what is wrong with it. One CPU: whoever it is addressed to, it is this one. */
export function vectorOf({ address, data }: Message): number | string {
  if (address < FIRST_ADDRESS || address > LAST_ADDRESS)
    return `its address 0x${address.toString(16)} is no local APIC's`;
  const vector = data & 0xff;
  const mode = (data >> 8) & 0b111;
  if (mode > LOWEST_PRIORITY) return `its delivery mode ${mode} is neither fixed nor lowest priority`;
  return vector < FIRST_VECTOR ? `its vector ${vector} is reserved for exceptions` : vector;
}
