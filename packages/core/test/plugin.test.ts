import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CORE_VERSION,
  createMediator,
  defineDriver,
  definePlugin,
  LOG,
  Mediator,
  type Plugin,
  Token,
} from '@pinion/core';
import { FakeBackendDriver } from './fake-backend.js';
import { fakeDriver } from './fake-device.js';
import { FakeMemory, root } from './fake-memory.js';

const memory = new FakeMemory();
const nothing = (): void => {};
const plugin = (name: string, register: Plugin['register'], core = '^0.1'): Plugin =>
  definePlugin({ name, core, register });

test('definePlugin freezes', () => {
  const made = plugin('made', nothing);
  assert.ok(Object.isFrozen(made));
});

for (const name of ['', 'Upper', '1st', 'a b', 'a/b', '-a']) {
  test(`definePlugin refuses the name '${name}'`, () => {
    assert.throws(() => plugin(name, nothing), { name: 'CORE_BAD_PLUGIN', errno: 'EINVAL' });
  });
}

test('definePlugin refuses what is no plugin, as JavaScript may pass it', () => {
  // why (both casts): what is wrong here is what the compiler would not let through.
  const noRegister = { name: 'a', core: '^0.1' } as unknown as Plugin;
  const noName = { core: '^0.1', register: nothing } as unknown as Plugin; // why: see above
  assert.throws(() => definePlugin(noRegister), { name: 'CORE_BAD_PLUGIN', message: /register is no function/ });
  assert.throws(() => definePlugin(noName), { name: 'CORE_BAD_PLUGIN', message: /\(unnamed\)/ });
});

const versions: readonly (readonly [wanted: string, ok: boolean])[] = [
  ['^0.1', true],
  ['^0.1.0', true],
  ['^0', true],
  ['^0.0', false],
  ['^0.0.1', false],
  ['^0.1.1', false],
  ['^0.2', false],
  ['^0.0.9', false],
  ['^1', false],
  ['^1.0.0', false],
  ['0.1.0', false],
  ['~0.1.0', false],
  ['>=0.1', false],
  ['*', false],
  ['', false],
  ['^', false],
  ['^0.1.x', false],
  ['^0.1.0.0', false],
  ['^-1', false],
  ['^0.1.0-beta', false],
];
for (const [wanted, ok] of versions) {
  test(`a plugin for core '${wanted}' is ${ok ? 'taken' : 'refused'} by core 0.1.0`, async () => {
    assert.equal(CORE_VERSION, '0.1.0', 'the table above is about this version');
    const mediator = new Mediator({ memory });
    let registered = 0;
    const outcome = mediator.use(
      plugin(
        'dated',
        () => {
          registered += 1;
        },
        wanted,
      ),
    );
    if (ok) await outcome;
    else await assert.rejects(outcome, { name: 'CORE_PLUGIN_VERSION', errno: 'EINVAL', message: /dated wants core/ });
    assert.equal(registered, ok ? 1 : 0);
    await mediator.close();
  });
}

const driver = (name: string) => fakeDriver([], { name });
const backend = (name: string) => new FakeBackendDriver([], { name });
const TOKEN: Token<string> = new Token('test.token');

const duplicates: readonly (readonly [what: string, register: Plugin['register']])[] = [
  ['backend b', (scope) => scope.backend(backend('b'))],
  ['vendor driver v', (scope) => scope.vendorDriver(driver('v'))],
  ['hypervisor h', (scope) => scope.hypervisor({ name: 'h', deviceApis: [] })],
  ['test.token', (scope) => scope.provide(TOKEN, () => 'again')],
];
for (const [what, register] of duplicates) {
  test(`a second ${what} is refused by name and the first one stays`, async () => {
    const mediator = new Mediator({ memory });
    await mediator.use(plugin('first', register));
    await assert.rejects(mediator.use(plugin('second', register)), {
      name: 'CORE_PLUGIN_EXISTS',
      errno: 'EEXIST',
      message: new RegExp(what),
    });
    assert.equal(
      mediator.backends.length + mediator.vendorDrivers.size + mediator.hypervisors.size,
      what === 'test.token' ? 0 : 1,
    );
    await mediator.close();
  });
}

const good = { name: 'v', deviceApi: 'vfio-v', types: [{ id: 'a' }], pins: false, create: () => ({}) } as const;
const badDrivers = [
  ['no name', { ...good, name: '' }, /needs a name/],
  ['no deviceApi', { ...good, deviceApi: '' }, /no deviceApi/],
  ['no types', { ...good, types: [] }, /no types/],
  ['a type twice', { ...good, types: [{ id: 'a' }, { id: 'a' }] }, /twice/],
] as const;
for (const [what, bad, message] of badDrivers) {
  test(`a vendor driver with ${what} is refused`, async () => {
    const mediator = new Mediator({ memory });
    const outcome = mediator.use(plugin('bad', (scope) => scope.vendorDriver(defineDriver(bad))));
    await assert.rejects(outcome, { name: 'CORE_BAD_PLUGIN', errno: 'EINVAL', message });
    assert.equal(mediator.vendorDrivers.size, 0);
    await mediator.close();
  });
}

test('a register that fails half way is undone, newest first, and the mediator stays usable', async () => {
  const mediator = new Mediator({ memory });
  const failure = new RangeError('no such card');
  const undone: string[] = [];
  const half = plugin('half', (scope) => {
    scope.backend(backend('b'));
    scope.defer(() => void undone.push(`backends ${mediator.backends.length}`));
    scope.vendorDriver(driver('v'));
    scope.hypervisor({ name: 'h', deviceApis: [] });
    scope.provide(TOKEN, () => 'half');
    scope.defer(() => void undone.push('last'));
    throw failure;
  });
  await assert.rejects(mediator.use(half), (thrown) => thrown === failure);
  assert.deepEqual(undone, ['last', 'backends 1']);
  assert.deepEqual([mediator.backends, mediator.vendorDrivers.size, mediator.hypervisors.size], [[], 0, 0]);
  assert.throws(() => mediator.get(TOKEN), { name: 'CORE_NOT_PROVIDED', errno: 'ENOENT' });
  await mediator.use(plugin('whole', (scope) => scope.vendorDriver(driver('v'))));
  assert.deepEqual([...mediator.vendorDrivers.keys()], ['v']);
  await mediator.close();
});

test('a register that rejects is a register that fails', async () => {
  const mediator = new Mediator({ memory });
  const failure = new RangeError('later');
  const late = plugin('late', async (scope) => {
    scope.backend(backend('b'));
    await Promise.resolve();
    throw failure;
  });
  await assert.rejects(mediator.use(late), (thrown) => thrown === failure);
  assert.deepEqual(mediator.backends, []);
  await mediator.close();
});

test('close undoes plugins newest first', async () => {
  const undone: string[] = [];
  const leaving = (name: string): Plugin => plugin(name, (scope) => scope.defer(() => void undone.push(name)));
  const mediator = await createMediator({ memory, plugins: [leaving('a'), leaving('b'), leaving('c')] });
  await mediator.close();
  await mediator.close();
  assert.deepEqual(undone, ['c', 'b', 'a']);
});

test('createMediator undoes all plugins when one fails', async () => {
  const undone: string[] = [];
  const failure = new RangeError('third');
  const leaving = (name: string): Plugin => plugin(name, (scope) => scope.defer(() => void undone.push(name)));
  const failing = plugin('failing', () => {
    throw failure;
  });
  const outcome = createMediator({ memory, plugins: [leaving('a'), leaving('b'), failing] });
  await assert.rejects(outcome, (thrown) => thrown === failure);
  assert.deepEqual(undone, ['b', 'a']);
});

test('a plugin gets services of core and of plugins before it, and finds no others', async () => {
  const log = { info: nothing, warn: nothing };
  const seen: unknown[] = [];
  const giver = plugin('giver', (scope) => scope.provide(TOKEN, () => 'given'));
  const taker = plugin('taker', (scope) => void seen.push(scope.get(LOG), scope.get(TOKEN)));
  const mediator = await createMediator({ memory, log, plugins: [giver, taker] });
  assert.deepEqual(seen, [log, 'given']);
  assert.equal(mediator.get(TOKEN), 'given');
  await mediator.close();
  const early = createMediator({ memory, plugins: [taker, giver] });
  await assert.rejects(early, { name: 'CORE_NOT_PROVIDED', message: /test\.token/ });
});

test('a provided service is made once, at first use', async () => {
  let made = 0;
  const counter: Token<number> = new Token('test.counter');
  const counting = plugin('counting', (scope) =>
    scope.provide(counter, () => {
      made += 1;
      return made;
    }),
  );
  const mediator = await createMediator({ memory, plugins: [counting] });
  assert.equal(made, 0);
  assert.deepEqual([mediator.get(counter), mediator.get(counter)], [1, 1]);
  await mediator.close();
});

test('two mediators share nothing', async () => {
  const plugins = [
    plugin('all', (scope) => {
      scope.backend(backend('b'));
      scope.vendorDriver(driver('v'));
      scope.provide(TOKEN, () => 'mine');
    }),
  ];
  const [one, two] = [await createMediator({ memory, plugins }), new Mediator({ memory })];
  let heard = 0;
  two.bus.on('container:opened', () => {
    heard += 1;
  });
  assert.deepEqual([two.backends, two.vendorDrivers.size], [[], 0]);
  assert.throws(() => two.get(TOKEN), { name: 'CORE_NOT_PROVIDED' });
  await two.use(plugin('own', (scope) => scope.provide(TOKEN, () => 'own')));
  one.registerParent('p', 'v');
  one.openContainer(root);
  assert.deepEqual([heard, two.parents.size, two.containers.length], [0, 0, 0]);
  await one.close();
  assert.equal(two.get(TOKEN), 'own', 'the end of one leaves the other alone');
  await two.close();
});

test('a closed mediator refuses by name', async () => {
  const mediator = new Mediator({ memory });
  await mediator.close();
  const stopped = { name: 'CORE_STOPPED', errno: 'ENODEV' };
  assert.throws(() => mediator.openContainer(root), stopped);
  assert.throws(() => mediator.addGroup({ name: 'g' }), stopped);
  assert.throws(() => mediator.registerParent('p', 'v'), stopped);
  await assert.rejects(mediator.use(plugin('late', nothing)), stopped);
});
