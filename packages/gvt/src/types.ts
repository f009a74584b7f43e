import type { MdevTypeInfo } from '@pinion/core';
import { gvtErrors } from './errors.js';

const MB = 1024 * 1024;
/** Size of the global graphics address space: an 8 MB table of 8-byte entries. */
const GGTT_MB = 4096;
/** What the host driver keeps for itself. */
const HOST_LOW_MB = 128;
const HOST_HIGH_MB = 384;
const HOST_FENCES = 4;
const GPU_FENCES = 32;
/** Ids 1..7; id 0 is the idle vGPU. */
const MAX_VGPUS = 7;

/** A size of vGPU. Source: vgpu_types[] of i915 GVT-g, generation 9 and later (`V5`). */
export interface VgpuType {
  readonly id: string;
  /** Graphics memory that the CPU can reach through BAR2, MB. */
  readonly lowMb: number;
  /** Graphics memory that only the engines reach, MB. */
  readonly highMb: number;
  readonly fences: number;
  /** Share of engine time: 16 / n for type V5_n. */
  readonly weight: number;
  readonly width: number;
  readonly height: number;
}

const type = (n: number, lowMb: number, highMb: number, resolution: readonly [number, number]): VgpuType =>
  Object.freeze({
    id: `V5_${n}`,
    lowMb,
    highMb,
    fences: 4,
    weight: 16 / n,
    width: resolution[0],
    height: resolution[1],
  });

/** All types, smallest first: the order in which they are offered. */
export const VGPU_TYPES: readonly VgpuType[] = Object.freeze([
  type(8, 64, 384, [1024, 768]),
  type(4, 128, 512, [1920, 1200]),
  type(2, 256, 1024, [1920, 1200]),
  type(1, 512, 2048, [1920, 1200]),
]);

/** A part of the global graphics address space, bytes. */
export interface Slice {
  readonly base: number;
  readonly size: number;
}

/** What one vGPU owns until it is given back. */
export interface VgpuResources {
  readonly id: number;
  readonly type: VgpuType;
  /** Inside the aperture (BAR2). */
  readonly low: Slice;
  readonly high: Slice;
  /** The GPU's fence registers that stand behind its own, from 0 on. */
  readonly fences: readonly number[];
}

/** sysfs attributes of a type. */
export const describeType = (vgpu: VgpuType): MdevTypeInfo =>
  Object.freeze({
    id: vgpu.id,
    prettyName: `i915-GVTg_${vgpu.id}`,
    description: [
      `low_gm_size: ${vgpu.lowMb}MB`,
      `high_gm_size: ${vgpu.highMb}MB`,
      `fence: ${vgpu.fences}`,
      `resolution: ${vgpu.width}x${vgpu.height}`,
      `weight: ${vgpu.weight}`,
      '',
    ].join('\n'),
  });

/** The graphics memory and fences of one GPU, shared by its vGPUs. Source: i915 gvt aperture_gm.c and vgpu.c. */
export class GpuResources {
  readonly apertureMb: number;
  /** Stops at the first type that could never fit beside the host. */
  readonly types: readonly VgpuType[];
  readonly #taken = new Map<number, VgpuResources>();

  /** `apertureMb`: size of BAR2. @throws PinionError GVT_BAD_APERTURE (EINVAL). */
  constructor(apertureMb: number) {
    if (![256, 512, 1024, 2048].includes(apertureMb)) throw gvtErrors.BAD_APERTURE({ apertureMb });
    this.apertureMb = apertureMb;
    const tooBig = VGPU_TYPES.findIndex((vgpu) => vgpu.lowMb > apertureMb - HOST_LOW_MB);
    this.types = tooBig < 0 ? VGPU_TYPES : VGPU_TYPES.slice(0, tooBig);
  }

  /** vGPUs that exist. */
  get used(): number {
    return this.#taken.size;
  }

  /**
   * How many more vGPUs of this type the free amounts allow. 0 for a type that is not offered. As in Linux, amounts are
   * compared and not places, so after removals a vGPU may still not fit in one piece.
   */
  available(id: string): number {
    const wanted = this.types.find((vgpu) => vgpu.id === id);
    if (wanted === undefined) return 0;
    const left = this.#left();
    return Math.min(
      Math.floor(left.lowMb / wanted.lowMb),
      Math.floor(left.highMb / wanted.highMb),
      Math.floor(left.fences / wanted.fences),
    );
  }

  /**
   * Takes an id, low memory, high memory and fences, in this order; nothing is taken if one of them is short.
   * @throws PinionError GVT_UNKNOWN_TYPE (EINVAL), GVT_NO_SPACE (ENOSPC).
   */
  take(id: string): VgpuResources {
    const wanted = this.types.find((vgpu) => vgpu.id === id);
    if (wanted === undefined) {
      throw gvtErrors.UNKNOWN_TYPE({ type: id, offered: this.types.map((vgpu) => vgpu.id).join(', ') });
    }
    const short = (what: string) => gvtErrors.NO_SPACE({ type: id, what });
    const free = Array.from({ length: MAX_VGPUS }, (_, at) => at + 1).find((at) => !this.#taken.has(at));
    if (free === undefined) throw short('the number of vGPU ids');
    const low = this.#place(wanted.lowMb * MB, 'low', { base: HOST_LOW_MB * MB, size: this.#lowMb() * MB });
    if (low === undefined) throw short('low graphics memory');
    const room = { base: (this.apertureMb + HOST_HIGH_MB) * MB, size: this.#highMb() * MB };
    const high = this.#place(wanted.highMb * MB, 'high', room);
    if (high === undefined) throw short('high graphics memory');
    const fences = this.#freeFences().slice(0, wanted.fences);
    if (fences.length < wanted.fences) throw short('fences');
    const taken = Object.freeze({ id: free, type: wanted, low, high, fences: Object.freeze(fences) });
    this.#taken.set(free, taken);
    return taken;
  }

  /** Gives back what `take` returned; a second time does nothing. */
  give(taken: VgpuResources): void {
    if (this.#taken.get(taken.id) === taken) this.#taken.delete(taken.id);
  }

  #lowMb(): number {
    return this.apertureMb - HOST_LOW_MB;
  }

  #highMb(): number {
    return GGTT_MB - this.apertureMb - HOST_HIGH_MB;
  }

  /** The host has the first ones. */
  #freeFences(): number[] {
    const used = new Set([...this.#taken.values()].flatMap(({ fences }) => fences));
    const all = Array.from({ length: GPU_FENCES - HOST_FENCES }, (_, at) => HOST_FENCES + at);
    return all.filter((fence) => !used.has(fence));
  }

  #left(): { lowMb: number; highMb: number; fences: number } {
    const left = { lowMb: this.#lowMb(), highMb: this.#highMb(), fences: GPU_FENCES - HOST_FENCES };
    for (const { type: vgpu } of this.#taken.values()) {
      left.lowMb -= vgpu.lowMb;
      left.highMb -= vgpu.highMb;
      left.fences -= vgpu.fences;
    }
    return left;
  }

  /** First fit. */
  #place(size: number, part: 'low' | 'high', room: Slice): Slice | undefined {
    const taken = [...this.#taken.values()].map((vgpu) => vgpu[part]).sort((a, b) => a.base - b.base);
    let base = room.base;
    for (const slice of taken) {
      if (slice.base - base >= size) break;
      base = slice.base + slice.size;
    }
    return base + size <= room.base + room.size ? Object.freeze({ base, size }) : undefined;
  }
}
