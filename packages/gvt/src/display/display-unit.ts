import type { Clock } from '@pinion/core';
import type { Ggtt } from '../ggtt.js';
import type { GraphicsAccess } from '../graphics-access.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import type { Interrupts } from '../interrupts.js';
import type { RegisterFile } from '../mmio.js';
import type { VgpuType } from '../types.js';
import { defineDdcPins } from './ddc-pins.js';
import { DpAux } from './dp-aux.js';
import { EdidRegion } from './edid-region.js';
import { FrameStreams } from './frame-stream.js';
import { Gmbus } from './gmbus.js';
import { Monitor, type MonitorLink } from './monitor.js';
import { Planes } from './plane.js';
import { PlaneExports } from './plane-exports.js';
import { Screen } from './screen.js';
import { ScreenTracker } from './screen-tracker.js';
import { Vblank } from './vblank.js';

/** What the display of a vGPU is made from. */
export interface DisplayParts {
  readonly clock: Clock;
  readonly registers: RegisterFile;
  readonly interrupts: Interrupts;
  readonly ggtt: Ggtt;
  readonly backend: HypervisorBackend;
  /** Graphics memory as the scan-out reaches it. */
  readonly memory: GraphicsAccess;
  readonly type: VgpuType;
  readonly link: MonitorLink;
}

/** The display of a vGPU: pipe A with its planes, one monitor, and those who look at it from outside. */
export class DisplayUnit {
  readonly monitor: Monitor;
  readonly edidRegion: EdidRegion;
  readonly screen: Screen;
  readonly exports: PlaneExports;
  readonly vblank: Vblank;
  readonly streams: FrameStreams;
  readonly #gmbus: Gmbus;
  readonly #aux: DpAux;

  constructor({ clock, registers, interrupts, ggtt, backend, memory, type, link }: DisplayParts) {
    this.monitor = new Monitor({ registers, interrupts, type, link });
    this.edidRegion = new EdidRegion(this.monitor);
    this.#gmbus = new Gmbus(registers, this.monitor, interrupts);
    this.#aux = new DpAux(registers, this.monitor, interrupts);
    defineDdcPins(registers);
    const planes = new Planes(registers, ggtt);
    this.screen = new Screen(planes, registers, memory);
    this.exports = new PlaneExports({ backend, table: ggtt, planes, screen: this.screen });
    this.vblank = new Vblank({ clock, registers, interrupts });
    this.streams = new FrameStreams({ clock, vblank: this.vblank, tracker: new ScreenTracker(planes, this.screen) });
  }

  /** After the registers were cleared: pipe off, channels idle, the monitor's lines as they are. */
  powerOn(): void {
    this.#gmbus.reset();
    this.#aux.reset();
    this.vblank.reset();
    this.monitor.powerOn();
  }

  /** The vGPU closes: no timer, no pages, no watchers. The registers must say that the pipe is off. */
  close(): void {
    this.exports.revokeAll();
    this.streams.endAll();
    this.vblank.reset();
  }
}
