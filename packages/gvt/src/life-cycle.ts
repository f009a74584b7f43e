import { asIovaFrame, type FrameRange, frameRange } from '@pinion/core';
import type { Vgpu } from './assembly.js';
import { gvtErrors } from './errors.js';
import { yell } from './hypervisor/leftovers.js';
import { powerOn } from './resets.js';

/**
 * The first opener came. @throws PinionError GVT_GUEST_HAS_VGPU (EEXIST), and what the hypervisor throws; the vGPU stays closed then.
 * Source: i915 kvmgt, intel_vgpu_open_device().
 */
export function openVgpu(vgpu: Vgpu): void {
  const { parts, life, backend } = vgpu;
  const { guest } = life;
  if (guest !== undefined) parts.guests.claim(parts.context.name, guest);
  try {
    powerOn(vgpu);
    backend.attach();
  } catch (cause) {
    if (guest !== undefined) parts.guests.release(guest);
    throw cause;
  }
  life.open = true;
}

/**
 * The last opener left: the engines stop, nothing is shown any more, the tables drop what they hold, then whatever else the
 * backend has is released and reported. @throws what the hypervisor throws where BAR0 or BAR2 were; all is given back then, too. Source: i915 kvmgt, intel_vgpu_close_device(), and gvt, intel_gvt_release_vgpu().
 */
export function closeVgpu(vgpu: Vgpu): void {
  const { parts, life, backend, submission, config } = vgpu;
  life.open = false;
  life.asleep = false;
  submission.stop();
  if (parts.quirks.has('cache-destroyed-first')) yell(parts, backend.detach());
  try {
    config.reset();
  } finally {
    dropEverything(vgpu);
  }
}

function dropEverything({ parts, life, backend, ggtt, ppgtt, display }: Vgpu): void {
  display.close();
  ppgtt.destroyAll();
  ggtt.reset();
  yell(parts, backend.detach());
  if (life.guest !== undefined) parts.guests.release(life.guest);
}

/**
 * The mediated device goes. What it owns of the GPU is free again once nobody outside has a handle of one of its planes any more.
 * @throws PinionError GVT_BUSY (EBUSY) while it is open.
 */
export function removeVgpu({ parts, life, display }: Vgpu): void {
  if (life.open) throw gvtErrors.BUSY({ device: parts.context.name });
  display.exports.whenIdle(() => parts.onRemove?.());
}

/**
 * Guest memory goes away: the tables stop leading into the range, then its mappings are released whatever their references, and
 * planes that are shown outside lose their pages in it. A mapping that begins before the range goes as a whole, so nothing may lead
 * to its first page either, by which a small reference knows it.
 */
export function unmapGuestMemory({ ggtt, ppgtt, backend, display }: Vgpu, range: FrameRange): void {
  const begun = (backend.reachingInto?.(range) ?? []).map((gfn) => frameRange(asIovaFrame(gfn), 1));
  ggtt.scrub(range);
  ppgtt.scrub(range);
  for (const page of begun) {
    ggtt.scrub(page);
    ppgtt.scrubPages(page);
  }
  backend.releaseRange(range);
  for (const part of [range, ...begun]) display.exports.revoke(part);
}
