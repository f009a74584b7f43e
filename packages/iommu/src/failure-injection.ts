import { type Errno, PinionError, type Undo } from '@pinion/core';
import { iommuErrors } from './errors.js';

/**
 * Where a failure can be planted: `map` a call of a domain's map, `table` one page table that a map needs, `alloc` a call of
 * allocDomain, `attach` a call of a group's attach.
 */
export type FailurePoint = 'map' | 'table' | 'alloc' | 'attach';

/**
 * Plants failures in an IOMMU: the Nth of something from now on fails, once, with the errno asked for. The error is named
 * IOMMU_INJECTED; whatever fails leaves everything as it was.
 */
export class FailureInjection {
  readonly #planted: { point: FailurePoint; left: number; errno: Errno }[] = [];
  readonly #calls: Record<FailurePoint, number> = { map: 0, table: 0, alloc: 0, attach: 0 };

  /**
   * Plants one failure. `nth` is at least 1: the next one. @returns the undo, harmless once the failure happened.
   * @throws IOMMU_BAD_OPTION (EINVAL) for an `nth` that is no whole number from 1.
   */
  fail(point: FailurePoint, nth: number, errno: Errno): Undo {
    if (!Number.isSafeInteger(nth) || nth < 1) {
      throw iommuErrors.BAD_OPTION({ option: 'nth', problem: `${nth} is no whole number from 1` });
    }
    const plant = { point, left: nth, errno };
    this.#planted.push(plant);
    return () => this.#remove(plant);
  }

  /** How often the point was reached so far, failures included. */
  calls(point: FailurePoint): number {
    return this.#calls[point];
  }

  /** Failures that have not happened yet. */
  get pending(): number {
    return this.#planted.length;
  }

  clear(): void {
    this.#planted.length = 0;
  }

  /** Called where the failure would happen. @throws PinionError IOMMU_INJECTED with the planted errno. */
  reach(point: FailurePoint): void {
    this.#calls[point] += 1;
    if (this.#planted.length === 0) return;
    const due = this.#planted.filter((plant) => plant.point === point);
    for (const plant of due) plant.left -= 1;
    const hit = due.find((plant) => plant.left === 0);
    if (hit === undefined) return;
    this.#remove(hit);
    throw new PinionError('IOMMU_INJECTED', hit.errno, `injected failure: ${point} number ${this.#calls[point]}`);
  }

  #remove(plant: { point: FailurePoint; left: number; errno: Errno }): void {
    const index = this.#planted.indexOf(plant);
    if (index >= 0) this.#planted.splice(index, 1);
  }
}
