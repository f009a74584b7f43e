import type { Interrupts } from '../interrupts.js';
import type { RegisterFile } from '../mmio.js';
import type { VgpuType } from '../types.js';
import { HOTPLUG_PORT_D, PCH_HOTPLUG, SDE_ISR, SDE_PORT_D, SFUSE_STRAP, STRAP_PORT_D } from './display-regs.js';
import { makeEdid } from './edid.js';

/** How the monitor is plugged in: DisplayPort answers on the AUX channel, HDMI on the I2C bus of the PCH. */
export type MonitorLink = 'dp' | 'hdmi';

/** What a monitor is made from. */
export interface MonitorParts {
  readonly registers: RegisterFile;
  readonly interrupts: Pick<Interrupts, 'raise'>;
  readonly type: Pick<VgpuType, 'width' | 'height'>;
  readonly link: MonitorLink;
}

/** The only port with something behind it: D, on Skylake. Ports count from A = 0. */
export const MONITOR_PORT = 3;

/** The one virtual monitor of a vGPU, on port D. Source: i915 gvt display.c. */
export class Monitor {
  readonly link: MonitorLink;
  /** Pixels of the type's best mode: the limits that the EDID region tells. */
  readonly best: { readonly width: number; readonly height: number };
  readonly #parts: MonitorParts;
  #edid: Uint8Array;
  #connected = true;

  constructor(parts: MonitorParts) {
    const { width, height } = parts.type;
    this.#parts = parts;
    this.link = parts.link;
    this.best = { width, height };
    this.#edid = makeEdid(width, height);
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** The block that a guest reads now. */
  get edid(): Uint8Array {
    return this.#edid;
  }

  /** The state of the hotplug lines after a reset; no event. A monitor that was unplugged stays so. */
  powerOn(): void {
    const { registers } = this.#parts;
    registers.set(SFUSE_STRAP, this.#with(registers.get(SFUSE_STRAP), STRAP_PORT_D));
    registers.set(SDE_ISR, this.#with(registers.get(SDE_ISR), SDE_PORT_D));
  }

  /** Another monitor: takes effect when the guest reads it again, after `hotplug`. The caller has checked the block. */
  replaceEdid(edid: Uint8Array): void {
    this.#edid = edid;
  }

  /** The cable is plugged in or pulled out: lines, status and event. A monitor that is plugged in already gives the event, too. */
  hotplug(connected: boolean): void {
    const { registers, interrupts } = this.#parts;
    this.#connected = connected;
    this.powerOn();
    registers.set(PCH_HOTPLUG, registers.get(PCH_HOTPLUG) | HOTPLUG_PORT_D);
    interrupts.raise('hotplug-d');
  }

  #with(value: number, bit: number): number {
    return this.#connected ? value | bit : value & ~bit;
  }
}
