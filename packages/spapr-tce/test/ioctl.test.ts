import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TCE_IOCTL } from '@pinion/spapr-tce';
import { inWorld, map, PAGE, V1, V2 } from './world.js';

const STRUCTS: readonly (readonly [number, object])[] = [
  [TCE_IOCTL.GET_INFO, { argsz: 32 }],
  [TCE_IOCTL.MAP_DMA, { flags: 3, iova: 0n, size: PAGE, vaddr: 0n }],
  [TCE_IOCTL.UNMAP_DMA, { flags: 0, iova: 0n, size: PAGE }],
  [TCE_IOCTL.REGISTER_MEMORY, { vaddr: 0n, size: PAGE }],
  [TCE_IOCTL.UNREGISTER_MEMORY, { vaddr: 0n, size: PAGE }],
  [TCE_IOCTL.CREATE, { pageShift: 16, size: 1n << 30n }],
  [TCE_IOCTL.REMOVE, { start: 0x1000n }],
];

test('an argument that cannot be read is EFAULT, after the checks that come without it', async () => {
  await inWorld({}, (world) => {
    const { container, tce } = world.open(V2);
    for (const number of [TCE_IOCTL.MAP_DMA, TCE_IOCTL.UNMAP_DMA, TCE_IOCTL.UNREGISTER_MEMORY]) {
      assert.throws(() => container.ioctl(number), { errno: 'EPERM' });
    }
    tce.registerMemory({ vaddr: world.memory(1), size: PAGE });
    for (const [number] of STRUCTS) {
      for (const argument of [undefined, null, 8, 'struct']) {
        assert.throws(
          () => container.ioctl(number, argument),
          { name: 'TCE_UNREADABLE', errno: 'EFAULT' },
          `${number}`,
        );
      }
    }
    assert.equal(world.locked, 1);
  });
});

test('fields that are missing, of another type or too large are EINVAL and change nothing', async () => {
  await inWorld({}, (world) => {
    const { container, tce } = world.open(V2);
    tce.registerMemory({ vaddr: world.memory(1), size: PAGE });
    for (const [number, struct] of STRUCTS) {
      for (const [field, value] of Object.entries(struct)) {
        const wrong = [-1, 1.5, 2 ** 32, Number.NaN, 'x', {}, -1n, 1n << 64n];
        const wide: unknown[] = typeof value === 'bigint' ? [...wrong, undefined, 7] : [...wrong, 7n];
        for (const bad of wide) {
          assert.throws(
            () => container.ioctl(number, { ...struct, [field]: bad }),
            { name: 'TCE_BAD_NUMBER', errno: 'EINVAL' },
            `${number}.${field} = ${String(bad)}`,
          );
        }
      }
    }
    assert.deepEqual([world.locked, container.stats.mappings], [1, 0]);
  });
});

test('unknown ioctls are ENOTTY, EEH is ENODEV', async () => {
  for (const type of [V1, V2]) {
    await inWorld({}, (world) => {
      const { container } = world.open(type);
      for (const number of [3, 7, 11, 22, 30, -1]) {
        assert.throws(() => container.ioctl(number, {}), { name: 'TCE_NO_IOCTL', errno: 'ENOTTY' });
      }
      assert.throws(() => container.ioctl(TCE_IOCTL.EEH_PE_OP), { name: 'TCE_NO_EEH', errno: 'ENODEV' });
    });
  }
});

test('numbers answer what the kernel returns, structs what it writes back', async () => {
  await inWorld({}, (world) => {
    const { container } = world.open(V2);
    const vaddr = world.memory(1);
    assert.equal(container.ioctl(TCE_IOCTL.REGISTER_MEMORY, { vaddr, size: PAGE, argsz: 24, flags: 0 }), 0);
    assert.equal(container.ioctl(TCE_IOCTL.MAP_DMA, { flags: 3, iova: 0n, size: PAGE, vaddr }), 0);
    assert.equal(container.ioctl(TCE_IOCTL.UNMAP_DMA, { flags: 0, iova: 0n, size: PAGE }), 0);
    assert.equal(container.ioctl(TCE_IOCTL.UNREGISTER_MEMORY, { vaddr, size: PAGE }), 0);
    assert.deepEqual(container.ioctl(TCE_IOCTL.CREATE, { pageShift: 16, size: 1n << 30n }), {
      start: 0x800_0000_0000_0000n,
    });
    assert.equal(container.ioctl(TCE_IOCTL.REMOVE, { start: 0n }), 0);
  });
  await inWorld({}, (world) => {
    const { container } = world.open(V1);
    assert.equal(container.ioctl(TCE_IOCTL.ENABLE), 0);
    map(container, 0n, 1, world.memory(1));
    assert.equal(container.ioctl(TCE_IOCTL.DISABLE), 0);
  });
});

test('REGISTER with short structs or flags is EINVAL', async () => {
  await inWorld({}, (world) => {
    const { container } = world.open(V2);
    const memory = { vaddr: world.memory(1), size: PAGE };
    assert.throws(() => container.ioctl(TCE_IOCTL.REGISTER_MEMORY, { ...memory, argsz: 23 }), { errno: 'EINVAL' });
    container.ioctl(TCE_IOCTL.REGISTER_MEMORY, memory);
    for (const number of [TCE_IOCTL.REGISTER_MEMORY, TCE_IOCTL.UNREGISTER_MEMORY]) {
      assert.throws(() => container.ioctl(number, { ...memory, argsz: 23 }), { name: 'TCE_BAD_ARGSZ' });
      assert.throws(() => container.ioctl(number, { ...memory, flags: 1 }), { name: 'TCE_BAD_FLAGS' });
    }
    assert.equal(world.locked, 1);
  });
});
