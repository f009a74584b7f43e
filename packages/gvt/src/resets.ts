import type { Vgpu } from './assembly.js';
import { yell } from './hypervisor/leftovers.js';
import { fillPvinfo } from './pvinfo.js';
import { BCS, GDRST, GDRST_BCS, GDRST_FULL } from './regs.js';

/** What an engine reset clears. */
const ENGINE_REGISTERS = [BCS.TAIL, BCS.HEAD, BCS.START, BCS.CTL, BCS.IPEHR, BCS.ACTHD, BCS.EIR];

/** Gives GDRST its behaviour: a bit resets and clears itself at once. */
export function defineResets(vgpu: Vgpu): void {
  vgpu.registers.define(GDRST, { write: (bits) => resetEngines(vgpu, bits) });
}

/** GDRST: the engines that `bits` name stop. The table and its pages stay. */
function resetEngines({ ring, registers }: Vgpu, bits: number): void {
  if ((bits & (GDRST_FULL | GDRST_BCS)) === 0) return;
  ring.stop();
  for (const offset of ENGINE_REGISTERS) registers.set(offset, 0);
}

/** Device model level reset: no job, no mapping, all registers at their start values. The handle stays. */
export function resetDevice(vgpu: Vgpu): void {
  vgpu.ring.stop();
  vgpu.ggtt.reset();
  yell(vgpu.parts, vgpu.backend.releaseAll());
  powerOn(vgpu);
}

/** Registers and config space at their start values; nothing pending. Tables and pages are the caller's business. */
export function powerOn({ parts, registers, config, faults, interrupts }: Vgpu): void {
  registers.clear();
  config.reset();
  faults.clear();
  interrupts.reset();
  fillPvinfo(registers, parts.resources);
}
