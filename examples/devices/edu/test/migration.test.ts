// One card is stopped, saved, and goes on elsewhere.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMediator, type DeviceFile, EXTENSION, MIGRATION_STATE, type Migration, PROT_RW } from '@pinion/core';
import { BUFFER, DMA, edu, factorial, REGISTER, STATUS } from '@pinion/example-edu';
import { CAPABILITY, CONFIG, MSI, PciSoftware } from '@pinion/pci';
import { FakeClock, SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import fc from 'fast-check';

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = MIGRATION_STATE;
const RAM = 0x10_0000n;

interface Card {
  readonly clock: FakeClock;
  readonly file: DeviceFile;
  readonly migration: Migration;
  readonly pci: PciSoftware;
  readonly irqs: string[];
  readonly pinned: () => number;
  peek(length: number): Uint8Array;
  end(): Promise<void>;
}

async function card(options: { readonly untouched?: boolean } = {}): Promise<Card> {
  const os = new SimulatedOs();
  const clock = new FakeClock();
  const task = os.spawn({ name: 'vmm' });
  const mediator = await createMediator({
    memory: os.host,
    plugins: [type1(), edu({ computeDelay: 5, dmaDelay: 100 })],
    clock,
  });
  const mdev = await mediator.registerParent('slot', 'edu').create('card', '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f03');
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const file = await group.openDevice(mdev.uuid);
  const vaddr = task.memory.mmap({ size: 0x4000n });
  container.mapDma({ iova: RAM, size: 0x4000n, vaddr, prot: PROT_RW });
  const irqs: string[] = [];
  mdev.device.ops.setIrqSink?.((index, vector) => irqs.push(`${index}:${vector}`));
  const pci = new PciSoftware(file);
  if (options.untouched !== true) {
    pci.assignBars({ memory: 0xfea0_0000n, io: 0n });
    pci.enable();
  }
  const { migration } = file;
  assert.ok(migration);
  return {
    clock,
    file,
    migration,
    pci,
    irqs,
    pinned: () => os.host.pinnedPages,
    peek: (length) => task.memory.peek(vaddr, length).slice(),
    end: async () => {
      await mediator.close();
      assert.equal(os.host.pinnedPages, 0);
    },
  };
}

/** Everything that a card has to say, in pieces of `size`. */
async function save({ migration }: Card, size = 1000): Promise<Uint8Array> {
  await migration.enter(STOP_COPY);
  const parts: Uint8Array[] = [];
  for (;;) {
    const part = new Uint8Array(size);
    const count = await migration.read(part);
    if (count === 0) return Uint8Array.from(parts.flatMap((each) => [...each]));
    parts.push(part.subarray(0, count));
  }
}

async function load({ migration }: Card, state: Uint8Array): Promise<void> {
  await migration.enter(RESUMING);
  for (let at = 0; at < state.length; at += 777) await migration.write(state.subarray(at, at + 777));
}

/** A card with something in every register. */
async function busyCard(): Promise<Card> {
  const it = await card();
  const { pci, clock } = it;
  pci.write(0, REGISTER.LIVENESS, 0x1234_5678);
  pci.write(0, REGISTER.FACTORIAL, 6);
  clock.advance(5);
  for (let n = 0; n < 8; n += 1) pci.write(0, BUFFER.at + n * 4, 0x0101_0101 * (n + 1));
  pci.write(0, REGISTER.INTERRUPT_RAISE, 0x30);
  return it;
}

const REGISTERS = [
  REGISTER.LIVENESS,
  REGISTER.FACTORIAL,
  REGISTER.STATUS,
  REGISTER.INTERRUPT_STATUS,
  REGISTER.DMA_SOURCE,
  REGISTER.DMA_DESTINATION,
  REGISTER.DMA_COUNT,
  REGISTER.DMA_COMMAND,
];
const registers = ({ pci }: Card): number[] => [
  ...REGISTERS.map((register) => pci.read(0, register)),
  ...Array.from({ length: 8 }, (_, n) => pci.read(0, BUFFER.at + n * 4)),
  ...Array.from({ length: 16 }, (_, n) => pci.config(n * 4)),
];

describe('an edu card that moves', () => {
  test('is the same card elsewhere: registers, buffer, configuration, a pin that is up', async () => {
    const here = await busyCard();
    const there = await card({ untouched: true });
    const expected = registers(here);
    const state = await save(here);
    await load(there, state);
    await there.migration.enter(RUNNING);
    assert.deepEqual(registers(there), expected);
    assert.equal(there.pci.config(CONFIG.STATUS, 2) & 8, 8);
    assert.deepEqual(there.irqs, ['0:0']);
    there.pci.write(0, REGISTER.INTERRUPT_ACKNOWLEDGE, 0xffff_ffff);
    assert.equal(there.pci.config(CONFIG.STATUS, 2) & 8, 0);
    assert.deepEqual(await save(there), await save(await resaved(state)));
    await here.end();
    await there.end();
  });

  /** A third card that was given the same state, with the same interrupt acknowledged. */
  async function resaved(state: Uint8Array): Promise<Card> {
    const third = await card({ untouched: true });
    await load(third, state);
    await third.migration.enter(RUNNING);
    third.pci.write(0, REGISTER.INTERRUPT_ACKNOWLEDGE, 0xffff_ffff);
    return third;
  }

  test('messages stay on', async () => {
    const here = await card();
    here.pci.setConfig((here.pci.capability(CAPABILITY.MSI) ?? 0) + MSI.CONTROL, 1, 2);
    const there = await card({ untouched: true });
    await load(there, await save(here));
    await there.migration.enter(RUNNING);
    there.pci.write(0, REGISTER.INTERRUPT_RAISE, 1);
    assert.deepEqual(there.irqs, ['1:0']);
    await here.end();
    await there.end();
  });

  test('a transfer ends when it stops, and nothing begins before it runs again', async () => {
    const it = await card();
    it.pci.write(0, BUFFER.at, 0x5555_5555);
    const start = (): void => {
      it.pci.write(0, REGISTER.DMA_SOURCE, BigInt(BUFFER.at), 8);
      it.pci.write(0, REGISTER.DMA_DESTINATION, RAM, 8);
      it.pci.write(0, REGISTER.DMA_COUNT, 4, 8);
      it.pci.write(0, REGISTER.DMA_COMMAND, DMA.START | DMA.TO_RAM);
    };
    start();
    assert.equal(it.pinned(), 1);
    await it.migration.enter(STOP);
    assert.deepEqual([it.pinned(), [...it.peek(4)]], [0, [0x55, 0x55, 0x55, 0x55]]);
    start();
    assert.equal(it.pinned(), 0);
    await it.migration.enter(RUNNING);
    start();
    assert.equal(it.pinned(), 1);
    it.clock.advance(100);
    await it.end();
  });

  test('a factorial that was begun is finished elsewhere', async () => {
    const here = await card();
    here.pci.write(0, REGISTER.STATUS, STATUS.INTERRUPT_WHEN_DONE);
    here.pci.write(0, REGISTER.FACTORIAL, 7);
    const state = await save(here);
    here.clock.advance(100);
    assert.deepEqual(here.irqs, [], 'a card that is stopped says nothing');
    const there = await card({ untouched: true });
    await load(there, state);
    await there.migration.enter(RUNNING);
    assert.equal(there.pci.read(0, REGISTER.STATUS), STATUS.INTERRUPT_WHEN_DONE | STATUS.COMPUTING);
    there.clock.advance(5);
    assert.deepEqual([there.pci.read(0, REGISTER.FACTORIAL), there.irqs], [factorial(7), ['0:0']]);
    await here.end();
    await there.end();
  });

  test('a card whose migration failed goes on where it was', async () => {
    const it = await busyCard();
    const before = registers(it);
    await save(it);
    await it.migration.enter(RUNNING);
    assert.deepEqual(registers(it), before);
    await it.end();
  });

  const BAD: readonly (readonly [what: string, change: (state: Uint8Array) => Uint8Array])[] = [
    ['nothing', () => new Uint8Array(0)],
    ['one byte less', (state) => state.subarray(0, -1)],
    ['another magic', (state) => changed(state, 0, 0xff)],
    ['another layout', (state) => changed(state, 4, 0)],
    ['a status bit that does not exist', (state) => changed(state, 17, 1)],
    ['a transfer that runs', (state) => changed(state, 24, DMA.START)],
    ['the vendor of another function', (state) => changed(state, 52 + 4096, 0x12)],
    ['the subsystem of another function', (state) => changed(state, 52 + 4096 + 0x2c, 0)],
  ];
  for (const [what, change] of BAD) {
    test(`a state with ${what} is refused; nothing of it is taken, and only a reset helps`, async () => {
      const here = await busyCard();
      const there = await busyCard();
      const before = registers(there);
      await load(there, change(await save(here)));
      await assert.rejects(there.migration.enter(STOP), { name: 'EDU_BAD_STATE', errno: 'EINVAL' });
      assert.deepEqual([registers(there), there.migration.state], [before, ERROR]);
      await assert.rejects(there.migration.enter(RUNNING), { name: 'CORE_BAD_MIGRATION' });
      await there.file.reset();
      assert.equal(there.migration.state, RUNNING);
      there.pci.write(0, REGISTER.FACTORIAL, 3);
      there.clock.advance(5);
      assert.equal(there.pci.read(0, REGISTER.FACTORIAL), 6);
      await here.end();
      await there.end();
    });
  }

  test('a byte too many is refused at once', async () => {
    const it = await busyCard();
    const state = await save(it);
    await load(it, state);
    await assert.rejects(it.migration.write(new Uint8Array(1)), { name: 'EDU_BAD_STATE' });
    await it.migration.enter(RUNNING);
    await it.end();
  });

  test('any noise is refused or harmless', async () => {
    const it = await busyCard();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 5000 }), async (noise) => {
        await it.migration.enter(RESUMING);
        const written = await it.migration.write(noise).then(
          () => true,
          () => false,
        );
        assert.equal(written, noise.length <= 52 + 4096 + 256);
        await assert.rejects(it.migration.enter(RUNNING), { name: 'EDU_BAD_STATE' });
        await it.file.reset();
      }),
      { numRuns: 30 },
    );
    await it.end();
  });

  test('it cannot be read while it runs', async () => {
    const it = await card();
    await assert.rejects(it.migration.enter(PRE_COPY), { name: 'CORE_BAD_MIGRATION' });
    assert.equal(it.migration.flags, 1);
    await it.end();
  });
});

function changed(state: Uint8Array, at: number, value: number): Uint8Array {
  const copy = state.slice();
  copy[at] = value;
  return copy;
}
