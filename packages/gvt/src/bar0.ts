import { hex, type Log, PinionError } from '@pinion/core';
import { gvtErrors } from './errors.js';
import type { Failsafe } from './failsafe.js';
import type { Ggtt } from './ggtt.js';
import type { RegisterFile } from './mmio.js';
import { GTT_OFFSET, GTT_SIZE, MMIO_SIZE } from './regs.js';

/** What BAR0 leads to. */
export interface Bar0Parts {
  readonly device: string;
  readonly log: Log;
  readonly registers: RegisterFile;
  readonly ggtt: Ggtt;
  /** In which registers and table are plain memory. */
  readonly failsafe: Failsafe;
}

/** BAR0: registers, a hole, and from 8 MB on the global graphics translation table. Source: i915 kvmgt, intel_vgpu_rw(). */
export class Bar0 {
  readonly #parts: Bar0Parts;
  #holeReported = false;

  constructor(parts: Bar0Parts) {
    this.#parts = parts;
  }

  /** @throws PinionError GVT_REGION_FAULT (EFAULT) when a part of the access is refused; the parts before it have been done. */
  read(offset: number, bytes: Uint8Array): void {
    this.#inUnits(offset, bytes, (at, unit) => this.#readUnit(at, unit));
  }

  /** @throws PinionError as `read`. */
  write(offset: number, bytes: Uint8Array): void {
    this.#inUnits(offset, bytes, (at, unit) => this.#writeUnit(at, unit));
  }

  /** Cuts an access as GVT-g does: 8 bytes only inside the table, else 4, 2 or 1, always aligned. */
  #inUnits(offset: number, bytes: Uint8Array, access: (at: number, unit: Uint8Array) => void): void {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const size = unitSize(at, bytes.length - done);
      try {
        access(at, size === bytes.length ? bytes : bytes.subarray(done, done + size));
      } catch (cause) {
        if (!(cause instanceof PinionError)) throw cause;
        throw gvtErrors.REGION_FAULT({ device: this.#parts.device, offset: at, length: size }, cause);
      }
      done += size;
    }
  }

  #readUnit(at: number, unit: Uint8Array): void {
    const { ggtt, registers, failsafe } = this.#parts;
    if (at >= GTT_OFFSET) ggtt.read(at - GTT_OFFSET, unit);
    else if (at < MMIO_SIZE) {
      if (failsafe.active) registers.load(at, unit);
      else registers.read(at, unit);
    } else {
      unit.fill(0);
      this.#reportHole(at);
    }
  }

  #writeUnit(at: number, unit: Uint8Array): void {
    const { ggtt, registers, failsafe } = this.#parts;
    if (at >= GTT_OFFSET) {
      if (failsafe.active) ggtt.store(at - GTT_OFFSET, unit);
      else ggtt.write(at - GTT_OFFSET, unit);
    } else if (at < MMIO_SIZE) {
      if (failsafe.active) registers.store(at, unit);
      else registers.write(at, unit);
    } else this.#reportHole(at);
  }

  #reportHole(at: number): void {
    if (this.#holeReported) return;
    this.#holeReported = true;
    const { device, log } = this.#parts;
    log.warn(`vGPU ${device}: offset ${hex(at)} of BAR0 is neither register nor table: reads zero, writes ignored`);
  }
}

function unitSize(offset: number, left: number): number {
  const inTable = offset >= GTT_OFFSET && offset < GTT_OFFSET + GTT_SIZE;
  if (inTable && offset % 8 === 0 && left >= 8) return 8;
  if (offset % 4 === 0 && left >= 4) return 4;
  return offset % 2 === 0 && left >= 2 ? 2 : 1;
}
