import type { IommuDomain, IommuGroup, ReservedRegion, Undo } from '@pinion/core';
import { SoftwareDomain } from './domain.js';
import { iommuErrors } from './errors.js';
import type { FailureInjection } from './failure-injection.js';
import type { FaultLog } from './fault-log.js';
import type { IommuModel } from './iommu-model.js';
import { PassthroughFunction } from './passthrough-function.js';

/** What a group shares with the IOMMU that made it. */
export interface GroupHost {
  readonly model: IommuModel;
  readonly failures: FailureInjection;
  readonly faults: FaultLog;
  readonly allocDomain: () => SoftwareDomain;
}

/** What is particular to one group. */
export interface GroupTraits {
  readonly id: number;
  readonly reserved: readonly ReservedRegion[];
  readonly isolatedInterrupts: boolean;
}

/** The functions that the IOMMU cannot tell apart; they share one domain. Made by `SoftwareIommu.createGroup`. */
export class SoftwareGroup implements IommuGroup {
  readonly id: number;
  readonly reserved: readonly ReservedRegion[];
  readonly isolatedInterrupts: boolean;
  readonly #host: GroupHost;
  readonly #functions = new Map<string, PassthroughFunction>();
  readonly #hostDrivers = new Map<string, string>();
  #owner: object | undefined;
  #domain: SoftwareDomain | undefined;

  constructor(host: GroupHost, traits: GroupTraits) {
    this.#host = host;
    this.id = traits.id;
    this.reserved = traits.reserved;
    this.isolatedInterrupts = traits.isolatedInterrupts;
  }

  /** The domain the functions sit behind; undefined: all their DMA faults. */
  get domain(): SoftwareDomain | undefined {
    return this.#domain;
  }

  get functions(): readonly PassthroughFunction[] {
    return [...this.#functions.values()];
  }

  /** Claimed by a user, or a host driver is bound to a function. Source: iommu_group_dma_owner_claimed(). */
  get ownerClaimed(): boolean {
    return this.#owner !== undefined || this.#hostDrivers.size > 0;
  }

  /** Plugs a function in; it sits behind the group's domain at once. @throws IOMMU_FUNCTION_EXISTS (EEXIST). */
  addFunction(name: string): PassthroughFunction {
    if (this.#functions.has(name)) throw iommuErrors.FUNCTION_EXISTS({ device: name });
    const { memory } = this.#host.model;
    const added = new PassthroughFunction(name, {
      group: this.id,
      memory,
      faults: this.#host.faults,
      domain: () => this.#domain,
    });
    this.#functions.set(name, added);
    return added;
  }

  /** Pulls a function out: it can do no DMA any more. A function that is not there is ignored. */
  removeFunction(name: string): void {
    this.#functions.get(name)?.unplug();
    this.#functions.delete(name);
    this.#hostDrivers.delete(name);
  }

  /**
   * A driver of the host takes a function, so that no user can have the group. @returns the undo (unbind).
   * @throws IOMMU_GROUP_BUSY (EBUSY) while a user owns the group. Source: iommu_device_use_default_domain().
   */
  bindHostDriver(device: string, driver: string): Undo {
    if (this.#owner !== undefined) {
      throw iommuErrors.GROUP_BUSY({ group: this.id, operation: `binding ${driver} to ${device}`, by: 'its owner' });
    }
    this.#hostDrivers.set(device, driver);
    return () => {
      this.#hostDrivers.delete(device);
    };
  }

  /**
   * @throws IOMMU_HOST_DRIVER, IOMMU_OWNED (EPERM; also for the owner itself, as in Linux), IOMMU_GROUP_BUSY (EBUSY) while the
   * group sits behind a domain. Source: iommu_group_claim_dma_owner().
   */
  claimOwner(owner: object): void {
    const [bound] = this.#hostDrivers;
    if (bound !== undefined) throw iommuErrors.HOST_DRIVER({ group: this.id, device: bound[0], driver: bound[1] });
    if (this.#owner !== undefined) throw iommuErrors.OWNED({ group: this.id });
    if (this.#domain !== undefined) {
      throw iommuErrors.GROUP_BUSY({ group: this.id, operation: 'claim', by: 'a domain' });
    }
    this.#owner = owner;
  }

  /** Gives the group back; a domain that is still there is left first. @throws IOMMU_NOT_OWNER (EPERM). */
  releaseOwner(owner: object): void {
    if (this.#owner !== owner) throw iommuErrors.NOT_OWNER({ group: this.id });
    this.#leave();
    this.#owner = undefined;
  }

  /** A new empty domain of the IOMMU. @throws IOMMU_INJECTED (as planted: `alloc`). */
  allocDomain(): SoftwareDomain {
    return this.#host.allocDomain();
  }

  /**
   * Puts every function behind `domain`. @throws IOMMU_INCOMPATIBLE, IOMMU_DOMAIN_FREED (EINVAL), IOMMU_GROUP_BUSY (EBUSY) behind
   * another domain, IOMMU_INJECTED (as planted: `attach`). Attaching the same domain again does nothing.
   */
  attach(domain: IommuDomain): void {
    const usable = this.#usable(domain);
    if (this.#domain !== undefined && this.#domain !== usable) {
      throw iommuErrors.GROUP_BUSY({ group: this.id, operation: 'attach', by: 'another domain' });
    }
    this.#host.failures.reach('attach');
    usable.groupAttached(this.id);
    this.#domain = usable;
  }

  /** Puts the functions behind nothing: all their DMA faults. @throws IOMMU_NOT_ATTACHED (EINVAL) for another domain. */
  detach(domain: IommuDomain): void {
    if (this.#domain === undefined || this.#domain !== domain) throw iommuErrors.NOT_ATTACHED({ group: this.id });
    this.#leave();
  }

  #leave(): void {
    this.#domain?.groupDetached(this.id);
    this.#domain = undefined;
  }

  /** A domain serves a group if the group's IOMMU can walk its tables. Source: prepare_domain_attach_device() of intel-iommu. */
  #usable(domain: IommuDomain): SoftwareDomain {
    const incompatible = (problem: string): Error => iommuErrors.INCOMPATIBLE({ group: this.id, problem });
    if (!(domain instanceof SoftwareDomain)) throw incompatible(`it belongs to other hardware (${domain.hardware})`);
    if (domain.freed) throw iommuErrors.DOMAIN_FREED({ operation: 'attach' });
    const { model } = this.#host;
    const its = domain.model;
    if (its.hardware !== model.hardware) throw incompatible(`it belongs to other hardware (${its.hardware})`);
    if (its.memory !== model.memory) throw incompatible('it translates to other memory');
    if (its.levels !== model.levels || its.addressWidth > model.addressWidth) {
      throw incompatible(`it is ${its.addressWidth} bits wide, the IOMMU ${model.addressWidth}`);
    }
    if ((its.pageSizes & ~model.pageSizes) !== 0n) throw incompatible('it may hold leaves that the IOMMU cannot read');
    if (its.coherent && !model.coherent) throw incompatible('it is coherent, the IOMMU is not');
    return domain;
  }
}
