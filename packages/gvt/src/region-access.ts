import type { RegionInfo } from '@pinion/core';
import type { Vgpu } from './assembly.js';
import { Bar0 } from './bar0.js';
import { gvtErrors } from './errors.js';
import type { GraphicsMemory } from './graphics-memory.js';
import { REGION } from './regs.js';

/** What a region does with an access. The bounds have been checked. */
interface RegionHandler {
  read(offset: number, bytes: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
}

/** The regions of a vGPU as something to read and write: one handler per index. */
export class RegionAccess {
  readonly #device: string;
  readonly #regions: readonly RegionInfo[];
  readonly #handlers: ReadonlyMap<number, RegionHandler>;

  constructor(vgpu: Vgpu, regions: readonly RegionInfo[]) {
    const { name, log } = vgpu.parts.context;
    this.#device = name;
    this.#regions = regions;
    this.#handlers = new Map<number, RegionHandler>([
      [REGION.BAR0, new Bar0({ device: name, log, registers: vgpu.registers, ggtt: vgpu.ggtt })],
      [REGION.BAR2, bar2(vgpu)],
      [REGION.CONFIG, vgpu.config],
    ]);
  }

  /** @throws PinionError GVT_OUT_OF_REGION (EINVAL) and those of the region. */
  read(index: number, offset: number, bytes: Uint8Array): void {
    this.#find(index, offset, bytes.length).read(offset, bytes);
  }

  /** @throws PinionError GVT_OUT_OF_REGION (EINVAL) and those of the region. */
  write(index: number, offset: number, bytes: Uint8Array): void {
    this.#find(index, offset, bytes.length).write(offset, bytes);
  }

  #find(index: number, offset: number, length: number): RegionHandler {
    const size = this.#regions[index]?.size ?? 0;
    const handler = this.#handlers.get(index);
    const fits = Number.isInteger(offset) && offset >= 0 && offset + length <= size;
    if (handler !== undefined && fits) return handler;
    throw gvtErrors.OUT_OF_REGION({ device: this.#device, index, offset, length });
  }
}

/** BAR2: guest graphics memory, as far as it is the vGPU's own. Offsets are graphics addresses. */
function bar2({ parts, aperture }: Vgpu): RegionHandler {
  const { low } = parts.resources;
  const own = (offset: number, length: number): GraphicsMemory => {
    if (offset >= low.base && offset + length <= low.base + low.size) return aperture;
    throw gvtErrors.FOREIGN_APERTURE({ device: parts.context.name, offset, length });
  };
  return {
    read: (offset, bytes) => own(offset, bytes.length).read(offset, bytes),
    write: (offset, bytes) => own(offset, bytes.length).write(offset, bytes),
  };
}
