// The `pinion` command with a real QEMU: devices served by one process, one of them behind the proxy, guests that come and go.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { LinuxGuest, vfioUserDevice } from '@pinion/vm';
import { ROOT } from '../source-code.js';
import { makeImage, roundTrip } from './disk-checks.js';
import { temporaryFolder } from './disks.js';
import { timed } from './stopwatch.js';

type Event = Readonly<Record<string, unknown>>;

/** The command in a process of its own, with `--json`. */
class Command {
  readonly events: Event[] = [];
  /** Its exit code. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #heard: () => void = () => {};

  constructor(t: TestContext, folder: string, args: readonly string[]) {
    const main = join(ROOT, 'packages', 'cli', 'bin', 'pinion.js');
    const child = spawn(process.execPath, [main, ...args, '--json'], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child = child;
    this.ended = new Promise((resolve) => child.on('close', (code) => resolve(code)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.events.push(JSON.parse(line));
      this.#heard();
    });
    t.after(() => child.kill('SIGKILL'));
  }

  /** Settles when the `count`-th event of that name is there. */
  async says(event: string, count = 1): Promise<void> {
    while (this.events.filter((each) => each['event'] === event).length < count) {
      const more = new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
      const ended = await Promise.race([more, this.ended]);
      assert.equal(ended, undefined, `it ended before it said '${event}'`);
    }
  }

  /** SIGTERM. @returns its exit code. */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    return this.ended;
  }
}

const MODULES = ['nvme', 'gpio_pci_idio_16'];

test('pinion serve and pinion proxy between a QEMU and its devices', async (t) => {
  const folder = temporaryFolder(t);
  const image = join(folder, 'disk.img');
  makeImage(image);
  const serve = new Command(t, folder, [
    'serve',
    '--device',
    'nvme,image=disk.img,socket=back.sock',
    '--device',
    'gpio-idio-16,socket=io.sock',
  ]);
  await serve.says('ready');
  const proxy = new Command(t, folder, ['proxy', '--record', 'trace.jsonl', 'disk.sock', 'back.sock']);
  await proxy.says('listening');
  const devices = ['disk', 'io'].map((name) => vfioUserDevice(join(folder, `${name}.sock`), { id: name }));
  const boot = (): Promise<LinuxGuest> =>
    LinuxGuest.boot({
      name: 'command',
      contents: { modules: MODULES, programs: true },
      machine: { memory: 384, devices },
    });

  const first = await timed(t, 'boot', boot);
  t.after(() => first.kill());
  await timed(t, '64 MiB through the proxy', () => roundTrip(first, '/dev/nvme0n1', image));
  await first.sh(
    '(while :; do dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=8 seek=140 oflag=direct; done) >/dev/null 2>&1 &',
  );
  await first.kill();
  await serve.says('disconnected', 2);
  await proxy.says('disconnected');

  const second = await timed(t, 'boot of the next guest', boot);
  t.after(() => second.kill());
  assert.match(
    await second.sh('lspci -k 2>/dev/null'),
    /Kernel driver in use: nvme[\s\S]*Kernel driver in use: pci-idio-16/,
  );
  await second.close();
  await serve.says('disconnected', 4);

  assert.deepEqual([await proxy.stop(), await serve.stop()], [0, 0]);
  const left = { mappings: 0, pins: 0, lockedPages: 0, open: [] };
  assert.deepEqual([serve.events.at(-1)?.['left'], proxy.events.at(-1)?.['open']], [left, []]);
  assert.deepEqual(
    serve.events.filter(({ event }) => event === 'log'),
    [],
  );
  const [head, ...messages] = readFileSync(join(folder, 'trace.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line): Event => JSON.parse(line));
  assert.deepEqual(head, { format: 'pinion-vfio-user', version: 1 });
  assert.deepEqual(new Set(messages.map(({ connection }) => connection)), new Set([1, 2]));
  assert.ok(messages.some(({ command, fds }) => command === 'DMA_MAP' && fds === 1));
  t.diagnostic(`${messages.length} messages recorded`);
});

test('pinion run with a real QEMU', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(
    join(folder, 'vm.yaml'),
    `name: demo
hypervisor: qemu
memory: [{ name: ram, at: 0, size: 256M }]
parents: [{ name: shelf, driver: nvme, size: 4M }]
containers:
  - name: vm
    iommu: type1v2
    devices: [{ name: disk, driver: nvme, type: disk, parent: shelf, uuid: 5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a01 }]
`,
  );
  writeFileSync(join(folder, 'guest.sh'), 'cat /sys/block/nvme0n1/size');
  const run = new Command(t, folder, ['run', 'vm.yaml', '--module', 'nvme', '--program', 'guest.sh']);
  await run.says('ended');
  assert.deepEqual(
    run.events.map(({ event, text, ok }) => [event, text ?? ok]),
    [
      ['started', undefined],
      ['printed', '8192'],
      ['program-ended', undefined],
      ['ended', true],
    ],
  );
  assert.equal(await run.ended, 0);
});
