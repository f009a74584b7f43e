import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { QmpClient } from '@pinion/vm';
import { HandClock, streamPair } from './qemu-stream.js';

interface Command {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly id: number;
}

/** QEMU's side: greets, takes every command by `answer`. */
function monitor(answer: (command: Command) => object | undefined): {
  client: QmpClient;
  clock: HandClock;
  qemu: Duplex;
  tell: (message: object) => void;
} {
  const [ours, qemu] = streamPair();
  const tell = (message: object): void => void qemu.write(`${JSON.stringify(message)}\r\n`);
  qemu.on('data', (bytes: Buffer) => {
    for (const line of bytes.toString().trim().split('\n')) {
      const command: Command = JSON.parse(line);
      const reply = answer(command);
      if (reply !== undefined) tell({ ...reply, id: command.id });
    }
  });
  const clock = new HandClock();
  const client = new QmpClient({ stream: ours, clock, limit: 1000 });
  return { client, clock, qemu, tell };
}

const greeted = (rig: ReturnType<typeof monitor>): typeof rig => {
  rig.tell({ QMP: { version: {} } });
  return rig;
};
const obliging = (): object => ({ return: {} });

describe('QMP', () => {
  test('greets, negotiates, and answers commands by their id in any order', async () => {
    const waiting: Command[] = [];
    const rig = greeted(
      monitor((command) => (command.execute === 'qmp_capabilities' ? obliging() : void waiting.push(command))),
    );
    await rig.client.ready;
    const first = rig.client.execute('query-status');
    const second = rig.client.execute('device_del', { id: 'disk' });
    await new Promise(setImmediate);
    const [status, unplug] = waiting;
    assert.deepEqual([status?.execute, status?.arguments], ['query-status', {}]);
    assert.deepEqual(unplug?.arguments, { id: 'disk' });
    rig.tell({ return: { second: true }, id: unplug?.id });
    rig.tell({ return: { first: true }, id: status?.id });
    assert.deepEqual(await Promise.all([first, second]), [{ first: true }, { second: true }]);
    assert.equal(rig.clock.waiting, 0);
  });

  test('an error is thrown in the words of QEMU', async () => {
    const rig = greeted(
      monitor(({ execute }) =>
        execute === 'boo' ? { error: { class: 'CommandNotFound', desc: 'no boo' } } : obliging(),
      ),
    );
    await assert.rejects(rig.client.execute('boo'), {
      name: 'VM_QMP_REFUSED',
      errno: 'EIO',
      message: 'QEMU refused boo: no boo (CommandNotFound)',
    });
  });

  test('an event is kept until it is waited for, is taken once, and may be chosen by its data', async () => {
    const rig = greeted(monitor(obliging));
    await rig.client.ready;
    rig.tell({ event: 'DEVICE_DELETED', data: { device: 'a' } });
    rig.tell({ event: 'DEVICE_DELETED', data: { device: 'b' } });
    rig.tell({ event: 'RESET' });
    await new Promise(setImmediate);
    const b = await rig.client.event('DEVICE_DELETED', { which: ({ device }) => device === 'b' });
    assert.deepEqual(b, { event: 'DEVICE_DELETED', data: { device: 'b' } });
    assert.deepEqual(await rig.client.event('RESET'), { event: 'RESET', data: {} });
    const again = rig.client.event('DEVICE_DELETED', { which: ({ device }) => device === 'b', limit: 10 });
    rig.clock.pass(10);
    await assert.rejects(again, { name: 'VM_QEMU_TIMEOUT', errno: 'ETIMEDOUT' });
    assert.deepEqual((await rig.client.event('DEVICE_DELETED')).data, { device: 'a' });
  });

  test('a command that is not answered ends by time; its late answer is nobody’s', async () => {
    const rig = greeted(monitor(({ execute }) => (execute === 'slow' ? undefined : obliging())));
    await rig.client.ready;
    const slow = rig.client.execute('slow');
    rig.clock.pass(1000);
    await assert.rejects(slow, { name: 'VM_QEMU_TIMEOUT', message: 'QMP command slow took longer than 1000 ms' });
    rig.tell({ return: 'late', id: 2 });
    assert.deepEqual(await rig.client.execute('query-status'), {});
  });

  const endings: readonly (readonly [what: string, act: (rig: ReturnType<typeof monitor>) => void, message: RegExp])[] =
    [
      ['QEMU closes the stream', ({ qemu }) => void qemu.end(), /QEMU closed it/],
      ['what comes is no JSON', ({ qemu }) => void qemu.write('QEMU 11 monitor\n'), /it sent 'QEMU 11 monitor'/],
      ['what comes is no object', ({ qemu }) => void qemu.write('[1]\n'), /it sent '\[1\]'/],
      ['its owner says so', ({ client }) => client.fail(new RangeError('gone')), /gone/],
    ];
  for (const [what, act, message] of endings) {
    test(`everything that waits ends when ${what}`, async () => {
      const rig = greeted(monitor(({ execute }) => (execute === 'qmp_capabilities' ? obliging() : undefined)));
      await rig.client.ready;
      const command = rig.client.execute('x');
      const event = rig.client.event('Y');
      const both = Promise.all([assert.rejects(command, message), assert.rejects(event, message)]);
      act(rig);
      await both;
      await assert.rejects(rig.client.execute('z'), message);
      await assert.rejects(rig.client.event('Z'), message);
      assert.equal(rig.clock.waiting, 0);
    });
  }

  test('a QEMU that does not greet is given up', async () => {
    const { client, clock } = monitor(obliging);
    clock.pass(1000);
    await assert.rejects(client.ready, { name: 'VM_QEMU_TIMEOUT' });
  });
});
