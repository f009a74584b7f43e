import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIRECTION, SgList } from '@pinion/dma';
import { behindIommu, piece } from './harness.js';

const { BIDIRECTIONAL: BOTH, TO_DEVICE: TO, FROM_DEVICE: FROM } = DIRECTION;

test('the CPU is kept off what the device owns, and let in between syncs', () => {
  const { raw, ownership, memory, nic } = behindIommu();
  const buffer = piece(0, 100, 200);
  ownership.write(memory, buffer, new Uint8Array(200).fill(1));
  const dma = raw.mapPage(buffer, BOTH);
  assert.throws(() => ownership.read(memory, buffer), { name: 'DMA_NOT_OWNER', errno: 'EBUSY' });
  assert.throws(() => ownership.write(memory, piece(0, 299, 1), new Uint8Array(1)), { name: 'DMA_NOT_OWNER' });
  ownership.write(memory, piece(0, 300, 10), new Uint8Array(10)); // a neighbour in the page
  ownership.read(memory, piece(0, 0, 100));
  nic.write(dma, new Uint8Array(200).fill(2));
  raw.syncForCpu({ dma, length: 200 }, BOTH);
  assert.deepEqual([...ownership.read(memory, piece(0, 100, 2))], [2, 2]);
  raw.syncForDevice({ dma, length: 200 }, BOTH);
  assert.throws(() => ownership.read(memory, buffer), { name: 'DMA_NOT_OWNER' });
  raw.unmapPage({ dma, length: 200 }, BOTH);
  ownership.read(memory, buffer);
  assert.equal(ownership.size, 0);
});

test('what the device only reads the CPU may read too', () => {
  const { raw, ownership, memory } = behindIommu();
  const dma = raw.mapPage(piece(0), TO);
  ownership.read(memory, piece(0));
  assert.throws(() => ownership.write(memory, piece(0), new Uint8Array(4096)), { name: 'DMA_NOT_OWNER' });
  raw.unmapPage({ dma, length: 4096 }, TO);
});

test('lists are owned as a whole, over page ends', () => {
  const { raw, ownership, memory } = behindIommu();
  const list = new SgList([piece(0, 4000, 200), piece(5)]);
  raw.mapSgTable(list, FROM);
  for (const touched of [piece(0, 4000, 1), piece(1, 103, 1), piece(5, 4095, 1), piece(4, 4095, 2)]) {
    assert.throws(() => ownership.read(memory, touched), { name: 'DMA_NOT_OWNER' });
  }
  ownership.read(memory, piece(1, 104, 100));
  raw.syncSgForCpu(list, FROM);
  ownership.read(memory, piece(5));
  raw.syncSgForDevice(list, FROM);
  assert.throws(() => ownership.read(memory, piece(5)), { name: 'DMA_NOT_OWNER' });
  raw.unmapSg(list, FROM);
  assert.equal(ownership.size, 0);
});
