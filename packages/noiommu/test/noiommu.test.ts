import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createMediator, EXTENSION, errorNames, type Mediator, PROT_RW } from '@pinion/core';
import { createSoftwareIommu } from '@pinion/iommu';
import { createNoIommuDriver, noIommu, noIommuErrors } from '@pinion/noiommu';
import { SimulatedOs, type SimulatedTask } from '@pinion/testkit';
import { type1 } from '@pinion/type1';

interface Bench {
  readonly os: SimulatedOs;
  readonly task: SimulatedTask;
  readonly mediator: Mediator;
}

/** A mediator with both kinds of backend, and a process that may do raw I/O or not. */
async function bench(rawIo: boolean, run: (bench: Bench) => Promise<void>): Promise<void> {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm', rawIo });
  const mediator = await createMediator({ memory: os.host, plugins: [type1(), noIommu()] });
  await run({ os, task, mediator });
  await mediator.close();
  await task.exit();
  assert.deepEqual(os.leaks(), { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 });
}

const unprotected = ({ mediator, task }: Bench, name = 'unprotected') => {
  const group = mediator.addGroup({ name });
  mediator.addDevice(group, `${name}-f0`, {});
  return group.open(task);
};

test('a group without an IOMMU works in a container of type 8 and in no other', async () => {
  await bench(true, async (all) => {
    const container = all.mediator.openContainer(all.task);
    const group = unprotected(all);
    group.setContainer(container);
    assert.equal(container.checkExtension(EXTENSION.NOIOMMU_IOMMU), 1);
    assert.equal(container.checkExtension(EXTENSION.TYPE1v2_IOMMU), 0);
    assert.throws(() => container.setIommu(EXTENSION.TYPE1v2_IOMMU), { name: 'CORE_NO_BACKEND', errno: 'ENODEV' });
    container.setIommu(EXTENSION.NOIOMMU_IOMMU);
    assert.equal(container.backendName, 'noiommu');
    const device = await group.openDevice('unprotected-f0');
    await device.close();
  });
});

test('map, unmap, info and everything optional are ENOTTY', async () => {
  await bench(true, async (all) => {
    const container = all.mediator.openContainer(all.task);
    unprotected(all).setContainer(container);
    container.setIommu(EXTENSION.NOIOMMU_IOMMU);
    const mapping = { iova: 0n, size: 4096n, vaddr: all.task.memory.mmap({ size: 4096n }) };
    const refused = { name: 'NOIOMMU_NOT_SUPPORTED', errno: 'ENOTTY' };
    assert.throws(() => container.mapDma({ ...mapping, prot: PROT_RW }), refused);
    await assert.rejects(container.unmapDma(mapping), refused);
    assert.throws(() => container.info(), refused);
    assert.throws(() => container.dirty({ flags: 1 }), { errno: 'ENOTTY' });
    assert.throws(() => container.dmaRw(0n, new Uint8Array(1), false), { errno: 'ENOTTY' });
    assert.throws(() => container.ioctl(15), { errno: 'ENOTTY' });
    assert.equal(container.stats.mappedBytes, 0n);
  });
});

test('without CAP_SYS_RAWIO the group cannot be opened, nor the backend by somebody who lost it', async () => {
  await bench(false, async (all) => {
    assert.throws(() => unprotected(all), { name: 'CORE_GROUP_RAWIO', errno: 'EPERM' });
  });
  await bench(true, async (all) => {
    const container = all.mediator.openContainer(all.task);
    unprotected(all).setContainer(container);
    all.task.rawIo = false;
    assert.throws(() => container.setIommu(EXTENSION.NOIOMMU_IOMMU), { name: 'NOIOMMU_RAWIO', errno: 'EPERM' });
    assert.equal(container.backend, undefined);
  });
});

test('groups with and without an IOMMU do not share a container, whoever comes first', async () => {
  await bench(true, async (all) => {
    const { mediator, task, os } = all;
    const iommu = createSoftwareIommu({ memory: os.host });
    const safe = mediator.addGroup({ name: 'safe', iommu: iommu.createGroup({ id: 1 }) });
    mediator.addDevice(safe, 'safe-f0', {});
    const [one, two] = [safe.open(task), unprotected(all)];
    const [first, second] = [mediator.openContainer(task), mediator.openContainer(task)];
    one.setContainer(first);
    assert.throws(() => two.setContainer(first), { name: 'CORE_GROUP_MIX', errno: 'EPERM' });
    two.setContainer(second);
    one.unsetContainer();
    assert.throws(() => one.setContainer(second), { name: 'CORE_GROUP_MIX', errno: 'EPERM' });
    one.setContainer(first);
    assert.throws(() => first.setIommu(EXTENSION.NOIOMMU_IOMMU), { name: 'CORE_NO_BACKEND', errno: 'ENODEV' });
  });
});

test('the driver takes its own type alone', () => {
  const driver = createNoIommuDriver();
  assert.deepEqual(
    [0, 1, 2, 3, 7, 8, 9].map((type) => driver.checkExtension(type)),
    [0, 0, 0, 0, 0, 1, 0],
  );
  assert.equal(driver.noiommu, true);
});

test('the README has a row for every error, and no other', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const rows = [...readme.matchAll(/^\| `(NOIOMMU_\w+)` \|/gm)].map(([, name = '']) => name);
  assert.deepEqual(rows.sort(), errorNames('NOIOMMU', noIommuErrors).sort());
});
