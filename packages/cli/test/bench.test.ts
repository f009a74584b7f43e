import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { inProcess } from './console.js';
import { eventsOf, Folder, Pinion } from './process.js';

const folder = new Folder();
after(() => folder[Symbol.dispose]());
writeFileSync(folder.file('file'), '');

describe('pinion bench', () => {
  test('measures a server, leaves nothing with it, and says what it did', async () => {
    using server = new Pinion(
      ['serve', '--device', 'edu', '--socket-path', 's.sock', '--json', '--log-level', 'debug'],
      {
        folder: folder.path,
      },
    );
    await server.says('"ready"');
    const { code, out, err } = await inProcess(
      ['bench', 's.sock', '--rounds', '50', '--write', '0:0x4', '--json'],
      folder.path,
    );
    assert.deepEqual([code, err], [0, '']);
    const { rounds, microseconds, open } = JSON.parse(out);
    assert.deepEqual([rounds, open], [50, []]);
    assert.deepEqual(
      microseconds.map(({ name }: { name: string }) => name),
      [
        'read 4 bytes',
        'read 4 bytes, 16 at a time',
        'map and unmap a page with its descriptor',
        'the same, 16 at a time',
        'map and unmap a page without descriptor',
        'the same, 16 at a time (no descriptor)',
        'posted write of 4 bytes',
      ],
    );
    assert.ok(microseconds.every(({ median, p99 }: { median: number; p99: number }) => median > 0 && p99 >= median));
    const end = await server.stop();
    const events = eventsOf(end.out);
    const count = (name: string): number => events.filter(({ event }) => event === name).length;
    assert.ok(count('dma:mapped') > 100);
    assert.equal(count('dma:unmapped'), count('dma:mapped'));
    assert.deepEqual([end.code, events.at(-1)?.['ok'], count('log')], [0, true, 0]);
  });

  test('for people: a line for each', async () => {
    using server = new Pinion(['serve', '--device', 'edu', '--socket-path', 't.sock'], { folder: folder.path });
    await server.says('listening');
    const { code, out } = await inProcess(['bench', 't.sock', '--rounds', '50'], folder.path);
    assert.equal(code, 0);
    assert.match(out, /^read 4 bytes +\d+\.\d\d us {3}\(slowest batch \d+\.\d\d\)\n/);
    assert.equal(out.trimEnd().split('\n').length, 6);
    await server.stop();
  });

  const WRONG: readonly (readonly [args: string, code: number, message: RegExp])[] = [
    ['', 2, /missing required argument 'SOCKET'/],
    ['none.sock', 1, /^SYS_CALL_FAILED \(ENOENT\)/],
    ['file', 1, /^SYS_CALL_FAILED \(ECONNREFUSED\)/],
    ['none.sock --rounds 1', 2, /^CLI_BAD_VALUE \(EINVAL\): --rounds wants a whole number from 50/],
    ['none.sock --write 0', 2, /^CLI_BAD_VALUE \(EINVAL\): --write wants REGION:OFFSET such as 0:0x1000, is '0'/],
    ['none.sock --write -1:0', 2, /--write wants/],
  ];
  for (const [args, code, message] of WRONG) {
    test(`refuses: ${args || 'nothing'}`, async () => {
      const end = await inProcess(['bench', ...args.split(' ').filter((word) => word !== '')], folder.path);
      assert.match(end.err, message);
      assert.equal(end.code, code);
    });
  }
});
