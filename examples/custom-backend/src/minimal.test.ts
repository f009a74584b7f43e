import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMediator, EXTENSION, iovaFrame, PROT_RW } from '@pinion/core';
import { describeIommuBackend, type IommuBackendHarness, runIommuBackend, SimulatedOs } from '@pinion/testkit';
import { holder } from './holder.js';
import { minimal } from './minimal.js';

/**
 * What this backend declares. What it does not have is skipped by name: passthrough (no IOMMU), accounting (a quota instead),
 * copies, dirty tracking, and refusing to cut a mapping (an unmap leaves alone what reaches out of its range).
 */
const harness: IommuBackendHarness = {
  name: 'minimal',
  backend: () => minimal(1024),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  capabilities: new Set(['pins', 'refuses-overlap', 'lazy-map']),
  leak: { name: 'MINIMAL_KEPT', rounds: 11 },
};

describeIommuBackend(harness);

test('what it does not support is declared: exactly the cases that need one of these are skipped', async () => {
  const undeclared = ['passthrough', 'accounting', 'dma-rw', 'dirty', 'refuses-bisect'];
  const outcomes = await runIommuBackend(harness);
  for (const outcome of outcomes) {
    if (outcome.outcome !== 'skipped') continue;
    assert.ok(
      outcome.missing.some((need) => undeclared.includes(need)),
      outcome.name,
    );
  }
  assert.deepEqual(
    outcomes.filter(({ outcome }) => outcome === 'failed'),
    [],
  );
});

test('each owner has a quota of its own: pages are counted once, and come back', async () => {
  const os = new SimulatedOs();
  const mediator = await createMediator({ memory: os.host, plugins: [minimal(4), holder] });
  const parent = mediator.registerParent('host', 'holder');
  const mdev = await parent.create('pages', '00000000-0000-4000-8000-000000000001');
  const [one, two] = [os.spawn({ name: 'one' }), os.spawn({ name: 'two' })];
  const container = mediator.openContainer(one);
  const group = mdev.group.open(one);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  await group.openDevice(mdev.uuid);
  for (const [index, task] of [one, two].entries()) {
    const vaddr = task.memory.mmap({ size: 0x8000n });
    container.mapDma({ iova: BigInt(index) << 20n, size: 0x8000n, vaddr, prot: PROT_RW }, task);
  }
  const { pins } = mdev.device;
  const [first, again] = [pins.pin(iovaFrame(0n), 3, PROT_RW), pins.pin(iovaFrame(0n), 3, PROT_RW)];
  const spent = { name: 'MINIMAL_SPENT', errno: 'ENOMEM', message: /^one / };
  assert.throws(() => pins.pin(iovaFrame(0x4000n), 2, PROT_RW), spent);
  assert.equal(os.host.pinnedPages, 3);
  const other = pins.pin(iovaFrame(1n << 20n), 4, PROT_RW);
  first.unpin();
  assert.throws(() => pins.pin(iovaFrame(0x4000n), 2, PROT_RW), spent);
  again.unpin();
  pins.pin(iovaFrame(0x4000n), 4, PROT_RW).unpin();
  other.unpin();
  await mediator.close();
  await Promise.all([one.exit(), two.exit()]);
  assert.deepEqual(os.leaks(), { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 });
});

test('a passthrough group is refused with a message that says what to use', async () => {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm' });
  const mediator = await createMediator({ memory: os.host, plugins: [minimal(4)] });
  const iommu = {
    id: 1,
    reserved: [],
    isolatedInterrupts: true,
    ownerClaimed: false,
    claimOwner() {},
    releaseOwner() {},
  };
  const hardware = { ...iommu, allocDomain: () => assert.fail('not asked'), attach() {}, detach() {} };
  const group = mediator.addGroup({ name: 'nic', iommu: hardware });
  mediator.addDevice(group, 'nic-f0', {});
  const container = mediator.openContainer(task);
  group.open(task).setContainer(container);
  assert.throws(() => container.setIommu(EXTENSION.TYPE1v2_IOMMU), { name: 'MINIMAL_NO_IOMMU', message: /use type1/ });
  await mediator.close();
});
