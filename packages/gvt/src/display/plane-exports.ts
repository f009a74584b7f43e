import type { FrameRange } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import { ExportedPlane } from './exported-plane.js';
import type { Plane, PlaneInfo, Planes, PlaneType } from './plane.js';
import { type BufferParts, PlaneBuffer } from './plane-buffer.js';
import type { Screen } from './screen.js';

/** Bits of a query's `flags`. Source: VFIO_GFX_PLANE_TYPE_*. */
export const PLANE_QUERY = { PROBE: 1, DMABUF: 2, REGION: 4 } as const;
/** Kinds of planes. Source: DRM_PLANE_TYPE_*. */
export const DRM_PLANE = { OVERLAY: 0, PRIMARY: 1, CURSOR: 2 } as const;

const TYPES: ReadonlyMap<number, PlaneType> = new Map([
  [DRM_PLANE.PRIMARY, 'primary'],
  [DRM_PLANE.CURSOR, 'cursor'],
]);

/** VFIO_DEVICE_QUERY_GFX_PLANE. */
export interface PlaneQuery {
  readonly flags: number;
  /** One of DRM_PLANE. */
  readonly planeType: number;
}

/** Its answer: without a plane when it is off, or was only probed. `bufferId` is for `get`. */
export interface PlaneAnswer {
  readonly plane: PlaneInfo | undefined;
  readonly bufferId: number;
}

/** What the exports of a vGPU work with. */
export interface ExportParts extends Pick<BufferParts, 'backend' | 'table'> {
  readonly planes: Planes;
  readonly screen: Screen;
}

/**
 * The planes that a vGPU shows outside. One buffer per different plane: a query finds the buffer that there is, unless the table
 * leads to other pages by now (GVT-g compares the first page alone). A buffer lives while it has handles; one that was only
 * queried, until the next query. Source: i915 gvt dmabuf.c.
 */
export class PlaneExports {
  readonly #parts: ExportParts;
  readonly #buffers = new Map<number, PlaneBuffer>();
  /** Buffers with handles; they outlive a close. */
  readonly #held = new Set<PlaneBuffer>();
  #nextId = 1;
  #onIdle: (() => void) | undefined;

  constructor(parts: ExportParts) {
    this.#parts = parts;
  }

  /** Buffers that somebody has a handle of. */
  get held(): number {
    return this.#held.size;
  }

  /** Pages that they hold; one under two buffers counts twice. */
  get pages(): number {
    return [...this.#held].reduce((pages, buffer) => pages + buffer.pages, 0);
  }

  /**
   * What a plane shows, and the id of a buffer of it. A plane that is off is an answer, not an error.
   * @throws PinionError GVT_BAD_QUERY (EINVAL) for flags other than DMABUF and PROBE with it, or a plane a vGPU does not have;
   * those of `Planes.decode`.
   */
  query({ flags, planeType }: PlaneQuery): PlaneAnswer {
    const nothing: PlaneAnswer = { plane: undefined, bufferId: 0 };
    if (flags === (PLANE_QUERY.DMABUF | PLANE_QUERY.PROBE)) return nothing;
    if (flags !== PLANE_QUERY.DMABUF)
      throw gvtErrors.BAD_QUERY({ problem: `flags ${flags} are not those of a dma-buf` });
    const type = TYPES.get(planeType);
    if (type === undefined) throw gvtErrors.BAD_QUERY({ problem: `a vGPU has no plane of type ${planeType}` });
    const plane = this.#parts.planes.decode(type);
    const found = plane === undefined ? undefined : this.#find(plane);
    this.#forgetOffers(found);
    if (plane === undefined) return nothing;
    const buffer = found ?? this.#create(plane);
    return { plane: plane.info, bufferId: buffer.id };
  }

  /** A handle of a buffer that a query named. @throws PinionError GVT_NO_BUFFER (EINVAL), GVT_NO_EXPORT (ENOTTY), GVT_EXPORT_PAGE (EINVAL). */
  get(id: number): ExportedPlane {
    const buffer = this.#buffers.get(id);
    if (buffer === undefined) throw gvtErrors.NO_BUFFER({ id });
    buffer.take();
    this.#held.add(buffer);
    return new ExportedPlane(buffer);
  }

  /** Both in one step. Undefined while the plane is off. @throws as `query` and `get`. */
  export(type: PlaneType): ExportedPlane | undefined {
    const planeType = type === 'primary' ? DRM_PLANE.PRIMARY : DRM_PLANE.CURSOR;
    const { plane, bufferId } = this.query({ flags: PLANE_QUERY.DMABUF, planeType });
    return plane === undefined ? undefined : this.get(bufferId);
  }

  /** Guest memory has gone, after the backend released its mappings. */
  revoke(range: FrameRange): void {
    for (const buffer of this.#held) buffer.revoke(range);
  }

  /** The vGPU closes or is reset: every page goes back, ids are forgotten, handles stay and show black. */
  revokeAll(): void {
    for (const buffer of this.#held) buffer.revokeAll();
    this.#buffers.clear();
  }

  /** Runs `action` once nobody has a handle any more, at once if nobody has one now. */
  whenIdle(action: () => void): void {
    this.#onIdle = action;
    this.#checkIdle();
  }

  #find({ info, format, offset }: Plane): PlaneBuffer | undefined {
    const same = (buffer: PlaneBuffer): boolean => {
      const other = buffer.plane;
      return (
        SAME.every((key) => other.info[key] === info[key]) &&
        other.format.name === format.name &&
        other.offset.x === offset.x &&
        other.offset.y === offset.y &&
        buffer.isCurrent
      );
    };
    return [...this.#buffers.values()].find(same);
  }

  #create(plane: Plane): PlaneBuffer {
    const { backend, table, screen } = this.#parts;
    const onIdle = (buffer: PlaneBuffer): void => {
      this.#held.delete(buffer);
      this.#buffers.delete(buffer.id);
      this.#checkIdle();
    };
    const buffer = new PlaneBuffer(this.#nextId, { plane, palette: screen.palette() }, { backend, table, onIdle });
    this.#nextId += 1;
    this.#buffers.set(buffer.id, buffer);
    return buffer;
  }

  #forgetOffers(but: PlaneBuffer | undefined): void {
    for (const buffer of this.#buffers.values()) {
      if (buffer !== but && buffer.handles === 0) this.#buffers.delete(buffer.id);
    }
  }

  #checkIdle(): void {
    if (this.#held.size > 0) return;
    const action = this.#onIdle;
    this.#onIdle = undefined;
    action?.();
  }
}

/** What makes two planes the same buffer. */
const SAME = ['start', 'startGfn', 'size', 'drmModifier', 'drmFormat', 'width', 'height', 'stride'] as const;
