import { catalogue, type IommuDomain, type IommuGroup } from '@pinion/core';

const errors = catalogue('FAKE', {
  OWNED: ['EPERM', (d: { id: number }) => `group ${d.id} has an owner`],
  NO_DOMAIN: ['ENOMEM', (d: { id: number }) => `group ${d.id} has no domain to give`],
});

/** An isolation unit that only keeps the books of its owner. */
export class FakeIommuGroup implements IommuGroup {
  readonly id: number;
  readonly reserved = [];
  readonly isolatedInterrupts = true;
  owner: object | undefined;

  constructor(id: number) {
    this.id = id;
  }

  get ownerClaimed(): boolean {
    return this.owner !== undefined;
  }

  claimOwner(owner: object): void {
    if (this.owner !== undefined) throw errors.OWNED({ id: this.id });
    this.owner = owner;
  }

  releaseOwner(owner: object): void {
    if (this.owner === owner) this.owner = undefined;
  }

  allocDomain(): IommuDomain {
    throw errors.NO_DOMAIN({ id: this.id });
  }

  attach(): void {}

  detach(): void {}
}
