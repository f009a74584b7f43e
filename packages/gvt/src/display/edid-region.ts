import { gvtErrors } from '../errors.js';
import { EDID_SIZE, edidProblem } from './edid.js';
import type { Monitor } from './monitor.js';

/** Fields of the region, all of 4 bytes, and where the block stands. Source: struct vfio_region_gfx_edid. */
export const EDID_REGION = {
  OFFSET: 0x00,
  MAX_SIZE: 0x04,
  SIZE: 0x08,
  MAX_WIDTH: 0x0c,
  MAX_HEIGHT: 0x10,
  LINK_STATE: 0x14,
  BLOCK: 0x800,
} as const;
/** Bytes of the region. */
export const EDID_REGION_SIZE = 0x1000;
export const LINK_STATE = { UP: 1, DOWN: 2 } as const;
const FIELD_SIZE = 4;
const FIELDS: readonly number[] = Object.values(EDID_REGION).filter((offset) => offset !== EDID_REGION.BLOCK);

/**
 * The region through which a VMM gives a vGPU's monitor another EDID: link down, block and its size, link up. The block is written
 * beside the one the guest reads and takes its place when the link goes up. Source: i915 kvmgt, intel_vgpu_reg_rw_edid().
 */
export class EdidRegion {
  readonly #monitor: Monitor;
  readonly #block = new Uint8Array(EDID_SIZE);
  #size = EDID_SIZE;

  constructor(monitor: Monitor) {
    this.#monitor = monitor;
    this.#block.set(monitor.edid);
  }

  /** Fields are read by 4 bytes, any number of them; the block byte by byte. @throws PinionError GVT_EDID_ACCESS (EINVAL). */
  read(offset: number, into: Uint8Array): void {
    if (offset >= EDID_REGION.BLOCK) {
      into.set(this.#blockBytes(offset, into.length));
      return;
    }
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    this.#eachField(offset, into.length, (field, at) => view.setUint32(at, this.#get(field), true));
  }

  /**
   * @throws PinionError GVT_EDID_ACCESS, GVT_BAD_EDID (EINVAL), GVT_EDID_READ_ONLY (EPERM). Fields before the refused one have
   * been written.
   */
  write(offset: number, from: Uint8Array): void {
    if (offset >= EDID_REGION.BLOCK) {
      this.#blockBytes(offset, from.length).set(from);
      return;
    }
    const view = new DataView(from.buffer, from.byteOffset, from.length);
    this.#eachField(offset, from.length, (field, at) => this.#set(field, view.getUint32(at, true)));
  }

  #eachField(offset: number, length: number, action: (field: number, at: number) => void): void {
    if (length % FIELD_SIZE !== 0) throw gvtErrors.EDID_ACCESS({ offset, length });
    for (let at = 0; at < length; at += FIELD_SIZE) {
      if (!FIELDS.includes(offset + at)) throw gvtErrors.EDID_ACCESS({ offset: offset + at, length });
      action(offset + at, at);
    }
  }

  #blockBytes(offset: number, length: number): Uint8Array {
    const at = offset - EDID_REGION.BLOCK;
    if (at + length > this.#size) throw gvtErrors.EDID_ACCESS({ offset, length });
    return this.#block.subarray(at, at + length);
  }

  #get(field: number): number {
    if (field === EDID_REGION.OFFSET) return EDID_REGION.BLOCK;
    if (field === EDID_REGION.MAX_SIZE) return EDID_SIZE;
    if (field === EDID_REGION.SIZE) return this.#size;
    if (field === EDID_REGION.MAX_WIDTH) return this.#monitor.best.width;
    if (field === EDID_REGION.MAX_HEIGHT) return this.#monitor.best.height;
    return this.#monitor.connected ? LINK_STATE.UP : LINK_STATE.DOWN;
  }

  #set(field: number, value: number): void {
    if (field === EDID_REGION.SIZE) this.#resize(value);
    else if (field === EDID_REGION.LINK_STATE) this.#link(value);
    else throw gvtErrors.EDID_READ_ONLY({ offset: field });
  }

  #resize(size: number): void {
    if (size > EDID_SIZE) throw gvtErrors.BAD_EDID({ problem: `${size} bytes are more than ${EDID_SIZE}` });
    this.#size = size;
  }

  #link(state: number): void {
    if (state === LINK_STATE.DOWN) {
      this.#monitor.hotplug(false);
      return;
    }
    if (state !== LINK_STATE.UP) throw gvtErrors.BAD_EDID({ problem: `${state} is no state of a link: 1 up, 2 down` });
    const problem = edidProblem(this.#block.subarray(0, this.#size));
    if (problem !== undefined) throw gvtErrors.BAD_EDID({ problem });
    this.#monitor.replaceEdid(this.#block.slice());
    this.#monitor.hotplug(true);
  }
}
