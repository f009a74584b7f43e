import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createRegistry, readDescription, withDevice, withoutDevice } from '@pinion/vm';

const registry = createRegistry();
const A = '5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a01';
const B = '5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a02';
const HEAD = `# a VM
name: demo
hypervisor: embedded
memory: [{ name: ram, at: 0, size: 1M }]     # little
parents: [{ name: igpu, driver: gvt }, { name: cards, driver: ap, adapters: [5], domains: [0x47] }]
`;
const ONE = `{ name: one, driver: gvt, type: V5_8, parent: igpu, uuid: ${A} }`;
const NEW = { name: 'two', driver: 'gvt', type: 'V5_8', parent: 'igpu', uuid: B };
const TWO = `{ name: two, driver: gvt, type: V5_8, parent: igpu, uuid: ${B} }`;

/** Ways to write one and the same list of devices, without and with the second one. */
const STYLES: readonly (readonly [what: string, before: string, after: string | undefined])[] = [
  [
    'a line each, with comments',
    `containers:\n  - name: vm\n    iommu: type1v2\n    devices:   # of the guest\n      - ${ONE}   # first\n# the end\n`,
    `containers:\n  - name: vm\n    iommu: type1v2\n    devices:   # of the guest\n      - ${ONE}   # first\n      - ${TWO}\n# the end\n`,
  ],
  [
    'without a newline at the end',
    `containers:\n  - name: vm\n    iommu: type1v2\n    devices:\n      - ${ONE}`,
    `containers:\n  - name: vm\n    iommu: type1v2\n    devices:\n      - ${ONE}\n      - ${TWO}\n`,
  ],
  [
    'several lines each',
    `containers:\n- name: vm\n  iommu: type1v2\n  devices:\n  - name: one\n    driver: gvt\n    type: V5_8\n    parent: igpu\n    uuid: ${A}\nmemlock: 1M\n`,
    `containers:\n- name: vm\n  iommu: type1v2\n  devices:\n  - name: one\n    driver: gvt\n    type: V5_8\n    parent: igpu\n    uuid: ${A}\n  - ${TWO}\nmemlock: 1M\n`,
  ],
  ['in brackets', `containers: [{ name: vm, iommu: type1v2, devices: [${ONE}] }]\n`, undefined],
  ['none yet', `containers:\n  - { name: vm, iommu: type1v2, devices: [] }\n`, undefined],
];

const edit = (text: string) => ({ text, file: 'vm.yaml', folder: '/', registry });
const namesIn = (text: string): readonly string[] => {
  const result = readDescription({ text, folder: '/' }, registry);
  assert.ok(result.ok);
  return result.description.containers.flatMap(({ devices }) => devices.map(({ name }) => name));
};

describe('a device more in the text of a description', () => {
  for (const [what, before, after] of STYLES) {
    test(`${what}: it is there, and without it all is as before`, () => {
      const text = withDevice(edit(HEAD + before), { container: 'vm', keys: NEW });
      if (after !== undefined) assert.equal(text, HEAD + after);
      assert.deepEqual(namesIn(text), [...namesIn(HEAD + before), 'two']);
      assert.match(text, /^# a VM\n/);
      const back = withoutDevice(edit(text), B.toUpperCase());
      assert.deepEqual(namesIn(back), namesIn(HEAD + before));
      if (after !== undefined && before.endsWith('\n')) assert.equal(back, HEAD + before);
    });
  }

  test('the last device may go, and one come again', () => {
    const [, text = ''] = STYLES[0] ?? [];
    const empty = withoutDevice(edit(HEAD + text), A);
    assert.deepEqual(namesIn(empty), []);
    assert.deepEqual(namesIn(withDevice(edit(empty), { container: 'vm', keys: NEW })), ['two']);
  });

  test('settings are YAML', () => {
    const [, text = ''] = STYLES[0] ?? [];
    const keys = { name: 'crypto', driver: 'ap', type: 'passthrough', parent: 'cards', uuid: B };
    const settings = { adapters: '[5]', domains: '[0x47]' };
    const result = readDescription(
      { text: withDevice(edit(HEAD + text), { container: 'vm', keys, settings }), folder: '/' },
      registry,
    );
    assert.ok(result.ok);
    assert.deepEqual(result.description.containers[0]?.devices[1], { ...keys, adapters: [5], domains: [0x47] });
  });

  const [, GOOD = ''] = STYLES[0] ?? [];
  const REFUSED: readonly (readonly [what: string, change: () => string, error: object])[] = [
    [
      'another container',
      () => withDevice(edit(HEAD + GOOD), { container: 'odd', keys: NEW }),
      { name: 'VM_NO_CONTAINER', errno: 'ENOENT' },
    ],
    [
      'a name that is taken',
      () => withDevice(edit(HEAD + GOOD), { container: 'vm', keys: { ...NEW, name: 'one' } }),
      { name: 'VM_BAD_DESCRIPTION', message: /'one' is taken already/ },
    ],
    [
      'a UUID that is taken',
      () => withDevice(edit(HEAD + GOOD), { container: 'vm', keys: { ...NEW, uuid: A } }),
      { name: 'VM_BAD_DESCRIPTION', message: /is taken already/ },
    ],
    [
      'a type that there is not',
      () => withDevice(edit(HEAD + GOOD), { container: 'vm', keys: { ...NEW, type: 'V9' } }),
      { name: 'VM_BAD_DESCRIPTION', message: /there is no type of driver gvt 'V9'/ },
    ],
    [
      'a setting that there is not',
      () => withDevice(edit(HEAD + GOOD), { container: 'vm', keys: NEW, settings: { colour: 'red' } }),
      { name: 'VM_BAD_DESCRIPTION', message: /colour: unknown key/ },
    ],
    ['a UUID that is not there', () => withoutDevice(edit(HEAD + GOOD), B), { name: 'VM_NO_DEVICE', errno: 'ENODEV' }],
    ['no containers at all', () => withoutDevice(edit(HEAD), B), { name: 'VM_NO_DEVICE' }],
    ['no text at all', () => withDevice(edit(''), { container: 'vm', keys: NEW }), { name: 'VM_NO_CONTAINER' }],
  ];
  for (const [what, change, error] of REFUSED) test(`refuses ${what}`, () => assert.throws(change, error));
});
