import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventFd } from '@pinion/sys';
import { COMMAND, encodeSetIrqs, type IrqRequest } from '@pinion/vfio-user';
import { type RawClient, World } from './world.js';

const none = new Uint8Array(0);
const request = (more: Partial<IrqRequest>): Uint8Array =>
  encodeSetIrqs({ index: 0, start: 0, count: 1, data: 'none', action: 'trigger', selected: none, ...more });
const lines = (index: number, start: number, count: number): Uint8Array =>
  request({ index, start, count, data: 'eventfd' });

interface Rig {
  readonly world: World;
  readonly client: RawClient;
  set(payload: Uint8Array, events?: readonly EventFd[]): Promise<number>;
  event(): EventFd;
}

async function withIrqs(body: (rig: Rig) => Promise<void>): Promise<void> {
  const world = await World.start();
  const client = await world.client();
  const events: EventFd[] = [];
  await body({
    world,
    client,
    set: (payload, these = []) =>
      client.errno(
        COMMAND.DEVICE_SET_IRQS,
        payload,
        these.map(({ fd }) => fd),
      ),
    event: () => {
      const event = EventFd.create(world.sys, 'irq');
      events.push(event);
      return event;
    },
  });
  await client.close();
  for (const event of events) event.close();
  await world.end();
}

describe('interrupts', () => {
  test('a raised vector signals the descriptor that the client gave for it', () =>
    withIrqs(async ({ world, set, event }) => {
      const events = [event(), event()];
      assert.equal(await set(lines(2, 3, 2), events), 0);
      world.device.sink?.(2, 4);
      world.device.sink?.(2, 4);
      world.device.sink?.(2, 5);
      assert.deepEqual(
        events.map((each) => each.drain()),
        [0n, 2n],
      );
    }));

  test('INTx masks itself; raised again it waits for the unmask', () =>
    withIrqs(async ({ world, client, set, event }) => {
      const line = event();
      await set(lines(0, 0, 1), [line]);
      world.device.sink?.(0, 0);
      world.device.sink?.(0, 0);
      assert.deepEqual(
        [line.drain(), client.session.irqs.masked(0, 0), client.session.irqs.pending(0, 0)],
        [1n, true, true],
      );
      assert.equal(await set(request({ action: 'unmask' })), 0);
      assert.equal(line.drain(), 1n);
      assert.equal(await set(request({ action: 'unmask' })), 0);
      assert.equal(line.drain(), 0n);
      world.device.sink?.(0, 0);
      assert.equal(line.drain(), 1n);
    }));

  test('the resample descriptor unmasks INTx, as KVM does when the guest is through', () =>
    withIrqs(async ({ world, client, set, event }) => {
      const [line, resample] = [event(), event()];
      await set(lines(0, 0, 1), [line]);
      assert.equal(await set(request({ data: 'eventfd', action: 'unmask' }), [resample]), 0);
      world.device.sink?.(0, 0);
      world.device.sink?.(0, 0);
      assert.equal(line.drain(), 1n);
      resample.signal();
      await client.idle();
      assert.equal(line.drain(), 1n);
      assert.equal(await set(request({ data: 'eventfd', action: 'unmask' })), 0);
      resample.signal();
      await client.idle();
      assert.equal(client.session.irqs.masked(0, 0), true);
    }));

  test('a mask descriptor masks', () =>
    withIrqs(async ({ client, set, event }) => {
      const knob = event();
      await set(request({ index: 1, data: 'eventfd', action: 'mask' }), [knob]);
      knob.signal();
      await client.idle();
      assert.equal(client.session.irqs.masked(1, 0), true);
    }));

  test('a masked vector is kept pending and fires once when it is unmasked', () =>
    withIrqs(async ({ world, client, set, event }) => {
      const line = event();
      await set(lines(2, 0, 1), [line]);
      assert.equal(await set(request({ index: 2, action: 'mask' })), 0);
      world.device.sink?.(2, 0);
      world.device.sink?.(2, 0);
      assert.deepEqual([line.drain(), client.session.irqs.pending(2, 0)], [0n, true]);
      assert.equal(await set(request({ index: 2, data: 'bool', action: 'unmask', selected: Uint8Array.of(1) })), 0);
      assert.deepEqual([line.drain(), client.session.irqs.pending(2, 0)], [1n, false]);
    }));

  test('a trigger without data fires; with bytes it fires those that are not 0', () =>
    withIrqs(async ({ set, event }) => {
      const events = [event(), event(), event()];
      await set(lines(2, 0, 3), events);
      assert.equal(await set(request({ index: 2, start: 1, count: 2 })), 0);
      const selected = Uint8Array.of(1, 0, 255);
      assert.equal(await set(request({ index: 2, count: 3, data: 'bool', selected })), 0);
      assert.deepEqual(
        events.map((each) => each.drain()),
        [1n, 1n, 2n],
      );
    }));

  test('lines are taken away by a trigger with descriptors that come with none: also those that never were, also from the middle', () =>
    withIrqs(async ({ world, set, event }) => {
      assert.equal(await set(lines(2, 0, 1)), 0);
      const events = [event(), event(), event()];
      await set(lines(2, 0, 3), events);
      assert.equal(await set(lines(2, 1, 1)), 0);
      for (const vector of [0, 1, 2]) world.device.sink?.(2, vector);
      assert.deepEqual(
        events.map((each) => each.drain()),
        [1n, 0n, 1n],
      );
    }));

  test('what happens to INTx does not touch MSI-X', () =>
    withIrqs(async ({ world, set, event }) => {
      const [intx, msix] = [event(), event()];
      await set(lines(0, 0, 1), [intx]);
      await set(lines(2, 0, 1), [msix]);
      assert.equal(await set(request({ index: 0, count: 0 })), 0);
      world.device.sink?.(0, 0);
      world.device.sink?.(2, 0);
      assert.deepEqual([intx.drain(), msix.drain()], [0n, 1n]);
    }));

  test('a new line replaces the old one', () =>
    withIrqs(async ({ world, set, event }) => {
      const [old, young] = [event(), event()];
      await set(lines(0, 0, 1), [old]);
      await set(lines(0, 0, 1), [young]);
      world.device.sink?.(0, 0);
      assert.deepEqual([old.drain(), young.drain()], [0n, 1n]);
    }));

  test('ERR and REQ can be connected and triggered', () =>
    withIrqs(async ({ world, set, event }) => {
      const [err, req] = [event(), event()];
      assert.equal(await set(lines(3, 0, 1), [err]), 0);
      assert.equal(await set(lines(4, 0, 1), [req]), 0);
      world.device.sink?.(3, 0);
      world.device.sink?.(4, 0);
      assert.deepEqual([err.drain(), req.drain()], [1n, 1n]);
    }));

  test('a device that somebody wants back tells its client by REQ', () =>
    withIrqs(async ({ world, set, event }) => {
      assert.equal(world.server.request(), false);
      const req = event();
      await set(lines(4, 0, 1), [req]);
      assert.equal(world.server.request(), true);
      assert.equal(req.drain(), 1n);
    }));

  test('an interrupt that nobody listens to, and one that does not exist, are dropped', () =>
    withIrqs(async ({ client }) => {
      assert.equal(client.session.irqs.raise(2, 0), false);
      assert.equal(client.session.irqs.raise(2, 8), false);
      assert.equal(client.session.irqs.raise(9, 0), false);
    }));

  test('after the client nobody is told, and the device may go on', async () => {
    const world = await World.start();
    const client = await world.client();
    const { sink } = world.device;
    const event = EventFd.create(world.sys, 'irq');
    await client.errno(COMMAND.DEVICE_SET_IRQS, lines(0, 0, 1), [event.fd]);
    await client.close();
    sink?.(0, 0);
    assert.equal(event.drain(), 0n);
    event.close();
    await world.end();
  });

  const REJECTS: readonly (readonly [what: string, payload: Uint8Array, events: number])[] = [
    ['an index beyond', request({ index: 5 }), 0],
    ['index 2^32-1', request({ index: 0xffffffff }), 0],
    ['a start beyond', request({ index: 2, start: 8 }), 0],
    ['a start of 2^32-1', request({ index: 2, start: 0xffffffff }), 0],
    ['a count beyond', request({ index: 2, start: 1, count: 8 }), 0],
    ['start and count that wrap', request({ index: 2, start: 1, count: 0xffffffff }), 0],
    ['no vectors to mask', request({ index: 2, count: 0, action: 'mask' }), 0],
    ['no vectors from 1 on', request({ index: 2, start: 1, count: 0 }), 0],
    ['no vectors with bytes', request({ index: 2, count: 0, data: 'bool' }), 0],
    ['no vectors with descriptors', request({ index: 2, count: 0, data: 'eventfd' }), 0],
    ['a descriptor without need', request({ index: 2 }), 1],
    ['a descriptor with bytes', request({ index: 2, data: 'bool', selected: Uint8Array.of(1) }), 1],
    ['too few descriptors', lines(2, 0, 3), 2],
    ['too many descriptors', lines(2, 0, 1), 2],
    ['a mask of ERR', request({ index: 3, action: 'mask' }), 0],
    ['an unmask of REQ', request({ index: 4, action: 'unmask' }), 0],
    ['two vectors of ERR', request({ index: 3, count: 2 }), 0],
  ];
  for (const [what, payload, events] of REJECTS) {
    test(`refuse ${what} with EINVAL; lines stay as they are`, () =>
      withIrqs(async ({ world, set, event }) => {
        const line = event();
        await set(lines(2, 0, 1), [line]);
        assert.equal(await set(payload, Array.from({ length: events }, event)), 22);
        world.device.sink?.(2, 0);
        assert.equal(line.drain(), 1n);
      }));
  }

  test('refuse a descriptor that is no eventfd', async () => {
    const world = await World.start();
    const client = await world.client();
    const memory = client.memory(1);
    assert.equal(await client.errno(COMMAND.DEVICE_SET_IRQS, lines(0, 0, 1), [memory]), 22);
    memory.close();
    await client.close();
    await world.end();
  });
});
