import assert from 'node:assert/strict';
import test from 'node:test';
import { isErrno } from '@pinion/core';
import { DasdDriver, DiskDriver, type EmbeddedVm, GuestHeap, VgpuDriver } from '@pinion/vm';
import fc from 'fast-check';
import { ALL_PAGES, held, LOW_PAGES, NOTHING, POOL, SUBCHANNEL, startSmallVm } from './small-vm.js';

const GTT = 0x80_0000;
const OWN_BASE = 0x78040;

/** Writes one entry of the vGPU's translation table: to a guest page, or to nothing. */
function writeEntry(vm: EmbeddedVm, entry: number, page: number | undefined): void {
  const pci = vm.machine.pci('vgpu');
  const index = pci.read32(0, OWN_BASE) / 4096 + entry;
  pci.write64(0, GTT + index * 8, page === undefined ? 0n : (BigInt(page) << 12n) | 1n);
}

const POOL_PAGE = Number(POOL >> 12n);
/** A few pages of both regions, so that sequences meet. */
const pageNumber = fc.nat(7).map((n) => (n < 4 ? n : POOL_PAGE + n - 4));
const action = fc.oneof(
  fc.record({
    kind: fc.constantFrom('plug' as const, 'unplug' as const),
    device: fc.constantFrom('disk', 'vgpu', 'dasd'),
  }),
  fc.record({ kind: fc.constantFrom('map' as const, 'unmap' as const), region: fc.constantFrom('low', 'pool') }),
  fc.record({ kind: fc.constant('point' as const), entry: fc.nat(5), page: pageNumber }),
  fc.record({ kind: fc.constant('clear' as const), entry: fc.nat(5) }),
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

/** What locked pages must be: everything mapped while an IOMMU is in the container, else the distinct pages that are pinned. */
class Model {
  readonly plugged = new Set<string>();
  readonly mapped = new Set(['low', 'pool']);
  readonly entries = new Map<number, number>();

  apply(step: Action): void {
    if (step.kind === 'plug') this.plugged.add(step.device);
    if (step.kind === 'map') this.mapped.add(step.region);
    if (step.kind === 'point' && this.plugged.has('vgpu')) this.#point(step.entry, step.page);
    if (step.kind === 'clear' && this.plugged.has('vgpu')) this.entries.delete(step.entry);
    if (step.kind === 'unplug') this.plugged.delete(step.device);
    if (step.kind === 'unmap') this.mapped.delete(step.region);
    for (const [entry, page] of this.entries) {
      if (!this.plugged.has('vgpu') || !this.mapped.has(regionOf(page))) this.entries.delete(entry);
    }
  }

  get expected(): ReturnType<typeof held> {
    const mappings = this.plugged.size > 0 ? this.mapped.size : 0;
    const pages = (this.mapped.has('low') ? LOW_PAGES : 0) + (this.mapped.has('pool') ? ALL_PAGES - LOW_PAGES : 0);
    const pinned = new Set(this.entries.values()).size;
    const disk = this.plugged.has('disk');
    const locked = disk ? pages : pinned;
    return {
      mappings,
      owners: { ...(disk ? { disk: pages } : {}), ...(pinned > 0 ? { vgpu: pinned } : {}) },
      locked,
      held: locked,
    };
  }

  #point(entry: number, page: number): void {
    if (this.mapped.has(regionOf(page))) this.entries.set(entry, page);
    else this.entries.delete(entry);
  }
}

const regionOf = (page: number): string => (page < POOL_PAGE ? 'low' : 'pool');

async function perform(vm: EmbeddedVm, step: Action): Promise<void> {
  const there = vm.slots[1]?.plugged === true;
  if (step.kind === 'plug') await vm.plug(step.device);
  if (step.kind === 'unplug') await vm.unplug(step.device);
  if (step.kind === 'map' && !vm.containers[0]?.regions.some(({ name }) => name === step.region))
    await vm.mapMemory(step.region);
  if (step.kind === 'unmap') await vm.unmapMemory(step.region);
  if (step.kind === 'point' && there) writeEntry(vm, step.entry, step.page);
  if (step.kind === 'clear' && there) writeEntry(vm, step.entry, undefined);
}

test('any order of hot plug, mapping and pinning: locked pages are what the model says, and nothing at the end', async (t) => {
  const { host, vm: first } = await startSmallVm(t, { plug: [] });
  const complaints: unknown[] = [];
  for (const event of ['pages:leaked', 'driver:failed', 'backend:warned', 'pages:foreign-unpinned'] as const) {
    host.mediator.bus.on(event, (details) => complaints.push(details));
  }
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 30 }), async (steps) => {
      const model = new Model();
      for (const device of ['disk', 'vgpu', 'dasd']) await first.unplug(device);
      for (const step of [
        { kind: 'map', region: 'low' },
        { kind: 'map', region: 'pool' },
      ] as const)
        await perform(first, step);
      for (const step of steps) {
        await perform(first, step);
        model.apply(step);
        assert.deepEqual(held(first), model.expected);
      }
    }),
    { numRuns: 60 },
  );
  await first.stop();
  assert.deepEqual(held(first), NOTHING);
  assert.equal(first.memory.lockedPages, 0);
  assert.deepEqual(complaints, []);
});

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

for (const count of [0, 1, 2, 3, 5, 8, 13, 21]) {
  test(`killed after ${count} turns of busy devices: nothing is left, and nobody complains`, async (t) => {
    const { vm, host, heap } = await startSmallVm(t);
    const complaints: unknown[] = [];
    for (const event of ['pages:leaked', 'driver:failed', 'backend:warned'] as const) {
      host.mediator.bus.on(event, (details) => complaints.push(details));
    }
    const programs = [
      async () => {
        const disk = DiskDriver.start(vm.machine, 'disk');
        for (;;) await disk.read({ lba: 0, blocks: 300, at: POOL });
      },
      async () => {
        const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
        for (;;) await dasd.write({ block: 1, blocks: 100, at: POOL + 0x4_0000n });
      },
      async () => {
        for (;;) {
          const gpu = VgpuDriver.start(vm.machine, new GuestHeap(0x20_0000n, 0x10_0000n), 'vgpu');
          await gpu.run([[0, 0]]);
          gpu.stop();
        }
      },
    ];
    const ends = programs.map((program) => vm.run(program).catch((cause: unknown) => cause));
    await turns(count);
    await vm.kill();
    for (const end of await Promise.all(ends)) assert.ok(isErrno(end, 'ECANCELED'));
    assert.deepEqual(held(vm), NOTHING);
    assert.equal(host.memory.residentBytes, 0);
    assert.deepEqual(complaints, []);
  });
}
