import type { Container, HostMemory, IommuGroup, Plugin } from '@pinion/core';
import type { ConformanceCase, Declares } from './suite.js';
import { inWorld, type World } from './world.js';

/**
 * What a backend can do beyond mapping and unmapping:
 * - `pins`: mediated devices may pin through it;
 * - `passthrough`: it takes groups behind an IOMMU (the harness makes some);
 * - `accounting`: pages are charged to whoever mapped, as type1 does (kernel-vfio 6.3);
 * - `refuses-overlap`: a mapping over another is EEXIST (sPAPR replaces instead);
 * - `refuses-bisect`: an unmap that cuts a mapping is EINVAL;
 * - `lazy-map`: mapping without an IOMMU behind it touches no page;
 * - `dma-rw`: copies through the mappings;
 * - `dirty`: dirty tracking;
 * - `domains`: `groupDomain` gives the I/O page tables behind a group;
 * - `replaces`: a mapping over another takes its place;
 * - `unmaps-parts`: any part of a mapping can be unmapped;
 * - `refuses-mediated`: groups of mediated devices are EINVAL, because nobody could pin for them.
 */
export type BackendCapability =
  | 'pins'
  | 'passthrough'
  | 'accounting'
  | 'refuses-overlap'
  | 'refuses-bisect'
  | 'lazy-map'
  | 'dma-rw'
  | 'dirty'
  | 'domains'
  | 'replaces'
  | 'unmaps-parts'
  | 'refuses-mediated';

/** One backend, as the suite sees it. */
export interface IommuBackendHarness extends Declares {
  readonly name: string;
  /** Registers the backend; called anew for every case. */
  backend(): Plugin;
  /** The argument of SET_IOMMU. */
  readonly iommuType: number;
  /** Makes a passthrough group over this memory; needed for the capability `passthrough`. */
  passthrough?(memory: HostMemory): IommuGroup;
  readonly capabilities: ReadonlySet<BackendCapability>;
  /** What a container needs once its IOMMU was set, before anything can be mapped (sPAPR v1: enable). */
  ready?(container: Container): void;
  /** What memory needs before it is mapped (sPAPR v2: registration); called before every map of a case. Bytes. */
  share?(container: Container, memory: { readonly vaddr: bigint; readonly size: bigint }): void;
  /** The error of a mapping whose pins never go: its name, and the rounds of callbacks before it. */
  readonly leak: { readonly name: string; readonly rounds: number };
}

export type BackendCase = ConformanceCase<IommuBackendHarness>;

/** Declares a case that runs in a world of its own. */
export const backendCase = (
  name: string,
  needs: readonly BackendCapability[],
  run: (world: World, harness: IommuBackendHarness) => Promise<void>,
  options: { readonly lockPages?: number } = {},
): BackendCase => ({
  name,
  needs,
  run: (harness) => inWorld(partsOf(harness, options), (world) => run(world, harness)),
});

function partsOf(harness: IommuBackendHarness, options: { readonly lockPages?: number }) {
  return {
    backend: harness.backend(),
    iommuType: harness.iommuType,
    passthrough: harness.passthrough?.bind(harness),
    ready: harness.ready?.bind(harness),
    share: harness.share?.bind(harness),
    ...options,
  };
}
