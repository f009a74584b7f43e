import { type Device, gpaFrame } from '@pinion/core';
import {
  createGvtDriver,
  GpuResources,
  GvtDevice,
  kvmBackend,
  type LiveFrame,
  staticBackend,
  VGPU_TYPES,
  xenBackend,
} from '@pinion/gvt';
import type { MediatedKind, ParentConfig } from '../device-kind.js';
import { vmErrors } from '../errors.js';
import { PciFunction } from '../pci-function.js';
import type { Picture } from '../png.js';
import { byteCount, flag, oneOf } from '../schema.js';

const APERTURES = ['256M', '512M', '1024M', '2048M'] as const;

const MONITORS = ['dp', 'hdmi'] as const;

const MS_PER_SECOND = 1000;
const BACKENDS = { kvm: kvmBackend, xen: xenBackend, static: staticBackend() } as const;

interface GvtParent extends ParentConfig {
  readonly aperture?: (typeof APERTURES)[number];
  /** How its vGPUs hold guest pages: counted, noted once and held, or all of them while the vGPU is plugged. Default `kvm`. */
  readonly backend?: keyof typeof BACKENDS;
  /** How its vGPUs' monitors are plugged in. Default `dp`. */
  readonly monitor?: (typeof MONITORS)[number];
  /** Whether its vGPUs are their guests' first displays. Default no. */
  readonly primary?: boolean;
  /** Bytes that an engine touches in a second; default: as many as the process can. */
  readonly bandwidth?: bigint;
}

const apertureMb = (parent: GvtParent | undefined): number => Number.parseInt(parent?.aperture ?? '512M', 10);

/**
 * vGPUs. A parent may name its `aperture`, `backend`, `monitor`, `primary` and `bandwidth`; a guest has one vGPU of a parent open, and finds
 * it under the device's name, like a PCI slot.
 */
export const gvtKind: MediatedKind<GvtParent> = {
  driver: 'gvt',
  deviceApi: 'vfio-pci',
  mediated: true,
  types: VGPU_TYPES.map(({ id }) => id),
  parentKeys: {
    required: {},
    optional: {
      aperture: oneOf('aperture', APERTURES),
      backend: oneOf('backend', ['kvm', 'xen', 'static'] as const),
      monitor: oneOf('monitor', MONITORS),
      primary: flag,
      bandwidth: byteCount,
    },
  },
  deviceKeys: { required: {}, optional: {} },
  maxParents: 1,
  offers: (parent) => new GpuResources(apertureMb(parent)).types.map(({ id }) => id),
  createDriver: ([parent]) =>
    createGvtDriver({
      apertureMb: apertureMb(parent),
      hypervisor: BACKENDS[parent?.backend ?? 'kvm'],
      monitor: parent?.monitor ?? 'dp',
      primary: parent?.primary ?? false,
      ...(parent?.bandwidth === undefined ? {} : { engineBytesPerMs: Number(parent.bandwidth) / MS_PER_SECOND }),
    }),
  configure(_config, ops, machine) {
    if (!(ops instanceof GvtDevice)) return;
    ops.setGuest(machine);
    const { regions, writeWatches } = machine.memory;
    ops.backend.setWriteTraps?.(writeWatches);
    ops.backend.setGuestMemory?.(
      regions.map(({ at, size }) => ({ first: gpaFrame(at), last: gpaFrame(at + size - 1n) })),
    );
  },
  connect: ({ name }, file, machine) => machine.plugFunction(name, new PciFunction(name, file)),
};

/** What the screen of a vGPU shows. @throws VM_WRONG_DRIVER (EINVAL) for any other device, GVT_BAD_PLANE (EINVAL), GVT_PLANE_RANGE (EFAULT). */
export function screenOf({ name, ops }: Device): Picture {
  if (ops instanceof GvtDevice) return ops.frame();
  throw vmErrors.WRONG_DRIVER({ device: name, wanted: 'gvt' });
}

/**
 * The live screen of a vGPU: as it is now, then at each vertical blank in which it has changed. Ends when the vGPU closes.
 * @throws VM_WRONG_DRIVER (EINVAL) for any other device.
 */
export function framesOf({ name, ops }: Device): AsyncIterableIterator<LiveFrame> {
  if (ops instanceof GvtDevice) return ops.frames();
  throw vmErrors.WRONG_DRIVER({ device: name, wanted: 'gvt' });
}
