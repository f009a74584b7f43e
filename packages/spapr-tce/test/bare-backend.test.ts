import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackendGroup, BackendHost } from '@pinion/core';
import { createSpaprTceDriver, PowerPlatform, TCE_IOCTL } from '@pinion/spapr-tce';
import { SimulatedOs } from '@pinion/testkit';
import { PAGE, V1, V2 } from './world.js';

/** A backend without core around it, which would keep it from having no group, or the same one twice. */
function bare(type: number) {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm' });
  const platform = new PowerPlatform({ memory: os.host });
  const warnings: string[] = [];
  const host: BackendHost = {
    container: 'c0',
    memory: os.host,
    warn: (name) => warnings.push(name),
    mapped() {},
    unmapped() {},
  };
  const driver = createSpaprTceDriver({ hardware: platform.tableGroup });
  const group: BackendGroup = { id: 1, name: 'g1', type: 'iommu', iommu: platform.createGroup() };
  return { os, task, group, driver, host, backend: driver.open(type, host, task) };
}

test('without a group: ENABLE, CREATE and EEH are ENODEV, info is ENXIO', async () => {
  const one = bare(V1);
  const noGroup = { name: 'TCE_NO_GROUP', errno: 'ENODEV' };
  assert.throws(() => one.backend.ioctl?.(TCE_IOCTL.ENABLE, undefined, one.task), noGroup);
  assert.throws(() => one.backend.ioctl?.(TCE_IOCTL.EEH_PE_OP, {}, one.task), noGroup);
  assert.throws(() => one.backend.info(), { name: 'TCE_NO_GROUP_INFO', errno: 'ENXIO' });
  assert.throws(() => one.backend.ioctl?.(TCE_IOCTL.GET_INFO, { argsz: 32 }, one.task), { errno: 'ENXIO' });
  const two = bare(V2);
  const create = { pageShift: 12, size: PAGE };
  assert.throws(() => two.backend.ioctl?.(TCE_IOCTL.CREATE, create, two.task), noGroup);
  for (const { backend, task, os } of [one, two]) {
    backend.release();
    await task.exit();
    assert.equal(os.leaks().grabs, 0);
  }
});

test('the same group twice is EBUSY, another version’s type EINVAL; detaching a stranger does nothing', async () => {
  const { backend, group, task, os, driver, host } = bare(V2);
  backend.attachGroup(group, task);
  assert.throws(() => backend.attachGroup(group, task), { name: 'TCE_ATTACHED', errno: 'EBUSY' });
  backend.detachGroup({ ...group, name: 'stranger' });
  assert.equal(backend.info().flags, 1);
  for (const type of [1, 3, 6, 8, 0]) {
    assert.throws(() => driver.open(type, host, task), { name: 'TCE_BAD_TYPE', errno: 'EINVAL' });
    assert.equal(driver.checkExtension(type), 0);
  }
  backend.release();
  assert.throws(() => backend.info(), { errno: 'ENXIO' });
  await task.exit();
  assert.equal(os.leaks().grabs, 0);
});

test('release gives everything back, also groups that nobody detached', async () => {
  const { backend, group, task, os } = bare(V2);
  backend.attachGroup(group, task);
  const vaddr = task.memory.mmap({ size: 4n * PAGE });
  backend.ioctl?.(TCE_IOCTL.REGISTER_MEMORY, { vaddr, size: 4n * PAGE }, task);
  backend.map({ flags: 3, iova: 0n, size: 4n * PAGE, vaddr }, task);
  assert.equal(os.host.pinnedPages, 4);
  backend.release();
  assert.deepEqual([os.host.pinnedPages, task.memory.lockedPages, task.memory.grabs], [0, 0, 0]);
  await task.exit();
});

test('the kernel writes no size back: a request is as it was', async () => {
  const { backend, group, task } = bare(V1);
  backend.attachGroup(group, task);
  backend.ioctl?.(TCE_IOCTL.ENABLE, undefined, task);
  const request = Object.freeze({ flags: 0, iova: 0n, size: 0x10000n });
  assert.equal(backend.ioctl?.(TCE_IOCTL.UNMAP_DMA, request, task), 0);
  assert.equal(request.size, 0x10000n);
  backend.release();
  await task.exit();
});
