import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, verify } from 'node:crypto';
import test from 'node:test';
import { CryptoDriver, DasdDriver, DiskDriver, screenOf, VgpuDriver, xySrcCopyBlt } from '@pinion/vm';
import { ALL_PAGES, APQN, held, LOW_PAGES, NOTHING, POOL, SUBCHANNEL, startSmallVm } from './small-vm.js';

const SIDE = 64;
const BYTES = SIDE * SIDE * 4;
const BLOCKS = BYTES / 512;

test('a picture goes from the DASD over the vGPU, signed, to the disk; hot plug in between; nothing is left', async (t) => {
  const { vm, heap } = await startSmallVm(t);
  const key = generateKeyPairSync('rsa', { modulusLength: 1024 });

  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  await dasd.read({ block: 0, blocks: BLOCKS, at: POOL });

  const draw = async (): Promise<bigint> => {
    const gpu = VgpuDriver.start(vm.machine, heap, 'vgpu');
    const screen = gpu.allocate(BYTES);
    const picture = gpu.map(POOL, BYTES);
    const [target, source] = [screen, picture].map(({ address }) => ({ address, pitch: SIDE * 4 }));
    assert.ok(target !== undefined && source !== undefined);
    await gpu.run([xySrcCopyBlt({ target, source, rect: { x1: 0, y1: 0, x2: SIDE, y2: SIDE }, rop: 0x33 })]);
    gpu.show({ buffer: screen, width: SIDE, height: SIDE });
    return screen.at;
  };
  const frameAt = await draw();
  const frame = vm.memory.read(frameAt, BYTES);
  assert.deepEqual(
    frame,
    vm.memory.read(POOL, BYTES).map((byte) => ~byte),
  );
  const vgpuPins = held(vm).owners['vgpu'];
  assert.equal(vgpuPins, 5 + 4 + 4);

  const crypto = CryptoDriver.start(vm.machine, heap, { apqn: APQN, isc: 3 });
  const digest = createHash('sha256').update(frame).digest();
  const signature = await crypto.sign(digest, key.privateKey.export({ format: 'jwk' }));

  const disk = DiskDriver.start(vm.machine, 'disk');
  vm.memory.write(POOL, signature);
  await disk.write({ lba: 0, blocks: 1, at: POOL });
  await disk.write({ lba: 1, blocks: BLOCKS, at: frameAt });

  assert.deepEqual(held(vm), {
    mappings: 2,
    owners: { disk: ALL_PAGES, vgpu: 13, crypto: 1 },
    locked: ALL_PAGES,
    held: ALL_PAGES,
  });
  await vm.unplug('disk');
  assert.deepEqual(held(vm), { mappings: 2, owners: { vgpu: 13, crypto: 1 }, locked: 14, held: 14 });
  await vm.unplug('vgpu');
  assert.deepEqual(held(vm), { mappings: 2, owners: { crypto: 1 }, locked: 1, held: 1 });
  await vm.plug('disk');
  await vm.plug('vgpu');
  const again = await draw();
  assert.equal(held(vm).owners['vgpu'], vgpuPins);

  await vm.unmapMemory('pool');
  assert.deepEqual(held(vm), {
    mappings: 1,
    owners: { disk: LOW_PAGES, vgpu: 9, crypto: 1 },
    locked: LOW_PAGES,
    held: LOW_PAGES,
  });
  await vm.mapMemory('pool');
  const stored = DiskDriver.start(vm.machine, 'disk');
  await stored.read({ lba: 0, blocks: 1 + BLOCKS, at: POOL });
  const written = vm.memory.read(POOL + 512n, BYTES);
  assert.equal(verify('sha256', written, key.publicKey, vm.memory.read(POOL, signature.length)), true);
  assert.notEqual(again, frameAt);
  assert.equal(screenOf(vm.slots[1]?.device ?? assert.fail()).width, SIDE);

  await vm.kill();
  assert.deepEqual(held(vm), NOTHING);
});
