import type { HostMemory } from '@pinion/core';
import type { FindTableGroup } from '../hardware.js';
import { type BridgeAbout, PowernvBridge, PseriesBridge } from './bridge.js';
import { PowerGroup } from './group.js';

export interface PowerPlatformOptions {
  readonly memory: HostMemory;
  /**
   * `pseries`: a virtual machine, a table belongs to one bridge. `powernv` (default): bare metal, groups of a container share
   * its tables.
   */
  readonly kind?: 'pseries' | 'powernv';
}

/** The tables behind a group of any POWER machine in software; undefined for groups of other hardware. */
export const powerTables: FindTableGroup = ({ iommu }) => (iommu instanceof PowerGroup ? iommu.bridge : undefined);

/** A POWER machine in software: bridges with TCE tables, and the groups behind them. */
export class PowerPlatform {
  readonly #memory: HostMemory;
  readonly #kind: 'pseries' | 'powernv';
  #groups = 0;

  constructor({ memory, kind = 'powernv' }: PowerPlatformOptions) {
    this.#memory = memory;
    this.#kind = kind;
  }

  /** A new bridge with a group behind it. `id` defaults to a number no other group of this platform has. */
  createGroup(about: Partial<BridgeAbout> & { readonly id?: number } = {}): PowerGroup {
    this.#groups += 1;
    const { id = this.#groups, name = `bridge-${id}` } = about;
    const bridge =
      this.#kind === 'pseries' ? new PseriesBridge({ ...about, name }) : new PowernvBridge({ ...about, name });
    return new PowerGroup(id, bridge, this.#memory);
  }

  /** The tables behind a group, for the backend's option `hardware`. */
  readonly tableGroup: FindTableGroup = powerTables;
}
