import assert from 'node:assert/strict';
import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { linuxSys, UnixSocket } from '@pinion/sys';
import { Client, SocketTransport } from '@pinion/vfio-user';
import { Folder, Pinion } from './process.js';

const CONFIG = 7;

const connect = (path: string): Promise<Client> =>
  Client.connect({ transport: new SocketTransport(UnixSocket.connect(linuxSys(), path)) });

/** Vendor and device, as lspci shows them. */
async function identity(client: Client): Promise<string> {
  const bytes = new Uint8Array(4);
  await client.readRegion(CONFIG, 0n, bytes);
  const view = new DataView(bytes.buffer);
  return [view.getUint16(0, true), view.getUint16(2, true)].map((id) => id.toString(16).padStart(4, '0')).join(':');
}

describe('pinion serve', () => {
  test('serves a device until SIGTERM, and leaves neither socket nor anything else', async () => {
    using folder = new Folder();
    writeFileSync(folder.file('disk.img'), '');
    truncateSync(folder.file('disk.img'), 1 << 20);
    const args = ['serve', '--device', 'nvme', '--image', 'disk.img', '--socket-path', 's.sock'];
    const pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('nvme: listening on');
    const client = await connect(folder.file('s.sock'));
    assert.equal(await identity(client), '1234:11f5');
    client.close();
    const { code, out, err } = await pinion.stop();
    assert.match(out, /stopped: 0 mappings, 0 pins, 0 locked pages, 0 descriptors left\n$/);
    assert.deepEqual([code, err, existsSync(folder.file('s.sock'))], [0, '', false]);
  });
});
