import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createGvtDriver, describeType, GpuResources, VGPU_TYPES } from '@pinion/gvt';

const MB = 1024 * 1024;
const counts = (gpu: GpuResources): Record<string, number> =>
  Object.fromEntries(gpu.types.map(({ id }) => [id, gpu.available(id)]));

describe('available instances of a 4 GB table and 32 fences', () => {
  const table: readonly (readonly [apertureMb: number, Record<string, number>])[] = [
    [256, { V5_8: 2, V5_4: 1 }],
    [512, { V5_8: 6, V5_4: 3, V5_2: 1 }],
    [1024, { V5_8: 7, V5_4: 5, V5_2: 2, V5_1: 1 }],
  ];
  for (const [apertureMb, expected] of table) {
    test(`${apertureMb} MB aperture`, () => assert.deepEqual(counts(new GpuResources(apertureMb)), expected));
  }

  test('one V5_4 on 512 MB, and back again', () => {
    const gpu = new GpuResources(512);
    const vgpu = gpu.take('V5_4');
    assert.deepEqual(counts(gpu), { V5_8: 4, V5_4: 2, V5_2: 1 });
    gpu.give(vgpu);
    gpu.give(vgpu);
    assert.deepEqual(counts(gpu), { V5_8: 6, V5_4: 3, V5_2: 1 });
  });

  test('a type that is not offered has none', () => {
    const gpu = new GpuResources(256);
    assert.deepEqual([gpu.available('V5_2'), gpu.available('V4_8'), gpu.available('')], [0, 0, 0]);
  });
});

describe('slices', () => {
  test('are inside their half, beside the host, and apart', () => {
    const gpu = new GpuResources(1024);
    const taken = Array.from({ length: 7 }, () => gpu.take('V5_8'));
    assert.deepEqual(
      taken.map(({ id }) => id),
      [1, 2, 3, 4, 5, 6, 7],
    );
    assert.deepEqual(
      taken.map(({ low }) => low.base / MB),
      [128, 192, 256, 320, 384, 448, 512],
    );
    assert.deepEqual(
      taken.map(({ high }) => high.base / MB),
      [1408, 1792, 2176, 2560, 2944, 3328, 3712],
    );
    assert.equal((taken[6]?.high.base ?? 0) / MB + 384, 4096);
  });

  test("fences are four each, beside the host's, and come back", () => {
    const gpu = new GpuResources(1024);
    const taken = Array.from({ length: 7 }, () => gpu.take('V5_8'));
    assert.deepEqual(
      taken.flatMap(({ fences }) => fences),
      Array.from({ length: 28 }, (_, at) => at + 4),
    );
    gpu.give(taken[2] ?? assert.fail());
    assert.deepEqual(gpu.take('V5_8').fences, [12, 13, 14, 15]);
  });

  test('a gap is used again by what fits into it', () => {
    const gpu = new GpuResources(512);
    const [first, second] = [gpu.take('V5_8'), gpu.take('V5_8')];
    gpu.give(first);
    assert.equal(gpu.take('V5_4').low.base, second.low.base + second.low.size);
    assert.equal(gpu.take('V5_8').low.base, first.low.base);
  });

  test('enough memory in pieces that are too small is ENOSPC', () => {
    const gpu = new GpuResources(512);
    const taken = Array.from({ length: 6 }, () => gpu.take('V5_8'));
    for (const index of [1, 3, 5]) gpu.give(taken[index] ?? assert.fail());
    assert.equal(gpu.available('V5_4'), 1);
    assert.throws(() => gpu.take('V5_4'), { name: 'GVT_NO_SPACE', errno: 'ENOSPC' });
    assert.equal(gpu.used, 3);
  });
});

describe('refusals', () => {
  for (const apertureMb of [0, 128, 255, 300, 4096, -512, Number.NaN]) {
    test(`an aperture of ${apertureMb} MB`, () => {
      assert.throws(() => new GpuResources(apertureMb), { name: 'GVT_BAD_APERTURE', errno: 'EINVAL' });
    });
  }
  for (const type of ['V5_1', 'V4_8', '', 'v5_8']) {
    test(`type '${type}' on a 512 MB aperture`, () => {
      assert.throws(() => new GpuResources(512).take(type), { name: 'GVT_UNKNOWN_TYPE', errno: 'EINVAL' });
    });
  }
  const exhausted: readonly (readonly [apertureMb: number, type: string, fits: number, what: RegExp])[] = [
    [256, 'V5_8', 2, /low graphics memory/],
    [2048, 'V5_8', 4, /high graphics memory/],
    [1024, 'V5_8', 7, /number of vGPU ids/],
  ];
  for (const [apertureMb, type, fits, what] of exhausted) {
    test(`one ${type} more than ${fits} on ${apertureMb} MB`, () => {
      const gpu = new GpuResources(apertureMb);
      for (let n = 0; n < fits; n++) gpu.take(type);
      assert.throws(() => gpu.take(type), { name: 'GVT_NO_SPACE', errno: 'ENOSPC', message: what });
      assert.equal(gpu.used, fits);
    });
  }
  test('a quirk that does not exist', () => {
    // why: the type forbids it, a description file does not
    const quirks = ['toString'] as unknown as [];
    assert.throws(() => createGvtDriver({ quirks }), { name: 'GVT_UNKNOWN_QUIRK', errno: 'EINVAL' });
  });
});

test('the driver offers the types with their sysfs attributes', () => {
  const driver = createGvtDriver({ apertureMb: 256 });
  assert.deepEqual(
    [driver.name, driver.deviceApi, driver.pins, Object.isFrozen(driver)],
    ['gvt', 'vfio-pci', true, true],
  );
  assert.deepEqual(
    driver.types.map(({ id, prettyName }) => [id, prettyName]),
    [
      ['V5_8', 'i915-GVTg_V5_8'],
      ['V5_4', 'i915-GVTg_V5_4'],
    ],
  );
  assert.equal(
    driver.types[1]?.description,
    'low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nresolution: 1920x1200\nweight: 4\n',
  );
  assert.deepEqual([driver.available('V5_8'), driver.available('V5_1'), driver.device('x')], [2, 0, undefined]);
});

test('weights are 16 / n', () => {
  assert.deepEqual(
    VGPU_TYPES.map(({ id, weight }) => [id, weight]),
    [
      ['V5_8', 2],
      ['V5_4', 4],
      ['V5_2', 8],
      ['V5_1', 16],
    ],
  );
  assert.equal(describeType(VGPU_TYPES[0] ?? assert.fail()).description?.includes('1024x768'), true);
});
