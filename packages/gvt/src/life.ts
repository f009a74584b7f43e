import { gvtErrors } from './errors.js';

/** Who runs in the machine that a vGPU is given to; compared by identity. `name` is for messages. */
export interface GuestIdentity {
  readonly name: string;
}

/** Where a vGPU is in its life. */
export interface LifeState {
  open: boolean;
  /** It was put into D3hot: the next reset is a resume and keeps the shadows of per-process tables. The first submission ends that. */
  asleep: boolean;
  /** Undefined: nobody said whose it is. */
  guest: GuestIdentity | undefined;
}

/** Which guest has which vGPU of a GPU open: one each. Source: i915 kvmgt, __kvmgt_vgpu_exist(). */
export class OpenGuests {
  readonly #byGuest = new Map<GuestIdentity, string>();

  /** `device` opens for `guest`. @throws PinionError GVT_GUEST_HAS_VGPU (EEXIST). */
  claim(device: string, guest: GuestIdentity): void {
    const other = this.#byGuest.get(guest);
    if (other !== undefined) throw gvtErrors.GUEST_HAS_VGPU({ device, guest: guest.name, other });
    this.#byGuest.set(guest, device);
  }

  /** The guest's vGPU closed. */
  release(guest: GuestIdentity): void {
    this.#byGuest.delete(guest);
  }
}
