import type { PinningDeviceContext, PinningDeviceOps } from '@pinion/core';
import { type Capability, dwordBar, express, msi, msix, PciDevice, powerManagement, serialNumber } from '@pinion/pci';
import { Controller } from './controller.js';
import { errors } from './errors.js';
import type { Identification } from './identify.js';
import { BAR, LIMIT } from './registers.js';
import type { NamespaceStore } from './store.js';

/** What can be chosen about a disk. */
export interface NvmeOptions {
  /** Bytes of a block. Default 512. */
  readonly blockSize?: 512 | 4096;
  /** Default: the first 20 characters of the device's name. */
  readonly serial?: string;
  readonly model?: string;
  /**
   * How it interrupts; default `msix`, one vector for each queue. `msi` has one vector in all, `intx` the pin alone. For a disk that is to be
   * hot-unplugged from QEMU 11.1, which aborts when a vfio-user device with MSI-X goes.
   */
  readonly interrupts?: 'msix' | 'msi' | 'intx';
}

const VENDOR = 0x1234;
const DEVICE = 0x11f5;
const MASS_STORAGE_NVME = 0x010802;
const VECTORS = LIMIT.QUEUES + 1;
const PLACE = { table: { bar: 0, offset: BAR.MSIX_TABLE }, pba: { bar: 0, offset: BAR.MSIX_PBA } };
const MESSAGES: Readonly<Record<NonNullable<NvmeOptions['interrupts']>, () => Capability[]>> = {
  msix: () => [msix({ vectors: VECTORS, ...PLACE })],
  msi: () => [msi()],
  intx: () => [],
};

/** The 16 bytes of a name that is a UUID; of any other name its first 16 characters. */
function uuidOf(name: string): Uint8Array {
  const digits = name.replaceAll('-', '');
  const bytes = new Uint8Array(16);
  bytes.set(/^[0-9a-f]{32}$/i.test(digits) ? Buffer.from(digits, 'hex') : Buffer.from(name.slice(0, 16), 'latin1'));
  return bytes;
}

/** @throws NVME_BAD_SIZE (EINVAL). */
function identificationOf(name: string, store: NamespaceStore, options: NvmeOptions): Identification {
  const { blockSize = 512 } = options;
  if (!(store.size > 0) || store.size % blockSize !== 0) throw errors.BAD_SIZE({ size: store.size, block: blockSize });
  return {
    vendor: VENDOR,
    serial: options.serial ?? name,
    model: options.model ?? 'Pinion NVMe disk',
    firmware: '1.0',
    uuid: uuidOf(name),
    blockSize,
    store,
  };
}

/**
 * One NVMe disk over a store, which it closes at the end. @throws NVME_BAD_SIZE (EINVAL) - the store is the caller's then.
 */
export function createDisk(
  context: PinningDeviceContext,
  store: NamespaceStore,
  options: NvmeOptions,
): PinningDeviceOps {
  const who = identificationOf(context.name, store, options);
  const { interrupts = 'msix' } = options;
  const vectors = interrupts === 'msix' ? VECTORS : 1;
  const controller = new Controller(context, { who, vectors, pci: () => pci });
  const pci = new PciDevice({
    name: context.name,
    log: context.log,
    identity: { vendor: VENDOR, device: DEVICE, revision: 1, classCode: MASS_STORAGE_NVME, interruptPin: 'A' },
    bars: [
      {
        index: 0,
        kind: 'memory64',
        size: BAR.SIZE,
        handler: dwordBar({
          read: (offset) => controller.read(offset),
          write: (offset, value) => controller.write(offset, value),
        }),
      },
    ],
    capabilities: [
      powerManagement(),
      express(),
      ...MESSAGES[interrupts](),
      serialNumber(new DataView(who.uuid.buffer).getBigUint64(0)),
    ],
    reset: () => controller.reset(),
    commandChanged: () => controller.kick(),
  });
  return {
    ...pci.ops(),
    dmaUnmap: (range) => controller.dmaUnmap(range),
    setGuestMemory: (memory) => {
      controller.far.current = memory;
    },
    remove: () => store.close(),
  };
}
