import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  EXTENSION,
  type FrameRange,
  type IommuDomain,
  type IommuGroup,
  PROT_READ,
  PROT_RW,
  UNMAP_FLAG,
} from '@pinion/core';
import { createSoftwareIommu, SoftwareDomain } from '@pinion/iommu';
import { changing, frame, PAGE, pages, World } from './world.js';

const range = (first: number, last: number): FrameRange => ({ first: frame(first), last: frame(last) });
const rangesOf = (world: World): unknown =>
  world.container.info().capabilities.find((capability) => capability.id === 'iova-range')?.ranges;
const domainOf = (world: World, group = 0): SoftwareDomain => {
  const { backend } = world.container;
  const domain = backend?.groupDomain?.(world.groups.get(['P', 'Q', 'R'][group] ?? '')?.group ?? assert.fail());
  assert.ok(domain instanceof SoftwareDomain);
  return domain;
};

describe('attach: what is refused, in order', () => {
  test('a missing vaddr comes first', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 1);
    await world.container.unmap({ flags: UNMAP_FLAG.VADDR, iova: 0n, size: PAGE });
    const { backend } = world.container;
    const again = world.groups.get('P')?.group ?? assert.fail();
    world.refuses('TYPE1_VADDR_INVALID', 'EBUSY', () => backend?.attachGroup(again, world.task));
    world.refuses('TYPE1_VADDR_INVALID', 'EBUSY', () => world.attachPassthrough('Q'));
    await assert.rejects(world.attachMediated('A'), { name: 'TYPE1_VADDR_INVALID', errno: 'EBUSY' });
    await world.end();
  });

  test('a group that is there already, of either kind', async () => {
    const world = await World.start({ passthrough: ['P'] });
    for (const group of [world.groups.get('P')?.group, world.seat('A').device.group]) {
      assert.ok(group);
      world.refuses('TYPE1_ATTACHED', 'EINVAL', () => world.container.backend?.attachGroup(group, world.task));
    }
    await world.end();
  });

  test('a group without an IOMMU', async () => {
    const world = await World.start();
    const group = { id: 77, name: 'bare', type: 'iommu' } as const;
    world.refuses('TYPE1_NO_IOMMU', 'EINVAL', () => world.container.backend?.attachGroup(group, world.task));
    world.refuses('TYPE1_NOT_ATTACHED', 'ENODEV', () => world.container.backend?.groupDomain?.(group));
    await world.end();
  });

  test('nesting: fine for mediated devices, not for passthrough', async () => {
    const world = await World.start({ type: EXTENSION.TYPE1_NESTING_IOMMU });
    world.map(0n, 1);
    world.pin('A', 0);
    world.refuses('TYPE1_NO_NESTING', 'EINVAL', () => world.attachPassthrough('P'));
    await world.end();
  });

  test('no domain, or the hardware does not take it', async () => {
    const world = await World.start();
    world.map(0n, 1);
    for (const point of ['alloc', 'attach'] as const) {
      world.iommu.failures.fail(point, 1, 'EIO');
      world.refuses('IOMMU_INJECTED', 'EIO', () => world.attachPassthrough('P'));
    }
    world.attachPassthrough('P');
    await world.end();
  });

  test('a mapping above the width; below it the same mapping is fine', async () => {
    const world = await World.start({ iommu: { addressWidth: 39 } });
    world.map((1n << 39n) - PAGE, 1);
    world.attachPassthrough('P');
    world.detachPassthrough('P');
    world.map(1n << 39n, 1);
    world.refuses('TYPE1_APERTURE', 'EINVAL', () => world.attachPassthrough('P'));
    await world.end();
  });

  test('a narrower IOMMU may join if nothing lies above its width', async () => {
    const world = await World.start({ passthrough: ['P'] });
    const narrow = createSoftwareIommu({ memory: world.os.host, addressWidth: 39, hardware: 'other' });
    world.map(1n << 40n, 1);
    const group = world.mediator.addGroup({ name: 'narrow', iommu: narrow.createGroup({ id: 9 }) });
    world.mediator.addDevice(group, 'narrow.0', {});
    const file = group.open(world.task);
    world.refuses('TYPE1_APERTURE', 'EINVAL', () => file.setContainer(world.container));
    await world.unmap(1n << 40n, 1);
    file.setContainer(world.container);
    world.refuses('TYPE1_OUTSIDE_RANGES', 'EINVAL', () => world.map(1n << 40n, 1));
    file.unsetContainer();
    world.map(1n << 40n, 1);
    await world.end();
  });

  /** A group whose IOMMU translates only `aperture`, and how often its domain was freed. */
  function groupWith(aperture: FrameRange) {
    const freed = { times: 0 };
    const domain: IommuDomain = {
      hardware: 'apart',
      pageSizes: PAGE,
      aperture,
      coherent: true,
      map: () => {},
      unmap: () => 0,
      lookup: () => undefined,
      free: () => {
        freed.times += 1;
      },
    };
    const nothing = (): void => {};
    const iommu: IommuGroup = {
      id: 50,
      reserved: [],
      isolatedInterrupts: true,
      ownerClaimed: false,
      claimOwner: nothing,
      releaseOwner: nothing,
      allocDomain: () => domain,
      attach: nothing,
      detach: nothing,
    };
    return { group: { id: 50, name: 'apart', type: 'iommu', iommu } as const, freed };
  }

  test('two apertures with nothing in common', async () => {
    const world = await World.start({ passthrough: ['P'] });
    const { group, freed } = groupWith(range(2 ** 40, 2 ** 41));
    world.refuses('TYPE1_APERTURE', 'EINVAL', () => world.container.backend?.attachGroup(group, world.task));
    assert.equal(freed.times, 1);
    await world.end();
  });

  test('a mapping below an aperture that does not begin at 0', async () => {
    const world = await World.start();
    const { group, freed } = groupWith(range(16, 2 ** 30));
    world.map(0xf000n, 2);
    world.refuses('TYPE1_APERTURE', 'EINVAL', () => world.container.backend?.attachGroup(group, world.task));
    await world.unmap(0xf000n, 2);
    world.container.backend?.attachGroup(group, world.task);
    world.refuses('TYPE1_OUTSIDE_RANGES', 'EINVAL', () => world.map(0xf000n, 1));
    world.container.backend?.detachGroup(group);
    assert.equal(freed.times, 2);
    await world.end();
  });

  test('a mapping in a reserved region; relaxable regions do not count', async () => {
    const world = await World.start();
    world.map(0xfee00000n - PAGE, 2);
    const reserved = [{ range: range(0xfee00, 0xfeeff), kind: 'direct-relaxable' }] as const;
    world.refuses('TYPE1_RESERVED', 'EINVAL', () => world.attachPassthrough('P'));
    world.attachPassthrough('Q', { reserved });
    assert.deepEqual(rangesOf(world), [[0n, (1n << 48n) - 1n]]);
    await world.end();
  });

  test('nothing is left of the IOVA space', async () => {
    const world = await World.start();
    const reserved = [{ range: range(0, 2 ** 36 - 1), kind: 'reserved' }] as const;
    world.refuses('TYPE1_NO_RANGES', 'EINVAL', () => world.attachPassthrough('P', { reserved }));
    await world.end();
  });

  test('interrupts that are not isolated, unless the parameter allows them', async () => {
    const parameters = changing({});
    const world = await World.start({ parameters: () => parameters.now });
    const options = { isolatedInterrupts: false };
    world.refuses('TYPE1_UNSAFE_INTERRUPTS', 'EPERM', () => world.attachPassthrough('P', options));
    parameters.now = { allowUnsafeInterrupts: true };
    world.attachPassthrough('P', options);
    await world.end();
  });

  test('memory that is not there, over several mappings: all comes back', async () => {
    const world = await World.start();
    world.map(0n, 4);
    world.map(0x10000n, 4);
    const vaddr = world.map(0x20000n, 4);
    world.pin('A', 1);
    world.pin('A', 16, 4);
    world.task.memory.munmap(vaddr + pages(3), PAGE);
    world.refuses('SIM_FAULT', 'EFAULT', () => world.attachPassthrough('P'));
    assert.equal(world.locked, 5);
    assert.equal(rangesOf(world), undefined);
    world.task.memory.mmap({ size: PAGE, at: vaddr + pages(3) });
    world.attachPassthrough('P');
    assert.equal(world.locked, 12);
    await world.end();
  });

  test('reserved pages that a driver pinned change no counter when an attach is undone', async () => {
    const world = await World.start();
    world.map(0n, 4, { vaddr: world.task.memory.mmap({ size: pages(4), kind: 'reserved' }) });
    world.map(0x10000n, 1, { vaddr: 0x1000n });
    world.pin('A', 0, 3);
    world.refuses('SIM_FAULT', 'EFAULT', () => world.attachPassthrough('P'));
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('the page tables refuse a run: pinned reserved pages in it change no counter', async () => {
    const world = await World.start();
    world.map(0n, 4, { vaddr: world.task.memory.mmap({ size: pages(4), kind: 'reserved' }) });
    world.pin('A', 0, 3);
    world.iommu.failures.fail('map', 1, 'ENOMEM');
    world.refuses('IOMMU_INJECTED', 'ENOMEM', () => world.attachPassthrough('P'));
    await world.end();
  });

  test('an existing domain that refuses, and then the own one too: the first reason is told, nothing is left', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 4);
    world.iommu.failures.fail('attach', 2, 'EINVAL');
    world.iommu.failures.fail('attach', 3, 'EIO');
    world.refuses('IOMMU_INJECTED', 'EIO', () => world.attachPassthrough('Q'));
    assert.equal(world.iommu.groups[1]?.domain, undefined);
    world.attachPassthrough('Q');
    await world.end();
  });

  test('an existing domain that refuses: the group keeps its own, at no charge', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 4);
    world.iommu.failures.fail('attach', 2, 'EINVAL');
    world.attachPassthrough('Q');
    assert.notEqual(domainOf(world, 0), domainOf(world, 1));
    assert.deepEqual([...domainOf(world, 1).leaves()], [...domainOf(world, 0).leaves()]);
    assert.equal(world.locked, 4);
    await world.end();
  });
});

describe('attach: domains', () => {
  test('alike groups share a domain: nothing is mapped again, nothing charged', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 4);
    const calls = world.iommu.failures.calls('map');
    world.attachPassthrough('Q');
    assert.equal(domainOf(world, 0), domainOf(world, 1));
    assert.deepEqual([world.iommu.failures.calls('map'), world.locked], [calls, 4]);
    world.detachPassthrough('P');
    assert.equal(domainOf(world, 1).lookup(frame(3)) === undefined, false);
    assert.equal(world.locked, 4);
    await world.end();
  });

  /** A group of other hardware behind the same memory, attached. */
  const attachOther = (world: World) => {
    const other = createSoftwareIommu({ memory: world.os.host, addressWidth: 48, hardware: 'other', coherent: false });
    const group = world.mediator.addGroup({ name: 'other', iommu: other.createGroup({ id: 99 }) });
    world.mediator.addDevice(group, 'other.0', {});
    const file = group.open(world.task);
    file.setContainer(world.container);
    return { file, domain: other.groups[0]?.domain ?? assert.fail() };
  };

  test('other hardware gets the same translations, uncharged; both follow later maps and unmaps', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 4);
    world.map(0x20000n, 3, { prot: PROT_READ });
    const { file, domain } = attachOther(world);
    assert.deepEqual([...domain.leaves()], [...domainOf(world).leaves()]);
    assert.equal(world.locked, 7);
    world.map(0x30000n, 2);
    await world.unmap(0n, 4);
    assert.deepEqual([...domain.leaves()], [...domainOf(world).leaves()]);
    assert.equal(world.locked, 5);
    world.detachPassthrough('P');
    assert.equal(world.locked, 5);
    assert.equal(await world.unmap(0x20000n, 32), pages(5));
    assert.deepEqual([world.locked, domain.stats.frames], [0, 0]);
    file.unsetContainer();
    await world.end();
  });

  test('an entry that somebody took out of the page tables is warned about, at detach and at replay', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 4);
    domainOf(world).unmap(frame(2), 1);
    const { file, domain } = attachOther(world);
    assert.deepEqual(
      [...domain.leaves()].map(({ first, frames }) => [first, frames]),
      [...domainOf(world).leaves()].map(({ first, frames }) => [first, frames]),
    );
    file.unsetContainer();
    assert.equal(await world.unmap(0n, 4), pages(4));
    assert.deepEqual(world.reports, ['missing-translation', 'missing-translation']);
    await world.end({ pinnedPages: 1, livePages: 1 });
  });

  test('the last passthrough group leaves a mixed container: the ranges are everything, the pins stay charged', async () => {
    const world = await World.start({ passthrough: ['P'] });
    world.map(0n, 8);
    world.pin('A', 2, 3);
    assert.deepEqual(rangesOf(world), [
      [0n, 0xfedfffffn],
      [0xfef00000n, (1n << 48n) - 1n],
    ]);
    world.detachPassthrough('P');
    assert.equal(world.locked, 3);
    assert.deepEqual(rangesOf(world), [[0n, (1n << 64n) - 1n]]);
    world.map(0xfee00000n, 1);
    world.unpin('A', 2, 3);
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('attach and detach again and again: an identity on what is charged and pinned', async () => {
    const world = await World.start();
    world.map(0n, 8);
    world.map(0x10000n, 8, { prot: PROT_READ });
    world.pin('A', 2, 3);
    world.pin('A', 3);
    world.attachPassthrough('P');
    world.detachPassthrough('P');
    const before = world.snapshot();
    for (let round = 0; round < 3; round += 1) {
      world.attachPassthrough('P');
      assert.equal(world.locked, 16);
      world.detachPassthrough('P');
      assert.deepEqual(world.snapshot(), before);
    }
    await world.end();
  });
});

describe('attach: whose memory', () => {
  test('pages are those of who mapped, whoever attaches', async () => {
    const world = await World.start();
    const vaddr = world.map(0n, 4);
    const child = world.task.fork('child');
    child.memory.munmap(vaddr, pages(4));
    world.attachPassthrough('P', {}, child);
    assert.deepEqual([world.locked, child.memory.lockedPages], [4, 0]);
    await child.exit();
    await world.end();
  });

  test('nobody can replay the memory of a process that is gone', async () => {
    const world = await World.start();
    const other = world.os.spawn({ name: 'other' });
    const vaddr = other.memory.mmap({ size: PAGE });
    world.container.mapDma({ iova: 0n, size: PAGE, vaddr, prot: PROT_RW }, other);
    await other.exit();
    world.refuses('TYPE1_OWNER_GONE', 'ENODEV', () => world.attachPassthrough('P'));
    await world.end();
  });

  test('the capability at map also covers a later attach', async () => {
    const world = await World.start({ task: { lockBytes: 4096, ipcLock: true } });
    world.map(0n, 8);
    world.task.ipcLock = false;
    world.attachPassthrough('P');
    assert.equal(world.locked, 8);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.map(0x10000n, 1));
    await world.end();
  });
});

describe('check extension', () => {
  const { TYPE1_IOMMU, TYPE1v2_IOMMU, TYPE1_NESTING_IOMMU, UNMAP_ALL, UPDATE_VADDR, DMA_CC_IOMMU, EEH } = EXTENSION;
  const all = [TYPE1_IOMMU, TYPE1v2_IOMMU, TYPE1_NESTING_IOMMU, UNMAP_ALL, UPDATE_VADDR, DMA_CC_IOMMU, EEH, 4096, -1];

  test('without a backend, with mediated devices, with passthrough, with both', async () => {
    const bare = await World.start({ mediated: [], type: 0 });
    const mediated = await World.start();
    const passthrough = await World.start({ mediated: [], passthrough: ['P'] });
    const both = await World.start({ passthrough: ['P'], iommu: { coherent: false } });
    const answers = (world: World): number[] => all.map((extension) => world.container.checkExtension(extension));
    assert.deepEqual(answers(bare), [1, 1, 1, 1, 0, 0, 0, 0, 0]);
    assert.deepEqual(answers(mediated), [1, 1, 1, 1, 0, 1, 0, 0, 0]);
    assert.deepEqual(answers(passthrough), [1, 1, 1, 1, 1, 1, 0, 0, 0]);
    assert.deepEqual(answers(both), [1, 1, 1, 1, 0, 0, 0, 0, 0]);
    for (const world of [bare, mediated, passthrough, both]) await world.end();
  });

  test('a type that is not its own', async () => {
    const world = await World.start({ type: 0 });
    assert.throws(() => world.container.setIommu(EXTENSION.NOIOMMU_IOMMU), {
      name: 'CORE_NO_BACKEND',
      errno: 'ENODEV',
    });
    assert.throws(() => world.container.setIommu(EXTENSION.UNMAP_ALL), { name: 'TYPE1_BAD_TYPE', errno: 'EINVAL' });
    await world.end();
  });
});
