import assert from 'node:assert/strict';
import test from 'node:test';
import { asGfn } from '@pinion/core';
import { GvtDevice, SIZE_4K } from '@pinion/gvt';
import type { EmbeddedVm } from '@pinion/vm';
import { ALL_PAGES, held, imageFolder, LOW_PAGES, smallDescription, startSmallVm } from './small-vm.js';

const LOW_WORD = 0x2008n;

function vgpuOf(vm: EmbeddedVm): GvtDevice {
  const ops = vm.slots.find(({ config }) => config.name === 'vgpu')?.device.ops;
  assert.ok(ops instanceof GvtDevice);
  return ops;
}

test('a write of a guest program to a tracked page reaches the vGPU, until it is unplugged', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['vgpu'] });
  const { backend } = vgpuOf(vm);
  const heard: unknown[] = [];
  backend.onGuestWrite = (gpa, bytes) => void heard.push([gpa, [...bytes]]);
  assert.equal(backend.capabilities.pageTrack, true);
  backend.enablePageTrack(asGfn(2));
  await vm.run(async ({ memory }) => {
    memory.write(LOW_WORD, Uint8Array.of(1, 2, 3, 4));
    memory.write(LOW_WORD + 4096n, Uint8Array.of(5));
  });
  assert.deepEqual(heard, [[LOW_WORD, [1, 2, 3, 4]]]);
  assert.deepEqual([...vm.memory.read(LOW_WORD, 4)], [1, 2, 3, 4]);
  await vm.unplug('vgpu');
  await vm.run(async ({ memory }) => memory.write(LOW_WORD, Uint8Array.of(9)));
  assert.deepEqual([heard.length, vm.memory.writeWatches?.pages], [1, 0]);
});

test('the vGPU does not understand a write: the guest never hears of that', async (t) => {
  const warnings: string[] = [];
  const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
  const { vm } = await startSmallVm(t, { plug: ['vgpu'], host: { log } });
  const { backend } = vgpuOf(vm);
  backend.onGuestWrite = () => assert.fail('from the core');
  backend.enablePageTrack(asGfn(2));
  await vm.run(async ({ memory }) => memory.write(LOW_WORD, Uint8Array.of(7)));
  assert.equal(vm.memory.read(LOW_WORD, 1)[0], 7);
  assert.match(warnings.join(), /write at 0x2008 was not understood/);
});

test('a parent on a static backend: all memory is held while the vGPU is plugged, and what is unmapped is not', async (t) => {
  const description = smallDescription(imageFolder(t), (text) =>
    text.replace('driver: gvt }', 'driver: gvt, backend: static }'),
  );
  const { vm } = await startSmallVm(t, { plug: [], description });
  const locked = () => [vgpuOf(vm).backend.usage.pages, held(vm).locked];
  assert.deepEqual(locked(), [0, 0]);
  await vm.plug('vgpu');
  assert.deepEqual(locked(), [ALL_PAGES, ALL_PAGES]);
  await vm.unmapMemory('low');
  assert.deepEqual(locked(), [ALL_PAGES - LOW_PAGES, ALL_PAGES - LOW_PAGES]);
  await vm.mapMemory('low');
  vgpuOf(vm).backend.dmaMapGuestPage(asGfn(5), SIZE_4K);
  assert.deepEqual(locked(), [ALL_PAGES - LOW_PAGES + 512, ALL_PAGES - LOW_PAGES + 512]);
  await vm.plugMemory({ name: 'more', at: 0x2_0000_0000n, size: 0x10_0000n });
  assert.throws(() => vgpuOf(vm).backend.dmaMapGuestPage(asGfn(0x20_0000), SIZE_4K), { name: 'GVT_NO_PAGE' });
  await vm.unplug('vgpu');
  assert.deepEqual(locked(), [0, 0]);
  await vm.plug('vgpu');
  assert.deepEqual(locked(), [ALL_PAGES + 256, ALL_PAGES + 256]);
  await vm.stop();
  assert.deepEqual(locked(), [0, 0]);
});

for (const [backend, pages] of [
  ['kvm', 0],
  ['xen', 1],
] as const) {
  test(`a parent on ${backend}: ${pages} pages are held after map and unmap`, async (t) => {
    const description = smallDescription(imageFolder(t), (text) =>
      text.replace('driver: gvt }', `driver: gvt, backend: ${backend} }`),
    );
    const { vm } = await startSmallVm(t, { plug: ['vgpu'], description });
    const vgpu = vgpuOf(vm).backend;
    assert.equal(vgpu.kind, backend);
    vgpu.dmaUnmapGuestPage(vgpu.dmaMapGuestPage(asGfn(5), SIZE_4K));
    assert.equal(vgpu.usage.pages, pages);
    await vm.stop();
    assert.equal(vgpu.usage.pages, 0);
  });
}
