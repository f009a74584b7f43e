import { ATTR, type Attributes } from '@pinion/dma';

/**
 * When an object that has no addresses of its own (shmem, userptr) is mapped for DMA. Source: threads/2015-07.
 *
 * - `per-vma`: at every bind, unmapped at the last unbind. **The bug of 2015**: each bind in a further address space maps
 *   again and overwrites the addresses of the map before, which nobody can unmap any more.
 * - `first-bind`: at the first bind, unmapped at the last unbind: the callbacks that were proposed. Least IOVA, most map calls;
 *   failures come when an address is reserved already.
 * - `get-pages`: with the pages: what was merged. Most IOVA, fewest calls; failures come before anything else happened.
 */
export type StrategyName = 'per-vma' | 'first-bind' | 'get-pages';

/** The three as data. */
export interface MappingStrategy {
  readonly name: StrategyName;
  /** Map when pages arrive, unmap when they go. */
  readonly withPages: boolean;
  /** Map at binds: never, at the first of several, or at every one; the last unbind unmaps. */
  readonly atBind: 'never' | 'first' | 'every';
  readonly attributes: Attributes;
}

const MODERN = ATTR.SKIP_CPU_SYNC | ATTR.NO_KERNEL_MAPPING | ATTR.NO_WARN;

export const STRATEGIES: Readonly<Record<StrategyName, MappingStrategy>> = Object.freeze({
  'per-vma': { name: 'per-vma', withPages: false, atBind: 'every', attributes: 0 },
  'first-bind': { name: 'first-bind', withPages: false, atBind: 'first', attributes: MODERN },
  'get-pages': { name: 'get-pages', withPages: true, atBind: 'never', attributes: MODERN },
});
