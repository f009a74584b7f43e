// Several sockets of one VM: one container, one set of mappings, one account.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_RW } from '@pinion/core';
import { createMemfd, type Fd } from '@pinion/sys';
import type { Client } from '@pinion/vfio-user';
import { withTwo } from './two-devices.js';

type MapRequest = Parameters<Client['mapDma']>[0];

/** Long enough for everything that does not wait for time. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

const RAM = { address: 0n, size: 0x10000n };

describe('two devices of one VM', () => {
  test('share a mapping of the same memory: one entry, pages counted once', () =>
    withTwo(async ({ vm, ram }, a, b) => {
      await Promise.all([a, b].map(({ client }) => client.mapDma({ ...RAM, fd: ram })));
      assert.equal(vm.container.stats.mappings, 1);
      a.device.pins.pin(iovaFrame(0n), 2, PROT_RW);
      b.device.pins.pin(iovaFrame(0x1000n), 2, PROT_RW);
      assert.equal(vm.task.mm.lockedPages, 3);
    }));

  test('it goes with the last of them, and both give their pages back then', () =>
    withTwo(async ({ vm, ram }, a, b) => {
      for (const { client } of [a, b]) await client.mapDma({ ...RAM, fd: ram });
      b.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      await a.client.unmapDma(RAM);
      assert.deepEqual([vm.container.stats.mappings, b.device.unmapped], [1, []]);
      await b.client.unmapDma(RAM);
      assert.deepEqual([vm.container.stats.mappings, b.device.unmapped], [0, [[0n, 16]]]);
    }));

  test('memory without a descriptor is shared too: each device reaches it by its own connection', () =>
    withTwo(async ({ vm }, a, b) => {
      for (const { client } of [a, b]) await client.mapDma(RAM);
      assert.equal(vm.container.stats.mappings, 1);
      await a.client.unmapDma(RAM);
      await assert.rejects(a.session.dma.read(0n, new Uint8Array(1)), { name: 'VFIOUSER_NO_DMA' });
      await assert.rejects(b.session.dma.read(0n, new Uint8Array(1)), { name: 'VFIOUSER_REFUSED', errno: 'EFAULT' });
    }));

  test('the end of one connection takes only what the other has not', () =>
    withTwo(async ({ vm, ram }, a, b) => {
      for (const { client } of [a, b]) await client.mapDma({ ...RAM, fd: ram });
      await a.client.mapDma({ address: 0x100000n, size: 0x1000n, fd: ram });
      a.client.close();
      await a.session.done;
      assert.deepEqual(
        vm.dma.entries.map(({ address, owners }) => [address, owners.size]),
        [[0n, 1]],
      );
      b.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
    }));

  const otherMaps: readonly (readonly [what: string, map: (ram: Fd, other: Fd) => MapRequest])[] = [
    ['another file', (_, fd) => ({ ...RAM, fd })],
    ['a part', (fd) => ({ ...RAM, size: 0x8000n, fd })],
    ['another part of the file', (fd) => ({ address: 0n, size: 0x8000n, offset: 0x1000n, fd })],
    ['other rights', (fd) => ({ ...RAM, prot: 1, fd })],
    ['no file', () => RAM],
  ];
  for (const [what, map] of otherMaps) {
    test(`other memory where the other one has some is refused after a second: ${what}`, () =>
      withTwo(async ({ sys, clock, ram, warnings }, a, b) => {
        await a.client.mapDma({ ...RAM, fd: ram });
        const other = createMemfd(sys, 'other', 0x10000n);
        const mapping = assert.rejects(b.client.mapDma(map(ram, other)), { name: 'VFIOUSER_REFUSED', errno: 'EEXIST' });
        const sooner = Promise.race([mapping.then(() => 'refused'), turns().then(() => 'waits')]);
        assert.equal(await sooner, 'waits');
        clock.advance(1000);
        await mapping;
        assert.match(
          warnings.join(),
          /VFIOUSER_MAP_EXISTS .*another device’s.*behind a virtual IOMMU need a container each/,
        );
        other.close();
      }));
  }

  test('what a connection itself has mapped is refused at once', () =>
    withTwo(async ({ ram }, a, b) => {
      for (const { client } of [a, b]) await client.mapDma({ ...RAM, fd: ram });
      await assert.rejects(b.client.mapDma({ ...RAM, fd: ram }), { errno: 'EEXIST' });
      await assert.rejects(b.client.mapDma({ ...RAM, size: 0x8000n, fd: ram }), { errno: 'EEXIST' });
    }));

  // A VMM whose firmware moves windows about unmaps all of its memory and maps it again in pieces, on each connection by itself.
  test('memory is cut up anew on one connection before the other has heard of it', () =>
    withTwo(async ({ vm, ram, clock }, a, b) => {
      const halves = [
        { address: 0n, size: 0x8000n, fd: ram },
        { address: 0x8000n, size: 0x8000n, offset: 0x8000n, fd: ram },
      ];
      for (const { client } of [a, b]) await client.mapDma({ ...RAM, fd: ram });
      const first = [a.client.unmapDma(RAM), ...halves.map((half) => a.client.mapDma(half))];
      await turns();
      assert.deepEqual(
        vm.dma.entries.map(({ size }) => size),
        [RAM.size],
        'the pieces wait',
      );
      const second = [b.client.unmapDma(RAM), ...halves.map((half) => b.client.mapDma(half))];
      await Promise.all([...first, ...second]);
      assert.deepEqual(
        vm.dma.entries.map(({ address, owners }) => [address, owners.size]),
        halves.map(({ address }) => [address, 2]),
      );
      assert.equal(vm.container.stats.mappings, 2);
      assert.equal(clock.pending, 0, 'nothing waits for time any more');
    }));

  test('what is in the way goes with its connection, and the map that waited for it succeeds', () =>
    withTwo(async ({ vm, ram }, a, b) => {
      await a.client.mapDma({ ...RAM, fd: ram });
      const mapping = b.client.mapDma({ ...RAM, size: 0x8000n, fd: ram });
      await turns();
      a.client.close();
      await mapping;
      assert.deepEqual(
        vm.dma.entries.map(({ size, owners }) => [size, owners.size]),
        [[0x8000n, 1]],
      );
    }));

  test('one cannot unmap or reach what only the other has mapped', () =>
    withTwo(async ({ ram }, a, b) => {
      await a.client.mapDma({ ...RAM, fd: ram });
      await assert.rejects(b.client.unmapDma(RAM), { errno: 'ENOENT' });
      await b.client.unmapAll();
      await assert.rejects(b.session.dma.read(0n, new Uint8Array(1)), { name: 'VFIOUSER_NO_DMA' });
      await a.session.dma.read(0n, new Uint8Array(1));
    }));

  test('a map that meets the other one’s unmap is refused when that takes more than a second: the mapping is going', () =>
    withTwo(async ({ vm, clock, ram }, a, b) => {
      await a.client.mapDma({ ...RAM, fd: ram });
      a.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      let release = (): void => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      a.device.unmapping = (range) => held.then(() => a.device.giveBack(range));
      const unmapping = a.client.unmapDma(RAM);
      await turns();
      const mapping = assert.rejects(b.client.mapDma({ ...RAM, fd: ram }), { errno: 'EEXIST' });
      await turns();
      clock.advance(1000);
      await mapping;
      release();
      await unmapping;
      assert.deepEqual(vm.dma.entries, []);
      await assert.rejects(b.client.unmapDma(RAM), { errno: 'ENOENT' });
      await b.client.mapDma({ ...RAM, fd: ram });
      a.device.unmapping = (range) => a.device.giveBack(range);
    }));

  test('a map that meets the other one’s unmap waits for its end', () =>
    withTwo(async ({ ram }, a, b) => {
      await a.client.mapDma({ ...RAM, fd: ram });
      a.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      let release = (): void => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      a.device.unmapping = (range) => held.then(() => a.device.giveBack(range));
      const order: string[] = [];
      const unmapping = a.client.unmapDma(RAM).then(() => order.push('unmapped'));
      const mapping = b.client.mapDma({ ...RAM, fd: ram }).then(() => order.push('mapped'));
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(order, []);
      release();
      await Promise.all([unmapping, mapping]);
      assert.deepEqual(order.sort(), ['mapped', 'unmapped']);
      a.device.unmapping = (range) => a.device.giveBack(range);
    }));
});
