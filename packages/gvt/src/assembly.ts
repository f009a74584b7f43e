import { PAGE_SIZE, type PinApi, type PinningDeviceContext } from '@pinion/core';
import { Aperture } from './aperture.js';
import { BarWindows } from './bar-windows.js';
import { type ConfigEffects, ConfigSpace } from './config-space.js';
import { DisplayUnit } from './display/display-unit.js';
import { MONITOR_PORT, type MonitorLink } from './display/monitor.js';
import { OpRegion } from './display/opregion.js';
import type { HostGpu } from './engine/host-gpu.js';
import { Submission } from './engine/submission.js';
import { Failsafe } from './failsafe.js';
import { FaultLog } from './faults.js';
import { FencedMemory } from './fenced-memory.js';
import { defineFences } from './fences.js';
import { FewWarnings } from './few-warnings.js';
import { defineHardware } from './gen9-hardware.js';
import { Ggtt } from './ggtt.js';
import { GraphicsMemory } from './graphics-memory.js';
import type { BackendFactory, HypervisorBackend } from './hypervisor/backend.js';
import type { LeftoverListener } from './hypervisor/leftovers.js';
import { Interrupts } from './interrupts.js';
import type { LifeState, OpenGuests } from './life.js';
import { RegisterFile } from './mmio.js';
import { Ppgtt, type PpgttOptions } from './ppgtt/ppgtt.js';
import { Pvinfo } from './pvinfo.js';
import type { Quirks } from './quirks.js';
import { GAMW_ECO, GAMW_ECO_IPS } from './regs.js';
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
  readonly ppgtt?: PpgttOptions | undefined;
  readonly onLeftovers?: LeftoverListener | undefined;
  /** The engines, shared by all vGPUs of the GPU. */
  readonly gpu: HostGpu;
  /** The guests that have a vGPU of this GPU open. */
  readonly guests: OpenGuests;
  /** The guest's first display; default it is not. */
  readonly primary?: boolean | undefined;
  /** How the monitor is plugged in; default DisplayPort. */
  readonly monitor?: MonitorLink | undefined;
  /** The device was removed: gives its resources back. */
  readonly onRemove?: (() => void) | undefined;
}

/** The parts of one vGPU, wired to each other. Each looks after its own registers; resets and life cycle act on all of them. */
export interface Vgpu {
  readonly parts: GvtDeviceParts;
  readonly life: LifeState;
  /** The seam to the hypervisor: where guest pages come from. */
  readonly backend: HypervisorBackend;
  readonly registers: RegisterFile;
  readonly faults: FaultLog;
  readonly config: ConfigSpace;
  /** Where the hypervisor traps BAR0 and maps the aperture. */
  readonly windows: BarWindows;
  readonly opregion: OpRegion;
  readonly ggtt: Ggtt;
  readonly ppgtt: Ppgtt;
  readonly pvinfo: Pvinfo;
  readonly failsafe: Failsafe;
  readonly interrupts: Interrupts;
  /** BAR2. */
  readonly aperture: Aperture;
  /** What the guest gives to the engines. */
  readonly submission: Submission;
  readonly display: DisplayUnit;
}

/**
 * Makes the parts in the order of their needs: hypervisor, config space, registers, table, interrupts, engines, display. What a
 * part throws leaves nothing behind: no part holds a page, a timer or a handle before the vGPU opens.
 */
export function assemble(parts: GvtDeviceParts): Vgpu {
  const { context, resources } = parts;
  const { clock, log } = context;
  const backend = makeBackend(parts);
  const life: LifeState = { open: false, asleep: false, guest: undefined };
  const windows = new BarWindows(backend, resources.low);
  const opregion = new OpRegion(backend, log);
  const config = new ConfigSpace(parts, configEffects(life, windows, opregion));
  const registers = new RegisterFile();
  defineHardware(registers);
  const faults = new FaultLog(registers);
  const failsafe = new Failsafe(context.name, log);
  const ggtt = new Ggtt(resources, backend, log);
  const ppgtt = makePpgtt(parts, { backend, registers, faults, failsafe });
  const pvinfo = new Pvinfo({ registers, ppgtt, failsafe, log, resources });
  defineFences({ registers, pvinfo, failsafe, count: resources.type.fences });
  const warnings = new FewWarnings(log);
  const interrupts = new Interrupts(registers, () => sendMsi({ device: context.name, warnings, config, backend }));
  const needs = { life, registers, interrupts, ggtt, ppgtt, faults, failsafe, pvinfo };
  const submission = makeSubmission(parts, needs);
  const cpu = new FencedMemory(new GraphicsMemory(ggtt, faults, 'aperture'), registers, resources.type.fences);
  const aperture = new Aperture(context.name, resources.low, cpu);
  const memory = new GraphicsMemory(ggtt, faults, 'display');
  const { type } = resources;
  const link = parts.monitor ?? 'dp';
  const display = new DisplayUnit({ clock, registers, interrupts, ggtt, backend, memory, type, link });
  backend.setOpregion?.(opregion.bytes);
  backend.setEdid?.(MONITOR_PORT, display.monitor.edid);
  return {
    parts,
    life,
    backend,
    registers,
    faults,
    config,
    windows,
    opregion,
    ggtt,
    ppgtt,
    pvinfo,
    failsafe,
    interrupts,
    aperture,
    submission,
    display,
  };
}

type SubmissionNeeds = Pick<
  Vgpu,
  'life' | 'registers' | 'interrupts' | 'ggtt' | 'ppgtt' | 'faults' | 'failsafe' | 'pvinfo'
>;

function makeSubmission({ context, resources, gpu }: GvtDeviceParts, needs: SubmissionNeeds): Submission {
  const { life, registers, interrupts, ggtt, ppgtt, faults, failsafe, pvinfo } = needs;
  const { name: device, clock, log } = context;
  return new Submission({
    device,
    weight: resources.type.weight,
    gpu,
    registers,
    interrupts,
    clock,
    log,
    memoryOf: (engine) => new GraphicsMemory(ggtt, faults, engine),
    isBacked: (address) => ggtt.page(Math.floor(address / PAGE_SIZE)) !== undefined,
    spaces: ppgtt,
    failsafe: (reason) => failsafe.enter(reason),
    isAware: () => pvinfo.notified,
    onSubmit: () => {
      life.asleep = false;
    },
  });
}

const configEffects = (life: LifeState, windows: BarWindows, opregion: OpRegion): ConfigEffects => ({
  placed: (bar, base) => windows.place(bar, base),
  swsci: (value) => opregion.service(value),
  opregionAt: (gpa) => opregion.placeAt(gpa),
  sleeping: () => {
    life.asleep = true;
  },
});

const makeBackend = ({ context, pins, quirks, hypervisor }: GvtDeviceParts): HypervisorBackend =>
  hypervisor({ device: context.name, pins, dma: context.dma, log: context.log, quirks });

type PpgttNeeds = Pick<Vgpu, 'backend' | 'registers' | 'faults' | 'failsafe'>;

/** Per-process tables, which hear of guest writes from the backend. */
function makePpgtt({ context, quirks, ppgtt: options }: GvtDeviceParts, needs: PpgttNeeds): Ppgtt {
  const { backend, registers, faults, failsafe } = needs;
  const { log } = context;
  const ipsEnabled = () => (registers.get(GAMW_ECO) & GAMW_ECO_IPS) === GAMW_ECO_IPS;
  const ppgtt = new Ppgtt({ backend, faults, log, quirks, ipsEnabled, failsafe: () => failsafe.active, options });
  backend.onGuestWrite = (gpa, bytes) => ppgtt.hear(gpa, bytes);
  return ppgtt;
}

interface MsiPath {
  readonly device: string;
  readonly warnings: FewWarnings;
  readonly config: ConfigSpace;
  readonly backend: HypervisorBackend;
}

/** Nobody who raises an interrupt is disturbed by a guest that programmed a message this device does not have. */
function sendMsi({ device, warnings, config, backend }: MsiPath): void {
  try {
    const message = config.msi();
    if (message !== undefined) backend.injectMsi(message.address, message.data);
  } catch (cause) {
    warnings.warn(`vGPU ${device}: MSI not sent`, cause);
  }
}
