import { hex } from '@pinion/core';

declare const owner: unique symbol;
/** Who took a reference on a guest page: a kind and a number, packed so that a cache of a million entries holds no objects. */
export type MapOwner = number & { readonly [owner]: true };

/** What an owner's number counts: an index, a guest frame or an id, below 2^48. */
const KINDS = ['unnamed', 'GGTT entry', 'PPGTT table at guest frame', 'display buffer'] as const;
const STEP = 2 ** 48;

// why: a brand has no runtime form; this is the only place where one is put on.
const pack = (kind: number, value: number): MapOwner => (kind * STEP + value) as MapOwner;

/** A caller that does not say who it is. */
export const NO_OWNER = pack(0, 0);
/** The entry `index` of the global table: graphics address / 4096. */
export const ggttOwner = (index: number): MapOwner => pack(1, index);
/** The shadow of the guest's per-process table that stands in the guest frame `gfn`. */
export const ppgttOwner = (gfn: number): MapOwner => pack(2, gfn);
/** An exported display buffer. */
export const displayOwner = (id: number): MapOwner => pack(3, id);

/** For messages: `GGTT entry 0x7`. */
export function describeOwner(tag: MapOwner): string {
  const kind = Math.floor(tag / STEP);
  const name = KINDS[kind] ?? 'unnamed';
  return kind === 0 ? name : `${name} ${hex(tag - kind * STEP)}`;
}
