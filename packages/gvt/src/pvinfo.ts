import type { Log } from '@pinion/core';
import { READ_ONLY, type RegisterFile } from './mmio.js';
import { PVINFO, PVINFO_MAGIC_HIGH, PVINFO_MAGIC_LOW } from './regs.js';
import type { VgpuResources } from './types.js';

/** What a guest may write; everything else in the page is read-only. */
const WRITABLE: ReadonlySet<number> = new Set([PVINFO.DISPLAY_READY, PVINFO.CURSOR_X_HOT, PVINFO.CURSOR_Y_HOT]);

/** Gives the PVINFO page its behaviour. A notification asks for a PPGTT or a context, of which this form has none. */
export function definePvinfo(registers: RegisterFile, log: Log): void {
  for (let offset: number = PVINFO.BASE; offset < PVINFO.BASE + PVINFO.SIZE; offset += 4) {
    if (!WRITABLE.has(offset)) registers.define(offset, READ_ONLY);
  }
  registers.define(PVINFO.G2V_NOTIFY, {
    write: (value) => log.warn(`guest notification ${value} ignored: this vGPU has no per-process tables`),
  });
}

/** Fills the page. No capability is announced: no PPGTT, no execlists, no huge entries. */
export function fillPvinfo(registers: RegisterFile, { id, low, high, type }: VgpuResources): void {
  registers.set(PVINFO.MAGIC_LOW, PVINFO_MAGIC_LOW);
  registers.set(PVINFO.MAGIC_HIGH, PVINFO_MAGIC_HIGH);
  registers.set(PVINFO.VERSION, 1);
  registers.set(PVINFO.ID, id);
  registers.set(PVINFO.CAPS, 0);
  registers.set(PVINFO.LOW_BASE, low.base);
  registers.set(PVINFO.LOW_SIZE, low.size);
  registers.set(PVINFO.HIGH_BASE, high.base);
  registers.set(PVINFO.HIGH_SIZE, high.size);
  registers.set(PVINFO.FENCES, type.fences);
  registers.set(PVINFO.CURSOR_X_HOT, 0xffffffff);
  registers.set(PVINFO.CURSOR_Y_HOT, 0xffffffff);
}
