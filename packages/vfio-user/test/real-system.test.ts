// The same over real sockets, memfds and eventfds; skipped where native calls do not run.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { iovaFrame, PROT_RW } from '@pinion/core';
import { createMemfd, FdInbox, linuxSys, UnixSocket } from '@pinion/sys';
import { Client, COMMAND, encodeDmaMap, RemoteDevice, ServerListener, SocketTransport } from '@pinion/vfio-user';
import { World } from './world.js';

const native = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);

describe('on a real system', { skip: !native && 'needs Linux on x64 or arm64' }, () => {
  test('a client in the same process: memory, registers, interrupts, DMA, the end', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pinion-vfio-user-'));
    const path = join(folder, 'device.sock');
    const sys = linuxSys();
    const world = await World.start({ sys });
    const listener = new ServerListener({ sys, server: world.server, on: { path } });
    const client = await Client.connect({
      transport: new SocketTransport(UnixSocket.connect(sys, path)),
      clock: world.clock,
      memory: { read: (_address, bytes) => void bytes.fill(0x77), write: () => {} },
    });
    const ram = createMemfd(sys, 'ram', 0x10_0000n);
    await client.mapDma({ address: 0x10_0000n, size: 0x10_0000n, fd: ram });
    await client.mapDma({ address: 0xf000_0000n, size: 0x1000n });

    const pins = world.device.pins.pin(iovaFrame(0x10_3000n), 2, PROT_RW);
    const [view] = pins.views();
    assert.ok(view);
    view[0x123] = 0x5a;
    const seen = new Uint8Array(1);
    sys.pread(ram.number, seen, 0x3123n);
    assert.equal(seen[0], 0x5a);

    const device = await RemoteDevice.open(client, sys, 'far');
    await device.writeRegion(0, 8, Uint8Array.of(1, 2, 3, 4));
    const raised = new Promise<string>((resolve) => {
      void device.connectIrqs((index, vector) => resolve(`${index}.${vector}`)).then(() => world.device.sink?.(2, 3));
    });
    assert.equal(await raised, '2.3');
    const far = new Uint8Array(16);
    await world.server.session?.dma.read(0xf000_0010n, far);
    assert.ok(far.every((byte) => byte === 0x77));

    await client.unmapDma({ address: 0x10_0000n, size: 0x10_0000n });
    assert.throws(() => pins.views(), { name: 'CORE_PINS_RELEASED' });
    assert.ok(view.length === 0 || view[0x123] === 0, 'a view that somebody kept sees the memory no more');
    device.close();
    ram.close();
    client.close();
    await listener.close();
    rmSync(folder, { recursive: true });
    await world.end();
  });

  test('a client that truncates its memory causes an error and no signal', async () => {
    const sys = linuxSys();
    const world = await World.start({ sys });
    const client = await world.client();
    const memory = client.memory(4, false);
    const remote = new Uint8Array(16);
    const request = encodeDmaMap({ flags: 3, offset: 0n, address: 0n, size: 0x4000n });
    assert.equal(await client.errno(COMMAND.DMA_MAP, request, [memory]), 0);
    world.space.container.dmaRw(0x2000n, remote, true);
    sys.truncate(memory.number, 0n);
    assert.throws(() => world.space.container.dmaRw(0x2000n, remote, false), { errno: 'EFAULT' });
    assert.throws(() => world.device.pins.pin(iovaFrame(0x2000n), 1, PROT_RW), { errno: 'EFAULT' });
    memory.close();
    await client.close();
    await world.end();
  });

  // QEMU 11.1 aborts at a connection that is reset, and only complains of one that ended.
  test('a server that ends while requests wait unread ends the connection, and does not reset it', () => {
    const sys = linuxSys();
    const [near, far] = UnixSocket.pair(sys);
    const transport = new SocketTransport(near);
    transport.send(Uint8Array.of(1, 2, 3));
    const file = createMemfd(sys, 'passed', 4096n);
    for (let n = 0; n < 40; n += 1) far.trySend(new Uint8Array(1000), n % 8 === 0 ? [file] : []);
    transport.close();
    const bytes = new Uint8Array(16);
    const inbox = new FdInbox(1);
    assert.equal(far.tryReceive(bytes, inbox), 3, 'what was said before still comes');
    assert.equal(far.tryReceive(bytes, inbox), 0, 'then the end');
    far.close();
    file.close();
    assert.deepEqual(sys.ledger.labels(), []);
  });

  test('a device that uses views of memory that is gone gets errors that name it, and nothing worse', async () => {
    const child = fileURLToPath(new URL('children/stale-guest-views.js', import.meta.url));
    const done = await new Promise<{ code: number | null; signal: string | null; out: string; errors: string }>(
      (resolve) => {
        const started = spawn(process.execPath, [child], { stdio: ['ignore', 'pipe', 'pipe'] });
        let [out, errors] = ['', ''];
        started.stdout.on('data', (data) => (out += data));
        started.stderr.on('data', (data) => (errors += data));
        started.on('close', (code, signal) => resolve({ code, signal, out, errors }));
      },
    );
    assert.deepEqual([done.code, done.signal], [0, null], done.errors);
    const results: unknown[] = Object.values(JSON.parse(done.out));
    const released =
      'CORE_PINS_RELEASED: device 00000000-0000-4000-8000-000000000001 gave the pages [0x0, 0xffff] back; pin them again before use';
    assert.equal(results.length, 3);
    for (const result of results) {
      const { old, touched, accessors, frames, copy } = Object(result);
      assert.deepEqual(
        { old, touched, accessors },
        { old: false, touched: false, accessors: [released, released, released] },
      );
      assert.match(frames, /^VFIOUSER_UNMAPPED: host frames .*DMA mapping of vm at 0x0 was taken away/);
      assert.match(copy, /^TYPE1_/);
    }
  });
});
