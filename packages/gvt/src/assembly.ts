import type { PinApi, PinningDeviceContext } from '@pinion/core';
import { CommandStreamer } from './command-streamer.js';
import { ConfigSpace } from './config-space.js';
import { Display } from './display.js';
import { FaultLog } from './faults.js';
import { Ggtt } from './ggtt.js';
import { GraphicsMemory } from './graphics-memory.js';
import type { BackendFactory, HypervisorBackend } from './hypervisor/backend.js';
import type { LeftoverListener } from './hypervisor/leftovers.js';
import { Interrupts } from './interrupts.js';
import { RegisterFile } from './mmio.js';
import { definePvinfo } from './pvinfo.js';
import type { Quirks } from './quirks.js';
import { Ring } from './ring.js';
import type { VgpuResources } from './types.js';

/** What a vGPU is made from. */
export interface GvtDeviceParts {
  readonly context: PinningDeviceContext;
  /** The context's, or what stands before them. */
  readonly pins: PinApi;
  readonly resources: VgpuResources;
  /** Size of BAR2, bytes: the whole aperture, of which the vGPU owns a slice. */
  readonly apertureBytes: number;
  readonly quirks: Quirks;
  /** Makes the way to the hypervisor. */
  readonly hypervisor: BackendFactory;
  readonly onLeftovers?: LeftoverListener | undefined;
  /** The device was removed: gives its resources back. */
  readonly onRemove?: (() => void) | undefined;
}

/** The parts of one vGPU, wired to each other. Each looks after its own registers; resets and life cycle act on all of them. */
export interface Vgpu {
  readonly parts: GvtDeviceParts;
  /** The seam to the hypervisor: where guest pages come from. */
  readonly backend: HypervisorBackend;
  readonly registers: RegisterFile;
  readonly faults: FaultLog;
  readonly config: ConfigSpace;
  readonly ggtt: Ggtt;
  readonly interrupts: Interrupts;
  /** Graphics memory as the CPU reaches it through BAR2. */
  readonly aperture: GraphicsMemory;
  readonly ring: Ring;
  readonly display: Display;
}

/** Makes the parts in the order of their needs: config space, registers, table, interrupts, engines, display. */
export function assemble(parts: GvtDeviceParts): Vgpu {
  const { context, resources } = parts;
  const { clock, log } = context;
  const backend = makeBackend(parts);
  const config = new ConfigSpace(parts.apertureBytes);
  const registers = new RegisterFile();
  definePvinfo(registers, log);
  const faults = new FaultLog(registers);
  const ggtt = new Ggtt(resources, backend, log);
  const interrupts = new Interrupts(registers, () => sendMsi(parts, config, backend));
  const engineMemory = new GraphicsMemory(ggtt, faults, 'bcs');
  const streamer = new CommandStreamer({ memory: engineMemory, registers, clock });
  const ring = new Ring({ registers, streamer, interrupts, clock, log });
  const aperture = new GraphicsMemory(ggtt, faults, 'aperture');
  const display = new Display(registers, new GraphicsMemory(ggtt, faults, 'display'));
  return { parts, backend, registers, faults, config, ggtt, interrupts, aperture, ring, display };
}

const makeBackend = ({ context, pins, quirks, hypervisor }: GvtDeviceParts): HypervisorBackend =>
  hypervisor({ device: context.name, pins, dma: context.dma, log: context.log, quirks });

/** Nobody who raises an interrupt is disturbed by a guest that programmed a message this device does not have. */
function sendMsi({ context }: GvtDeviceParts, config: ConfigSpace, backend: HypervisorBackend): void {
  try {
    const message = config.msi();
    if (message !== undefined) backend.injectMsi(message.address, message.data);
  } catch (cause) {
    context.log.warn(`vGPU ${context.name}: MSI not sent`, cause);
  }
}
