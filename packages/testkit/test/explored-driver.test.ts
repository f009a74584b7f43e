import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  asIovaFrame,
  asPfn,
  createMediator,
  defineDriver,
  definePlugin,
  EXTENSION,
  type FrameRange,
  type PinningDeviceContext,
  type PinningDeviceOps,
  PROT_RW,
  rangeHolds,
} from '@pinion/core';
import { explore, FakeClock, replay, type Scenario, SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';

const UUID = '00000000-0000-4000-8000-000000000001';
const PAGE = asIovaFrame(3);
const RANGE = { iova: 0n, size: 16n * 4096n };
const WRITTEN = 0x77;

/** A device that looks for its page when a job comes, and writes to it a moment later. */
class TwoSteps implements PinningDeviceOps {
  readonly #context: PinningDeviceContext;
  readonly #forgets: boolean;
  #job: { readonly bytes: Uint8Array; readonly cancel: () => void } | undefined;

  /** `forgets`: gives the page back without ending the job. */
  constructor(context: PinningDeviceContext, forgets: boolean) {
    this.#context = context;
    this.#forgets = forgets;
  }

  writeRegion(): void {
    if (this.#job !== undefined) return;
    const { pins, clock } = this.#context;
    const frame = new Float64Array(1);
    pins.pinInto(PAGE, 1, PROT_RW, frame);
    const bytes = pins.bytes(asPfn(frame[0] ?? 0), 1);
    this.#job = { bytes, cancel: clock.after(0, () => this.#finish()) };
  }

  dmaUnmap(range: FrameRange): void {
    if (this.#job === undefined || !rangeHolds(range, PAGE)) return;
    if (!this.#forgets) this.#job.cancel();
    this.#context.pins.unpin(PAGE, 1);
    if (!this.#forgets) this.#job = undefined;
  }

  close(): void {
    this.#job?.cancel();
    if (this.#job !== undefined && this.#context.pins.count(PAGE) > 0) this.#context.pins.unpin(PAGE, 1);
    this.#job = undefined;
  }

  #finish(): void {
    this.#job?.bytes.fill(WRITTEN);
    if (this.#context.pins.count(PAGE) > 0) this.#context.pins.unpin(PAGE, 1);
    this.#job = undefined;
  }
}

const plugin = (forgets: boolean) =>
  definePlugin({
    name: 'two-steps',
    core: '^0.1',
    register: (scope) =>
      scope.vendorDriver(
        defineDriver({
          name: 'two-steps',
          deviceApi: 'vfio-pci',
          types: [{ id: 'one' }],
          pins: true,
          create: (context: PinningDeviceContext) => new TwoSteps(context, forgets),
        }),
      ),
  });

async function makeWorld(forgets: boolean) {
  const os = new SimulatedOs({ keepFreed: true });
  const clock = new FakeClock();
  const task = os.spawn({ name: 'vmm', ipcLock: true });
  const mediator = await createMediator({ memory: os.host, clock, dutyLimit: 0, plugins: [type1(), plugin(forgets)] });
  const mdev = await mediator.registerParent('card', 'two-steps').create('one', UUID);
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const vaddr = task.memory.mmap({ size: RANGE.size });
  container.mapDma({ ...RANGE, vaddr, prot: PROT_RW });
  await group.openDevice(UUID);
  return { os, clock, task, mediator, container, mdev, vaddr };
}

/** A guest starts a job while its VMM takes the memory away and gives it to somebody else. */
const scenario = (forgets: boolean): Scenario => ({
  name: `a driver that ${forgets ? 'forgets' : 'ends'} the job`,
  async start() {
    const { os, clock, task, mediator, container, mdev, vaddr } = await makeWorld(forgets);
    let mapped = true;
    const start = (): void => {
      if (mapped) mdev.device.ops.writeRegion?.(0, 0, new Uint8Array(1));
    };
    const unmap = async (): Promise<void> => {
      mapped = false;
      await container.unmapDma(RANGE);
      task.memory.munmap(vaddr, RANGE.size);
    };
    return {
      actors: [
        { name: 'guest', steps: { starts: start, 'starts again': start } },
        { name: 'vmm', steps: { unmaps: unmap } },
      ],
      clock,
      async end() {
        await mediator.close();
        await task.exit();
        assert.deepEqual(os.host.trespasses(), []);
        assert.deepEqual(Object.values(os.leaks()), [0, 0, 0, 0, 0, 0]);
      },
      abandon: async () => void (await Promise.allSettled([mediator.close()])),
    };
  },
});

test('a driver that gives its page back and writes to it later is found by the poison it wrote over', async () => {
  const { failed } = await explore(scenario(true));
  assert.ok(failed);
  assert.deepEqual(failed.trace, [
    'guest: starts',
    'guest: starts again',
    'vmm: unmaps',
    'vmm: unmaps: done',
    'clock: 0',
  ]);
  assert.ok((await replay(scenario(true), failed.schedule)) !== undefined);
});

test('one that ends the job first passes in every order', async () => {
  const { failed, exhausted, schedules } = await explore(scenario(false), { bound: 2000 });
  assert.deepEqual([failed, exhausted], [undefined, true]);
  assert.ok(schedules > 20, `${schedules}`);
});
