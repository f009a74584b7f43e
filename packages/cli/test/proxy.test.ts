import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { parseRule, seededRandom } from '@pinion/cli';
import { createMemfd, linuxSys, UnixSocket } from '@pinion/sys';
import { FakeClock } from '@pinion/testkit';
import { Client, COMMAND, type FaultRule, SocketTransport } from '@pinion/vfio-user';
import { inProcess } from './console.js';
import { eventsOf, Folder, Pinion } from './process.js';

const CONFIG = 7;
const sys = linuxSys();
const connect = (path: string, clock?: FakeClock): Promise<Client> =>
  Client.connect({
    transport: new SocketTransport(UnixSocket.connect(sys, path)),
    ...(clock === undefined ? {} : { clock }),
  });

const vendorOf = async (client: Client): Promise<string> => {
  const bytes = new Uint8Array(2);
  await client.readRegion(CONFIG, 0n, bytes);
  return Buffer.from(bytes).toString('hex');
};

/** A served device behind a proxy. */
async function withProxy(
  args: readonly string[],
  body: (path: string, proxy: Pinion, folder: Folder) => Promise<void>,
): Promise<void> {
  using folder = new Folder();
  const served = ['serve', '--device', 'edu', '--socket-path', 'back.sock', '--json', '--log-level', 'error'];
  using server = new Pinion(served, { folder: folder.path });
  await server.says('"ready"');
  using proxy = new Pinion(['proxy', ...args, '--json', 'front.sock', 'back.sock'], { folder: folder.path });
  await proxy.says('"listening"');
  await body(folder.file('front.sock'), proxy, folder);
  const end = await proxy.stop();
  const last = eventsOf(end.out).at(-1);
  assert.deepEqual([end.code, end.err, last?.['event'], last?.['open']], [0, '', 'stopped', []]);
  assert.equal(existsSync(folder.file('front.sock')), false);
  assert.equal((await server.stop()).code, 0);
}

/** Milliseconds after which a client gives up. */
const PATIENCE = 5000;

const outcomeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'no error',
    (failure: unknown) => String(failure),
  );

// Most of the time of a test is the start of its processes.
describe('pinion proxy', { concurrency: 4 }, () => {
  test('passes messages and descriptors on and records them, for one client after the other', async () => {
    await withProxy(['--record', 'trace.jsonl'], async (path, proxy, folder) => {
      for (let round = 1; round <= 2; round += 1) {
        const client = await connect(path);
        assert.equal(await vendorOf(client), '3412');
        using ram = createMemfd(sys, 'ram', 4096n);
        await client.mapDma({ address: 0n, size: 4096n, fd: ram });
        client.close();
        await proxy.says(`"disconnected","milliseconds":`);
      }
      await proxy.stop();
      const [head, ...lines] = eventsOf(readFileSync(folder.file('trace.jsonl'), 'utf8'));
      assert.deepEqual(head, { format: 'pinion-vfio-user', version: 1 });
      const told = lines.map(({ connection, direction, command, reply, fds = 0 }) =>
        [connection, direction, command, reply ? 'reply' : 'command', fds].join(' '),
      );
      const round = (client: number): string[] => [
        `${client} to-server VERSION command 0`,
        `${client} to-client VERSION reply 0`,
        `${client} to-server REGION_READ command 0`,
        `${client} to-client REGION_READ reply 0`,
        `${client} to-server DMA_MAP command 1`,
        `${client} to-client DMA_MAP reply 0`,
      ];
      assert.deepEqual(told, [...round(1), ...round(2)]);
      assert.match(String(lines[3]?.['payload']), /3412$/);
    });
  });

  test('breaks what its rules are for, and counts anew for every client', async () => {
    await withProxy(['--rule', 'error=ENODEV,command=REGION_READ,kind=command,nth=2'], async (path, proxy) => {
      for (let round = 0; round < 2; round += 1) {
        const client = await connect(path);
        assert.equal(await vendorOf(client), '3412');
        await assert.rejects(vendorOf(client), { name: 'VFIOUSER_REFUSED', errno: 'ENODEV' });
        assert.equal(await vendorOf(client), '3412');
        client.close();
      }
      await proxy.says('"client":2,"messages"');
      const faults = proxy.events.filter(({ event }) => event === 'fault');
      assert.deepEqual(
        faults.map(({ client, command, fault }) => [client, command, fault]),
        [
          [1, 'REGION_READ', { kind: 'error', errno: 19 }],
          [2, 'REGION_READ', { kind: 'error', errno: 19 }],
        ],
      );
    });
  });

  /** A rule, what the client of it meets, and whether the connection lives on. */
  const BROKEN: readonly (readonly [rule: string, error: RegExp, alive: boolean])[] = [
    ['drop,command=REGION_READ,kind=reply', /VFIOUSER_TIMEOUT/, true],
    ['delay=100000,command=REGION_READ', /VFIOUSER_TIMEOUT/, false],
    ['short=1,command=REGION_READ,kind=reply', /VFIOUSER_BAD/, true],
    ['oversized=8,command=REGION_READ,kind=reply', /VFIOUSER_/, true],
    ['error=EIO,command=REGION_READ,kind=reply', /VFIOUSER_REFUSED/, true],
    ['cut=7,command=REGION_READ,kind=reply', /VFIOUSER_DISCONNECTED/, false],
    ['close,command=REGION_READ', /VFIOUSER_DISCONNECTED/, false],
  ];
  for (const [rule, error, alive] of BROKEN) {
    test(`a real client meets ${rule}`, async () => {
      await withProxy(['--rule', rule], async (path, proxy) => {
        const clock = new FakeClock(); // the client's patience ends when the test says so
        const client = await connect(path, clock);
        const met = outcomeOf(vendorOf(client));
        await proxy.says('"fault"');
        if (error.source.includes('TIMEOUT')) clock.advance(PATIENCE);
        assert.match(await met, error);
        const reset = outcomeOf(client.reset());
        if (!alive) clock.advance(PATIENCE);
        assert.equal((await reset) === 'no error', alive);
        client.close();
      });
    });
  }

  test('ends when its recording cannot be written, and takes its socket away', async () => {
    using folder = new Folder();
    const args = ['proxy', '--record', '/dev/full', 'front.sock', 'back.sock'];
    const { code, err } = await Pinion.run(args, { folder: folder.path });
    assert.deepEqual([code, err], [1, 'CLI_SYSTEM (ENOSPC): write: no space left on device\n']);
    assert.equal(existsSync(folder.file('front.sock')), false);
  });

  test('a client whose server is not there is turned away; the next one finds it', async () => {
    using folder = new Folder();
    using proxy = new Pinion(['proxy', '--json', 'front.sock', 'back.sock'], { folder: folder.path });
    await proxy.says('"listening"');
    await assert.rejects(connect(folder.file('front.sock')), { name: 'VFIOUSER_DISCONNECTED' });
    await proxy.says('its server cannot be reached: SYS_CALL_FAILED (ENOENT)');
    using server = new Pinion(['serve', '--device', 'edu', '--socket-path', 'back.sock'], { folder: folder.path });
    await server.says('listening');
    const client = await connect(folder.file('front.sock'));
    assert.equal(await vendorOf(client), '3412');
    await server.stop('SIGKILL'); // the end of one side is the other's
    await proxy.says('"disconnected"');
    await assert.rejects(vendorOf(client), { name: 'VFIOUSER_DISCONNECTED' });
    client.close();
    assert.equal((await proxy.stop('SIGINT')).code, 0);
  });
});

describe('pinion proxy refuses', () => {
  const folder = new Folder();
  after(() => folder[Symbol.dispose]());
  writeFileSync(folder.file('file'), '');
  const WRONG: readonly (readonly [args: string, code: number, message: RegExp])[] = [
    ['', 2, /^CLI_USAGE \(EINVAL\): missing required argument 'LISTEN'; see 'pinion proxy --help'/],
    ['a.sock', 2, /missing required argument 'UPSTREAM'/],
    ['a b c', 2, /too many arguments/],
    ['a ./a', 2, /^CLI_BAD_PLAN \(EINVAL\): .*would be its own server/],
    ['--seed x a b', 2, /^CLI_BAD_VALUE \(EINVAL\): --seed wants a whole number/],
    ['--seed -1 a b', 2, /^CLI_BAD_VALUE/],
    ['file b', 1, /^CLI_SOCKET_TAKEN/],
    ['none/a b', 1, /^SYS_CALL_FAILED \(ENOENT\)/],
    ['--record none/trace a b', 1, /^CLI_SYSTEM \(ENOENT\): open .*none\/trace: no such file/],
    [
      '--rule spill a b',
      2,
      /^CLI_BAD_RULE \(EINVAL\): --rule spill: there is no fault 'spill'; there is drop, close, delay/,
    ],
    ['--rule constructor a b', 2, /there is no fault 'constructor'/],
    ['--rule drop=1 a b', 2, /drop has no value/],
    ['--rule delay a b', 2, /delay wants a whole number from 0 to 3600000, is ''/],
    ['--rule short=0 a b', 2, /short wants a whole number from 1/],
    ['--rule oversized=999999999 a b', 2, /oversized wants a whole number/],
    ['--rule error=EODD a b', 2, /error wants one of EPERM, .*, or a number, is 'EODD'/],
    ['--rule error=5000 a b', 2, /error wants/],
    ['--rule drop,command=READ a b', 2, /command wants one of VERSION, /],
    ['--rule drop,command=65536 a b', 2, /command wants/],
    ['--rule drop,direction=up a b', 2, /direction wants to-server or to-client, is 'up'/],
    ['--rule drop,kind=event a b', 2, /kind wants command or reply/],
    ['--rule drop,nth=0 a b', 2, /nth wants a whole number from 1/],
    ['--rule drop,nth=2,times=3 a b', 2, /nth stands for skip and times/],
    ['--rule drop,chance=2 a b', 2, /chance wants a number from 0 to 1, is '2'/],
    ['--rule drop,chance= a b', 2, /chance wants/],
    ['--rule drop,skip=1,skip=2 a b', 2, /a key is given twice/],
    ['--rule drop,odd=1,kind=x a b', 2, /there is no odd; there is drop, command, .*; kind wants/],
  ];
  for (const [args, code, message] of WRONG) {
    test(args || 'nothing', async () => {
      const end = await inProcess(['proxy', ...args.split(' ').filter((arg) => arg !== '')], folder.path);
      assert.match(end.err, message);
      assert.deepEqual([end.code, end.out], [code, '']);
    });
  }
});

describe('a rule', () => {
  const READ: readonly (readonly [text: string, rule: FaultRule])[] = [
    ['drop', { fault: { kind: 'drop' } }],
    ['delay=0', { fault: { kind: 'delay', milliseconds: 0 } }],
    ['error=EIO,command=dma_map', { command: COMMAND.DMA_MAP, fault: { kind: 'error', errno: 5 } }],
    ['error=71,command=14', { command: 14, fault: { kind: 'error', errno: 71 } }],
    [
      'close,kind=reply,direction=to-client,nth=3',
      { reply: true, direction: 'to-client', skip: 2, times: 1, fault: { kind: 'close' } },
    ],
    [
      'cut=0,skip=2,times=4,chance=0.25,kind=command',
      { reply: false, skip: 2, times: 4, chance: 0.25, fault: { kind: 'cut', bytes: 0 } },
    ],
  ];
  for (const [text, rule] of READ) test(text, () => assert.deepEqual(parseRule(text), rule));

  test('the dice fall the same for the same seed, and evenly', () => {
    const throws = (seed: number): readonly number[] => {
      const random = seededRandom(seed);
      return Array.from({ length: 1000 }, random);
    };
    assert.deepEqual(throws(7), throws(7));
    assert.notDeepEqual(throws(7), throws(8));
    const low = throws(1).filter((value) => value < 0.5).length;
    assert.ok(low > 450 && low < 550, `${low} of 1000 below one half`);
    assert.ok(throws(3).every((value) => value >= 0 && value < 1));
  });
});
