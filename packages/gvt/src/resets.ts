import type { Vgpu } from './assembly.js';
import { yell } from './hypervisor/leftovers.js';
import { GDRST, GDRST_FULL } from './regs.js';

/** A full reset of the engines clears the registers below the interrupt tree: those of the display stay. */
const GT_REGISTERS = 0x44200;

/** Gives GDRST its behaviour: a bit resets and clears itself at once. */
export function defineResets(vgpu: Vgpu): void {
  vgpu.registers.define(GDRST, { write: (bits) => resetEngines(vgpu, bits) });
}

/** GDRST: the engines that `bits` name stop. The table and its pages stay. Source: i915 gvt, intel_gvt_reset_vgpu_locked(). */
function resetEngines({ submission, registers, ppgtt, pvinfo }: Vgpu, bits: number): void {
  if ((bits & GDRST_FULL) === 0) {
    submission.reset(bits);
    return;
  }
  registers.clear(GT_REGISTERS);
  submission.powerOn();
  ppgtt.invalidateAll();
  pvinfo.fill();
}

/**
 * Device model level reset (the RESET ioctl): no job, no mapping, all registers at their start values, nothing shown outside. The
 * handle stays. After D3hot the shadows of per-process tables stay, too: the guest resumes and uses them again.
 */
export function resetDevice(vgpu: Vgpu): void {
  const { submission, display, ggtt, ppgtt, backend, parts, life, failsafe } = vgpu;
  if (failsafe.active) life.asleep = false; // what the guest wrote to its tables since then was not seen
  submission.stop();
  display.exports.revokeAll();
  if (!life.asleep) ppgtt.destroyAll();
  ggtt.reset();
  if (!life.asleep) yell(parts, backend.releaseAll());
  powerOn(vgpu);
  life.asleep = false;
}

/** Registers and config space at their start values; nothing pending. Tables and pages are the caller's business. */
export function powerOn(vgpu: Vgpu): void {
  const { registers, config, opregion, faults, interrupts, submission, display, failsafe, pvinfo, life } = vgpu;
  registers.clear();
  submission.powerOn();
  config.reset();
  opregion.reset();
  faults.clear();
  interrupts.reset();
  failsafe.clear();
  if (life.asleep) pvinfo.fill();
  else pvinfo.reset();
  display.powerOn();
}
