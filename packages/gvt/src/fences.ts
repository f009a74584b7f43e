import { gvtErrors } from './errors.js';
import type { Failsafe } from './failsafe.js';
import type { RegisterFile } from './mmio.js';
import type { Pvinfo } from './pvinfo.js';

/** Fence registers, 8 bytes each. Source: Intel PRM, FENCE_REG. */
export const FENCE_BASE = 0x100000;
export const FENCE_BYTES = 8;
const GPU_FENCES = 32;

/** What fences are guarded by. */
export interface FenceParts {
  readonly registers: RegisterFile;
  readonly pvinfo: Pvinfo;
  readonly failsafe: Failsafe;
  /** Fences of this vGPU: 0 to `count` - 1. */
  readonly count: number;
}

/**
 * Gives the fence registers their behaviour: the vGPU's own are memory (`FencedMemory` looks at them), the others are refused. A guest that
 * asks for one of those before it has read PVINFO does not know where it runs: failsafe. Source: i915 gvt, sanitize_fence_mmio_access().
 */
export function defineFences({ registers, pvinfo, failsafe, count }: FenceParts): void {
  const refuse = (fence: number): never => {
    if (!pvinfo.notified) failsafe.enter('the guest used a fence that is not its own before it read PVINFO');
    throw gvtErrors.FENCE({ fence, count });
  };
  for (let fence = count; fence < GPU_FENCES; fence++) {
    const register = { read: () => refuse(fence), write: () => refuse(fence) };
    registers.define(FENCE_BASE + fence * FENCE_BYTES, register);
    registers.define(FENCE_BASE + fence * FENCE_BYTES + 4, register);
  }
}
