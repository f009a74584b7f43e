import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame as at, type Errno, type IommuDomain, PROT_RW, asPfn as pfn } from '@pinion/core';
import { createSoftwareIommu, type SoftwareIommuOptions, X86_MSI_WINDOW } from '@pinion/iommu';
import { HostPages } from './host-pages.js';

const memory = new HostPages(0, 1);
const iommu = (options: Partial<SoftwareIommuOptions> = {}) => createSoftwareIommu({ memory, ...options });
const alice = { name: 'alice' };
const bob = { name: 'bob' };

test('groups get the lowest free id and the traits of the IOMMU', () => {
  const hardware = iommu({ isolatedInterrupts: false });
  hardware.createGroup({ id: 1 });
  const groups = [hardware.createGroup(), hardware.createGroup()];
  assert.deepEqual(
    groups.map(({ id }) => id),
    [0, 2],
  );
  assert.deepEqual(groups[0]?.reserved, [X86_MSI_WINDOW]);
  assert.equal(groups[0]?.isolatedInterrupts, false);
  assert.equal(hardware.groups.length, 3);
});

test('a group may have traits of its own, its reserved regions in order', () => {
  const [high, low] = [
    { range: { first: at(9), last: at(9) }, kind: 'direct' },
    { range: { first: at(0), last: at(3) }, kind: 'reserved' },
  ] as const;
  const group = iommu().createGroup({ reserved: [high, low], isolatedInterrupts: false, functions: ['a', 'b'] });
  assert.deepEqual(group.reserved, [low, high]);
  assert.equal(group.isolatedInterrupts, false);
  assert.deepEqual(
    group.functions.map(({ name }) => name),
    ['a', 'b'],
  );
});

const region = (first: number, last: number) =>
  ({ range: { first: at(first), last: at(last) }, kind: 'reserved' }) as const;
const badOptions: ReadonlyArray<readonly [what: string, options: Partial<SoftwareIommuOptions>]> = [
  ['20 bits', { addressWidth: 20 }],
  ['58 bits', { addressWidth: 58 }],
  ['half a bit', { addressWidth: 39.5 }],
  ['page sizes without 4 KiB', { pageSizes: 0x200000n }],
  ['a page size that does not exist', { pageSizes: 0x3000n }],
  ['no page size', { pageSizes: 0n }],
  ['an upside down region', { reserved: [region(2, 1)] }],
  ['a region past 2^64', { reserved: [region(0, 2 ** 52)] }],
  ['a region before 0', { reserved: [region(-1, 0)] }],
  ['an empty fault log', { faultLogSize: 0 }],
];
for (const [what, options] of badOptions) {
  test(`an IOMMU refuses ${what}`, () => {
    assert.throws(() => iommu(options), { name: 'IOMMU_BAD_OPTION', errno: 'EINVAL' });
  });
}

test('an id or a function twice, or a senseless id, is refused and nothing is added', () => {
  const hardware = iommu();
  const group = hardware.createGroup({ id: 3, functions: ['a'] });
  assert.throws(() => hardware.createGroup({ id: 3 }), { name: 'IOMMU_GROUP_EXISTS', errno: 'EEXIST' });
  assert.throws(() => hardware.createGroup({ id: -1 }), { name: 'IOMMU_BAD_OPTION', errno: 'EINVAL' });
  assert.throws(() => hardware.createGroup({ functions: ['x', 'x'] }), {
    name: 'IOMMU_FUNCTION_EXISTS',
    errno: 'EEXIST',
  });
  assert.throws(() => group.addFunction('a'), { name: 'IOMMU_FUNCTION_EXISTS', errno: 'EEXIST' });
  assert.deepEqual(hardware.groups, [group]);
  assert.equal(group.functions.length, 1);
});

test('ownership: one at a time, also not twice for the same one', () => {
  const group = iommu().createGroup();
  assert.equal(group.ownerClaimed, false);
  group.claimOwner(alice);
  assert.equal(group.ownerClaimed, true);
  for (const owner of [alice, bob]) {
    assert.throws(() => group.claimOwner(owner), { name: 'IOMMU_OWNED', errno: 'EPERM' });
  }
  assert.throws(() => group.releaseOwner(bob), { name: 'IOMMU_NOT_OWNER', errno: 'EPERM' });
  group.releaseOwner(alice);
  assert.equal(group.ownerClaimed, false);
  assert.throws(() => group.releaseOwner(alice), { name: 'IOMMU_NOT_OWNER', errno: 'EPERM' });
  group.claimOwner(bob);
});

test('a host driver on one function keeps users away, and a user keeps host drivers away', () => {
  const group = iommu().createGroup({ functions: ['nic', 'audio'] });
  const unbind = group.bindHostDriver('audio', 'snd_hda_intel');
  assert.equal(group.ownerClaimed, true);
  assert.throws(() => group.claimOwner(alice), {
    name: 'IOMMU_HOST_DRIVER',
    errno: 'EPERM',
    message: 'group 0 cannot be taken: host driver snd_hda_intel is bound to its function audio; unbind it first',
  });
  unbind();
  group.claimOwner(alice);
  assert.throws(() => group.bindHostDriver('audio', 'snd_hda_intel'), { name: 'IOMMU_GROUP_BUSY', errno: 'EBUSY' });
});

test('a group behind a domain cannot be claimed; releasing leaves the domain', () => {
  const group = iommu().createGroup();
  const domain = group.allocDomain();
  group.attach(domain);
  assert.throws(() => group.claimOwner(alice), { name: 'IOMMU_GROUP_BUSY', errno: 'EBUSY' });
  group.detach(domain);
  group.claimOwner(alice);
  group.attach(domain);
  group.releaseOwner(alice);
  assert.equal(group.domain, undefined);
  domain.free();
});

test('one domain serves several groups and is busy until the last left', () => {
  const hardware = iommu();
  const groups = [hardware.createGroup(), hardware.createGroup()];
  const domain = hardware.allocDomain();
  for (const group of groups) group.attach(domain);
  groups[0]?.attach(domain);
  assert.deepEqual([...domain.groups], [0, 1]);
  assert.throws(() => domain.free(), {
    name: 'IOMMU_DOMAIN_BUSY',
    errno: 'EBUSY',
    message: 'the domain cannot be freed: group(s) 0, 1 sit behind it; detach first',
  });
  groups[0]?.detach(domain);
  assert.throws(() => domain.free(), { errno: 'EBUSY' });
  groups[1]?.detach(domain);
  domain.free();
});

test('a second domain, a foreign detach and a freed domain are refused', () => {
  const group = iommu().createGroup();
  const [first, second] = [group.allocDomain(), group.allocDomain()];
  assert.throws(() => group.detach(first), { name: 'IOMMU_NOT_ATTACHED', errno: 'EINVAL' });
  group.attach(first);
  assert.throws(() => group.attach(second), { name: 'IOMMU_GROUP_BUSY', errno: 'EBUSY' });
  assert.throws(() => group.detach(second), { name: 'IOMMU_NOT_ATTACHED', errno: 'EINVAL' });
  assert.equal(group.domain, first);
  group.detach(first);
  second.free();
  assert.throws(() => group.attach(second), { name: 'IOMMU_DOMAIN_FREED', errno: 'EINVAL' });
});

const foreign: ReadonlyArray<
  readonly [what: string, domain: Partial<SoftwareIommuOptions>, group: Partial<SoftwareIommuOptions>]
> = [
  ['other hardware', { hardware: 'x' }, {}],
  ['other memory', { memory: new HostPages(0, 1) }, {}],
  ['more levels', { addressWidth: 48 }, {}],
  ['fewer levels', {}, { addressWidth: 48 }],
  ['a larger width', { addressWidth: 39 }, { addressWidth: 35 }],
  ['larger leaves', {}, { pageSizes: 0x201000n }],
  ['coherency that the group lacks', {}, { coherent: false }],
];
for (const [what, its, ours] of foreign) {
  test(`a group refuses a domain with ${what}`, () => {
    const domain = iommu(its).allocDomain();
    const group = iommu(ours).createGroup();
    assert.throws(() => group.attach(domain), { name: 'IOMMU_INCOMPATIBLE', errno: 'EINVAL' });
    assert.equal(group.domain, undefined);
    assert.equal(domain.groups.size, 0);
  });
}

test('a group refuses a domain of another implementation', () => {
  const other: IommuDomain = { ...iommu().allocDomain(), hardware: 'theirs', lookup: () => undefined } as never; // why: a stranger's object
  assert.throws(() => iommu().createGroup().attach(other), { name: 'IOMMU_INCOMPATIBLE', errno: 'EINVAL' });
});

test('a domain of another IOMMU of the same make serves a group', () => {
  const domain = iommu().allocDomain();
  const group = iommu({ addressWidth: 39 }).createGroup();
  group.attach(domain);
  assert.equal(group.domain, domain);
});

const planted: ReadonlyArray<readonly ['alloc' | 'attach', Errno]> = [
  ['alloc', 'ENOMEM'],
  ['attach', 'EIO'],
];
for (const [point, errno] of planted) {
  test(`an injected failure of ${point} changes nothing`, () => {
    const hardware = iommu();
    const group = hardware.createGroup();
    const domain = hardware.allocDomain();
    hardware.failures.fail(point, 1, errno);
    const act = { alloc: () => group.allocDomain(), attach: () => group.attach(domain) };
    assert.throws(act[point], { name: 'IOMMU_INJECTED', errno });
    assert.equal(group.domain, undefined);
    assert.equal(domain.groups.size, 0);
    act[point]();
  });
}

test('a group is removed when nobody uses it', () => {
  const hardware = iommu();
  const group = hardware.createGroup({ functions: ['nic'] });
  const [nic] = group.functions;
  const domain = hardware.allocDomain();
  group.claimOwner(alice);
  group.attach(domain);
  assert.throws(() => hardware.removeGroup(group), { name: 'IOMMU_GROUP_BUSY', errno: 'EBUSY' });
  group.detach(domain);
  assert.throws(() => hardware.removeGroup(group), { name: 'IOMMU_GROUP_BUSY', errno: 'EBUSY' });
  group.releaseOwner(alice);
  hardware.removeGroup(group);
  assert.deepEqual(hardware.groups, []);
  assert.equal(nic?.present, false);
  domain.map(at(0), pfn(0), 1, PROT_RW);
  assert.equal(domain.unmap(at(0), 1), 1);
});
