import {
  defineDriver,
  definePlugin,
  type PinApi,
  type PinningDeviceContext,
  type PinningDriver,
  type Plugin,
} from '@pinion/core';
import { GvtDevice } from './device.js';
import type { MonitorLink } from './display/monitor.js';
import type { RunLimits } from './engine/engine-run.js';
import { HostGpu } from './engine/host-gpu.js';
import { gvtErrors } from './errors.js';
import type { BackendFactory } from './hypervisor/backend.js';
import { kvmBackend } from './hypervisor/kvm.js';
import type { LeftoverListener } from './hypervisor/leftovers.js';
import { OpenGuests } from './life.js';
import type { PpgttOptions } from './ppgtt/ppgtt.js';
import { GVT_QUIRKS, type GvtQuirk } from './quirks.js';
import { describeType, GpuResources } from './types.js';

const MB = 1024 * 1024;

/** The GPU that a driver shares out. */
export interface GvtOptions {
  /** Size of BAR2 in MB: 256, 512, 1024 or 2048. Default 512. It decides which types there are and how many. */
  readonly apertureMb?: number;
  /** Historical mistakes to make; default none. See GVT_QUIRKS. */
  readonly quirks?: readonly GvtQuirk[];
  /** Hears what was still mapped when a vGPU closed or was reset; the log has it too. */
  readonly onLeftovers?: LeftoverListener;
  /** Whether vGPUs are their guests' first display (class VGA); default they are not. */
  readonly primary?: boolean;
  /** How the monitors are plugged in; default DisplayPort, whose EDID is read over the AUX channel. */
  readonly monitor?: MonitorLink;
  /** What runs the guests: makes the backend of each vGPU. Default: KVM's way, pins on demand. */
  readonly hypervisor?: BackendFactory;
  /** How per-process tables are shadowed. */
  readonly ppgtt?: PpgttOptions;
  /**
   * How fast the engines are, in bytes that one touches per millisecond of the clock: a GPU of that speed, whose vGPUs share its time
   * reproducibly. Default: as fast as this process can.
   */
  readonly engineBytesPerMs?: number;
  /** Milliseconds that a submission may keep an engine before that counts as hung. Default 10000. */
  readonly engineHangMs?: number;
  /**
   * What stands between a vGPU and its pins: where the real GPU sits behind an IOMMU, something that maps what is pinned and
   * answers DMA frames instead of host frames. Default: nothing, DMA frames are host frames.
   */
  readonly mapPins?: (pins: PinApi, device: string) => PinApi;
}

/** The driver, and a way to its devices: what a screen or a printout needs and a region does not show. */
export interface GvtDriver extends PinningDriver {
  /** The vGPU of that name while it exists. */
  device(name: string): GvtDevice | undefined;
  available(type: string): number;
}

/**
 * The vendor driver for one GPU (one parent): its vGPUs share its aperture, its graphics address space and its fences. Types:
 * `V5_1`, `V5_2`, `V5_4`, `V5_8`, as far as the aperture allows them.
 * @throws PinionError GVT_BAD_APERTURE, GVT_UNKNOWN_QUIRK, GVT_BAD_LIMIT (EINVAL).
 */
export function createGvtDriver(options: GvtOptions = {}): GvtDriver {
  const { apertureMb = 512, quirks = [], onLeftovers, mapPins = (pins: PinApi) => pins } = options;
  const { hypervisor = kvmBackend } = options;
  const gpu = new GpuResources(apertureMb);
  for (const quirk of quirks) if (!Object.hasOwn(GVT_QUIRKS, quirk)) throw gvtErrors.UNKNOWN_QUIRK({ quirk });
  const devices = new Map<string, GvtDevice>();
  const guests = new OpenGuests();
  const limits = runLimits(options);
  let engines: HostGpu | undefined;

  const create = (context: PinningDeviceContext): GvtDevice => {
    const resources = gpu.take(context.type);
    engines ??= new HostGpu(context.clock, limits);
    try {
      const device = new GvtDevice({
        context,
        pins: mapPins(context.pins, context.name),
        resources,
        apertureBytes: apertureMb * MB,
        quirks: new Set(quirks),
        hypervisor,
        ppgtt: options.ppgtt,
        gpu: engines,
        onLeftovers,
        guests,
        primary: options.primary,
        monitor: options.monitor,
        onRemove: () => {
          gpu.give(resources);
          if (devices.get(context.name) === device) devices.delete(context.name);
        },
      });
      devices.set(context.name, device);
      return device;
    } catch (cause) {
      gpu.give(resources);
      throw cause;
    }
  };

  return defineDriver({
    name: 'gvt',
    deviceApi: 'vfio-pci',
    types: gpu.types.map(describeType),
    pins: true,
    available: (type: string) => gpu.available(type),
    device: (name: string) => devices.get(name),
    create,
  });
}

/** @throws PinionError GVT_BAD_LIMIT (EINVAL). */
function runLimits({ engineBytesPerMs = Number.POSITIVE_INFINITY, engineHangMs = 10_000 }: GvtOptions): RunLimits {
  for (const [option, value] of Object.entries({ engineBytesPerMs, engineHangMs })) {
    if (!(value > 0)) throw gvtErrors.BAD_LIMIT({ option, value });
  }
  return { bytesPerMs: engineBytesPerMs, hangMs: engineHangMs };
}

/** The driver as a plugin. @throws as `createGvtDriver`. */
export function gvt(options: GvtOptions = {}): Plugin {
  const driver = createGvtDriver(options);
  return definePlugin({ name: 'gvt', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
}
