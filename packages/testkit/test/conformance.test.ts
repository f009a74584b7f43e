import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BackendDevice, definePlugin, EXTENSION, type IommuBackend, type IommuBackendDriver } from '@pinion/core';
import { createSoftwareIommu } from '@pinion/iommu';
import {
  type CaseOutcome,
  type ConformanceCase,
  failedCases,
  type IommuBackendHarness,
  iommuBackendCases,
  runCases,
  runIommuBackend,
} from '@pinion/testkit';
import { createType1Driver, MAX_ROUNDS } from '@pinion/type1';

type Plain = { readonly name: string; readonly capabilities: ReadonlySet<string> };
const plain: Plain = { name: 'plain', capabilities: new Set(['a']) };
const passing: ConformanceCase<Plain> = { name: 'passing', run: async () => {} };

test('outcomes: passed, failed with its error, skipped with what is missing; later cases run all the same', async () => {
  const error = new RangeError('not met');
  const cases: readonly ConformanceCase<Plain>[] = [
    { name: 'rejecting', run: () => Promise.reject(error) },
    {
      name: 'throwing',
      run: () => {
        throw error;
      },
    },
    { name: 'needy', needs: ['a', 'b', 'c'], run: () => Promise.reject(error) },
    { name: 'able', needs: ['a'], run: async () => {} },
    passing,
  ];
  const outcomes = await runCases(cases, plain);
  assert.deepEqual(outcomes, [
    { name: 'rejecting', outcome: 'failed', error },
    { name: 'throwing', outcome: 'failed', error },
    { name: 'needy', outcome: 'skipped', missing: ['b', 'c'] },
    { name: 'able', outcome: 'passed' },
    { name: 'passing', outcome: 'passed' },
  ]);
  assert.deepEqual(failedCases(outcomes), ['rejecting', 'throwing']);
});

test('names of cases are unique: a list of failures says which', () => {
  const names = iommuBackendCases.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
});

/** A backend that is type1 but for some methods. */
const altered = (backend: IommuBackend, change: Partial<IommuBackend>): IommuBackend =>
  new Proxy(backend, {
    get(target, key) {
      const value: unknown = Reflect.get(key in change ? change : target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

/** What every device looks like to a mutant. */
const alteredDevices = (
  backend: IommuBackend,
  dmaUnmap: (device: BackendDevice) => BackendDevice['dmaUnmap'],
): IommuBackend => {
  const wrapped = new Map<BackendDevice, BackendDevice>();
  return altered(backend, {
    registerDevice: async (device) => {
      const { name, driver, group, hasDmaUnmap } = device;
      const pinnedFrames = device.pinnedFrames.bind(device);
      const mutant: BackendDevice = { name, driver, group, hasDmaUnmap, pinnedFrames, dmaUnmap: dmaUnmap(device) };
      wrapped.set(device, mutant);
      await backend.registerDevice?.(mutant);
    },
    unregisterDevice: async (device) => backend.unregisterDevice?.(wrapped.get(device) ?? device),
  });
};

const capabilities: IommuBackendHarness['capabilities'] = new Set([
  'pins',
  'passthrough',
  'accounting',
  'refuses-overlap',
  'refuses-bisect',
  'lazy-map',
  'dma-rw',
  'dirty',
  'domains',
]);

function harnessOf(mutate: (backend: IommuBackend) => IommuBackend): IommuBackendHarness {
  const type1 = createType1Driver();
  const driver: IommuBackendDriver = {
    ...type1,
    open: (type, host, caller) => mutate(type1.open(type, host, caller)),
  };
  return {
    name: 'mutant',
    backend: () => definePlugin({ name: 'mutant', core: '^0.1', register: (scope) => scope.backend(driver) }),
    iommuType: EXTENSION.TYPE1v2_IOMMU,
    passthrough: (memory) => createSoftwareIommu({ memory }).createGroup({ functions: ['pt'] }),
    capabilities,
    leak: { name: 'TYPE1_PIN_LEAK', rounds: MAX_ROUNDS },
  };
}

test('the untouched backend passes behind the same proxy', async () => {
  assert.deepEqual(failedCases(await runIommuBackend(harnessOf((backend) => altered(backend, {})))), []);
});

/** Broken backends, and a case that must catch each. */
const mutants: readonly (readonly [what: string, mutate: (backend: IommuBackend) => IommuBackend, caught: string])[] = [
  [
    'announces only the first page of a mapping',
    (backend) =>
      alteredDevices(
        backend,
        (device) =>
          ({ first }) =>
            device.dmaUnmap({ first, last: first }),
      ),
    'the request may be wider than the mapping: the range is the mapping’s',
  ],
  [
    'calls nobody',
    (backend) => alteredDevices(backend, () => async () => {}),
    'one round: the whole mapping, to every device, newest first, pinned or not',
  ],
  [
    'does not wait for the duty',
    (backend) =>
      alteredDevices(backend, (device) => async (range) => {
        device.dmaUnmap(range).catch(() => {});
      }),
    'two unmaps of the same range at once: together they report it once',
  ],
  [
    'swallows what a driver throws',
    (backend) => alteredDevices(backend, (device) => (range) => device.dmaUnmap(range).catch(() => {})),
    'a dmaUnmap that throws is named; others are called all the same; the backend stays usable',
  ],
  [
    'does not unpin',
    (backend) => altered(backend, { unpinPages: () => {} }),
    'pins are counted per page: two pins need two unpins',
  ],
  [
    'leaves the pages before a hole pinned',
    (backend) =>
      altered(backend, {
        pinPages: (group, first, offset, count, prot, out) => {
          for (let page = 0; page < count; page += 1) {
            const at = backend.pinPages?.bind(backend, group);
            // why: a sum of a frame and a count is a frame of the same space
            at?.((first + page) as typeof first, offset, 1, prot, out.subarray(page));
          }
        },
      }),
    'a pin that reaches behind a mapping is EINVAL and pins nothing',
  ],
  [
    'forgets a group that leaves',
    (backend) => altered(backend, { detachGroup: () => {} }),
    'mix 5, passthrough comes to a mediated device and goes',
  ],
  [
    'answers a size that it did not unmap',
    (backend) =>
      altered(backend, {
        unmap: async (request, caller) => ({ ...(await backend.unmap(request, caller)), size: request.size }),
      }),
    'unmap of a hole is 0 bytes',
  ],
  [
    'cannot copy though it says so',
    (backend) => altered(backend, { dmaRw: undefined } as unknown as Partial<IommuBackend>), // why: the mutant lacks it
    'declares what it can: pins, copies and dirty tracking',
  ],
];
for (const [what, mutate, caught] of mutants) {
  test(`a backend that ${what} is caught`, async () => {
    const [about] = iommuBackendCases.filter(({ name }) => name === caught);
    assert.ok(about !== undefined, 'there is a case of that name');
    assert.deepEqual(failedCases(await runCases([about], harnessOf(mutate))), [caught]);
  });
}

test('what a backend does not declare is skipped by name', async () => {
  const harness: IommuBackendHarness = { ...harnessOf((backend) => backend), capabilities: new Set(['pins']) };
  const outcomes = await runIommuBackend({ ...harness, name: 'modest' });
  const skipped = outcomes.filter((outcome: CaseOutcome) => outcome.outcome === 'skipped');
  const needy = iommuBackendCases.filter(({ needs = [] }) => needs.some((need) => need !== 'pins'));
  assert.deepEqual(
    skipped.map(({ name }) => name),
    needy.map(({ name }) => name),
  );
});
