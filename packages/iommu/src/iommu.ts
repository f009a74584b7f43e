import type { ReservedRegion } from '@pinion/core';
import { SoftwareDomain } from './domain.js';
import { iommuErrors } from './errors.js';
import { FailureInjection } from './failure-injection.js';
import { FaultLog } from './fault-log.js';
import { SoftwareGroup } from './group.js';
import { type IommuModel, iommuModel, type SoftwareIommuOptions } from './iommu-model.js';
import { checkReserved } from './reserved.js';

const FAULT_LOG_SIZE = 256;

/** What one group has that the IOMMU's defaults do not say. */
export interface GroupOptions {
  /** Default: the lowest free id. */
  readonly id?: number;
  /** Functions to plug in at once, by name. */
  readonly functions?: readonly string[];
  readonly reserved?: readonly ReservedRegion[];
  readonly isolatedInterrupts?: boolean;
}

/** The hardware: groups of functions on one side, domains of I/O page tables on the other. */
export class SoftwareIommu {
  readonly model: IommuModel;
  /** Plants failures for tests. */
  readonly failures = new FailureInjection();
  readonly faults: FaultLog;
  readonly #groups = new Map<number, SoftwareGroup>();

  /** @throws IOMMU_BAD_OPTION (EINVAL) naming the option. */
  constructor(options: SoftwareIommuOptions) {
    this.model = iommuModel(options);
    this.faults = new FaultLog(options.faultLogSize ?? FAULT_LOG_SIZE, options.log);
  }

  get groups(): readonly SoftwareGroup[] {
    return [...this.#groups.values()];
  }

  /** A new group. @throws IOMMU_GROUP_EXISTS, IOMMU_FUNCTION_EXISTS (EEXIST), IOMMU_BAD_OPTION (EINVAL). */
  createGroup(options: GroupOptions = {}): SoftwareGroup {
    const id = options.id ?? this.#freeId();
    if (!Number.isSafeInteger(id) || id < 0) {
      throw iommuErrors.BAD_OPTION({ option: 'id', problem: `${id} is no whole number from 0` });
    }
    if (this.#groups.has(id)) throw iommuErrors.GROUP_EXISTS({ group: id });
    const { model, failures, faults } = this;
    const group = new SoftwareGroup(
      { model, failures, faults, allocDomain: () => this.allocDomain() },
      {
        id,
        reserved: options.reserved === undefined ? model.reserved : checkReserved(options.reserved),
        isolatedInterrupts: options.isolatedInterrupts ?? model.isolatedInterrupts,
      },
    );
    for (const name of options.functions ?? []) group.addFunction(name);
    this.#groups.set(id, group);
    return group;
  }

  /** Takes a group away with its functions. @throws IOMMU_GROUP_BUSY (EBUSY) while it has an owner or a domain. */
  removeGroup(group: SoftwareGroup): void {
    const by = group.domain !== undefined ? 'a domain' : 'its owner or a host driver';
    if (group.domain !== undefined || group.ownerClaimed) {
      throw iommuErrors.GROUP_BUSY({ group: group.id, operation: 'remove', by });
    }
    for (const { name } of group.functions) group.removeFunction(name);
    this.#groups.delete(group.id);
  }

  /** A new empty domain; it holds no memory before the first map. @throws IOMMU_INJECTED (as planted: `alloc`). */
  allocDomain(): SoftwareDomain {
    this.failures.reach('alloc');
    return new SoftwareDomain(this.model, this.failures);
  }

  #freeId(): number {
    let id = 0;
    while (this.#groups.has(id)) id += 1;
    return id;
  }
}

/** Makes a software IOMMU. @throws IOMMU_BAD_OPTION (EINVAL) naming the option. */
export const createSoftwareIommu = (options: SoftwareIommuOptions): SoftwareIommu => new SoftwareIommu(options);
