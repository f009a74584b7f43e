import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, verify } from 'node:crypto';
import test, { type TestContext } from 'node:test';
import { ApDevice, type ApDriverOptions, createApDriver } from '@pinion/ap';
import { CryptoCards, createRegistry, type DeviceKind, type EmbeddedVm, randomRequest, signRequest } from '@pinion/vm';
import { held, imageFolder, POOL, smallDescription, startSmallVm, TurnClock } from './small-vm.js';

const KEY = generateKeyPairSync('rsa', { modulusLength: 1024 });
const JWK = KEY.privateKey.export({ format: 'jwk' });
const ACCELERATOR = '05.0047';
const CCA = '06.0047';

/** Fires what is due later only when told. */
class PatientClock extends TurnClock {
  readonly #later = new Set<() => void>();

  override after(delay: number, action: () => void): () => void {
    if (delay === 0) return super.after(delay, action);
    this.#later.add(action);
    return () => this.#later.delete(action);
  }

  fire(): void {
    const due = [...this.#later];
    this.#later.clear();
    for (const action of due) action();
  }
}

/** Adapter 5 is an accelerator, 6 a CCA coprocessor; they compute on the caller's stack. */
function apKind(options: Partial<ApDriverOptions>): DeviceKind {
  const kind = createRegistry().kinds.get('ap');
  assert.ok(kind?.mediated);
  const cards = [5, { adapter: 6, mode: 'cca' }] as const;
  return { ...kind, createDriver: () => createApDriver({ adapters: cards, domains: [0x47], threads: 0, ...options }) };
}

async function startCards(t: TestContext, options: Partial<ApDriverOptions> = {}) {
  const clock = new PatientClock();
  const registry = createRegistry({ kinds: [apKind(options)] });
  const description = smallDescription(imageFolder(t), (text) => text.replaceAll('adapters: [5]', 'adapters: [5, 6]'));
  const { vm, heap } = await startSmallVm(t, { plug: ['crypto'], host: { clock, registry }, description });
  const cards = CryptoCards.start(vm.machine, heap, { isc: 3 });
  return { vm, heap, cards, clock, device: apDevice(vm) };
}

function apDevice(vm: EmbeddedVm): ApDevice {
  const ops = vm.slots.find(({ config }) => config.name === 'crypto')?.device.ops;
  assert.ok(ops instanceof ApDevice);
  return ops;
}

const sign = (cards: CryptoCards, text: string): Promise<boolean> =>
  cards
    .submit(signRequest(createHash('sha256').update(text).digest(), JWK))
    .then((signature) => verify('sha256', Buffer.from(text), KEY.publicKey, signature));

const many = (count: number): string[] => Array.from({ length: count }, (_, index) => `text ${index}`);
const outcome = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    (value) => value,
    (cause: unknown) => (cause instanceof Error ? cause.name : cause),
  );
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('the list of cards says what lszcrypt says', async (t) => {
  const { cards } = await startCards(t);
  await sign(cards, 'one');
  assert.deepEqual(cards.list(), [
    { queue: ACCELERATOR, type: 'CEX8A', mode: 'accelerator', online: true, requests: 1, pending: 0, depth: 8 },
    { queue: CCA, type: 'CEX8C', mode: 'cca', online: true, requests: 0, pending: 0, depth: 8 },
  ]);
});

test('a mixed load uses every card: signatures on both, random bytes on the coprocessor; more than the queues hold', async (t) => {
  const { vm, cards } = await startCards(t);
  assert.deepEqual(held(vm).owners, { crypto: 2 });
  const signatures = many(40).map((text) => sign(cards, text));
  const random = [1, 100, 8192].map((length) => cards.submit(randomRequest(length)));
  assert.deepEqual(new Set(await Promise.all(signatures)), new Set([true]));
  assert.deepEqual(
    (await Promise.all(random)).map(({ length }) => length),
    [1, 100, 8192],
  );
  const [accelerator = 0, cca = 0] = [ACCELERATOR, CCA].map((queue) => cards.answered.get(queue));
  assert.equal(accelerator + cca, 43);
  assert.ok(accelerator > 10 && cca > 10, `${accelerator} and ${cca}`);
  assert.equal(cards.moved, 0);
});

test('an adapter unplugged under load: what it had is done by the other, or refused where nobody else can', async (t) => {
  const { cards, device } = await startCards(t);
  const signatures = many(30).map((text) => sign(cards, text));
  const random = [outcome(cards.submit(randomRequest(8))), outcome(cards.submit(randomRequest(9)))];
  device.machine.unplugAdapter(6);
  assert.deepEqual(new Set(await Promise.all(signatures)), new Set([true]));
  assert.deepEqual(await Promise.all(random), ['VM_NO_CARD', 'VM_NO_CARD']);
  assert.ok(cards.moved > 0);
  assert.deepEqual(
    cards.list().map(({ queue }) => queue),
    [ACCELERATOR],
  );
  device.machine.plugAdapter({ adapter: 6, mode: 'cca' });
  await turn();
  assert.equal((await cards.submit(randomRequest(8))).length, 8);
});

test('queues that forget what they had are noticed, and it is sent again', async (t) => {
  const { cards, clock, device } = await startCards(t);
  const signatures = many(10).map((text) => sign(cards, text));
  await device.reset();
  clock.fire();
  assert.deepEqual(new Set(await Promise.all(signatures)), new Set([true]));
  assert.equal(cards.moved, 10);
});

test('a card that stops is offline, and comes back with its queue', async (t) => {
  const { cards, clock, device } = await startCards(t);
  const signatures = many(10).map((text) => sign(cards, text));
  device.machine.setCondition(5, 'checkstopped');
  assert.deepEqual(
    cards.list().map(({ online }) => online),
    [false, true],
  );
  clock.fire();
  assert.deepEqual(new Set(await Promise.all(signatures)), new Set([true]));
  assert.deepEqual(
    cards.list().map(({ queue }) => queue),
    [CCA],
  );
  device.machine.setCondition(5, 'online');
  clock.fire();
  assert.deepEqual(
    cards.list().map(({ queue }) => queue),
    [CCA, ACCELERATOR],
  );
});

test('a queue that is busy is asked again later', async (t) => {
  let busy = true;
  const { cards, clock } = await startCards(t, {
    respond: (instruction) => (busy && instruction === 'NQAP' ? 0x05 : undefined),
  });
  const signature = sign(cards, 'later');
  await turn();
  busy = false;
  clock.fire();
  assert.equal(await signature, true);
});

test('a message that a card refuses is the sender’s error, and nobody else’s', async (t) => {
  const { cards } = await startCards(t);
  const bad = { ...JWK, p: JWK.q ?? '', q: 'Ag' };
  const refused = outcome(cards.submit(signRequest(new Uint8Array(32), bad)));
  assert.equal(await sign(cards, 'good'), true);
  assert.equal(await refused, 'VM_CRYPTO_FAILED');
  assert.equal(await outcome(cards.submit(randomRequest(9000))), 'VM_CRYPTO_FAILED');
  assert.throws(() => signRequest(new Uint8Array(32), { kty: 'RSA' }), { name: 'VM_BAD_KEY' });
});

const ends: readonly [
  what: string,
  end: (vm: EmbeddedVm, cards: CryptoCards) => Promise<void> | void,
  reason: string,
][] = [
  ['stop of the cards', (_vm, cards) => cards.stop(), 'VM_NO_MATRIX'],
  ['unplug of the matrix', (vm) => vm.unplug('crypto'), 'VM_UNPLUGGED'],
  ['kill of the guest', (vm) => vm.kill(), 'VM_KILLED'],
];
for (const [what, end, reason] of ends) {
  test(`${what}: everything that waits is rejected, and nothing is held`, async (t) => {
    const { vm, heap, cards } = await startCards(t);
    const work = many(20).map((text) => outcome(sign(cards, text)));
    await end(vm, cards);
    assert.deepEqual(new Set(await Promise.all(work)), new Set([reason]));
    assert.equal(await outcome(sign(cards, 'too late')), reason);
    assert.deepEqual([held(vm).owners, heap.used], [{}, 0n]);
  });
}

test('without a matrix there are no cards', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: [] });
  assert.throws(() => CryptoCards.start(vm.machine, heap, { isc: 0 }), { name: 'VM_NO_MATRIX', errno: 'ENODEV' });
  assert.equal(heap.used, 0n);
  await assert.rejects(vm.machine.crypto.configurationChange(), { name: 'VM_NO_MATRIX' });
});

test('DQAP into a buffer that is not there takes no reply', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['crypto'], host: { clock: new TurnClock() } });
  const { crypto, memory } = vm.machine;
  memory.write(POOL, Uint8Array.of(0, 0x50));
  crypto.nqap(0x547, { psmid: 9n, at: POOL, length: 2 });
  await turn();
  const beyond = { at: POOL + 0x10_0000n - 4n, length: 8 };
  assert.throws(() => crypto.dqap(0x547, beyond), { name: 'VM_NO_MEMORY_AT', errno: 'EFAULT' });
  assert.equal(crypto.dqap(0x547, { at: POOL, length: 8 })?.psmid, 9n);
  await vm.kill();
  assert.throws(() => crypto.dqap(0x547, { at: POOL, length: 8 }), { name: 'VM_KILLED' });
});

test('a description says which adapters are coprocessors, and how many threads compute', async (t) => {
  const description = smallDescription(imageFolder(t), (text) =>
    text
      .replace('adapters: [5], domains: [0x47] }', 'adapters: [5], coprocessors: [6], threads: 1, domains: [0x47] }')
      .replace(/adapters: \[5\], domains: \[0x47\] \}\s*$/, 'adapters: [5, 6], domains: [0x47], controlDomains: [1] }'),
  );
  const { vm, heap } = await startSmallVm(t, { plug: ['crypto'], description });
  const cards = CryptoCards.start(vm.machine, heap, { isc: 3 });
  assert.deepEqual(
    cards.list().map(({ queue, type }) => `${queue} ${type}`),
    [`${ACCELERATOR} CEX8A`, `${CCA} CEX8C`],
  );
  assert.deepEqual(apDevice(vm).matrix.controlDomains.indices(), [1]);
  assert.equal(await sign(cards, 'on a thread'), true);
});
