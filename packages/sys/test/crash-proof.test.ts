/** What could kill a process is done in a process of its own, whose end is looked at. Linux only. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly out: string;
  readonly errors: string;
}

/** Runs one of the children; with `fds` under that limit of open files. */
function run(child: string, args: readonly string[] = [], fds?: number): Promise<Ended> {
  const script = fileURLToPath(new URL(`children/${child}.js`, import.meta.url));
  const command = [process.execPath, script, ...args];
  const limited = fds === undefined ? command : ['sh', '-c', `ulimit -n ${fds}; exec "$@"`, 'sh', ...command];
  const [file = '', ...rest] = limited;
  return new Promise((resolve) => {
    const started = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let errors = '';
    started.stdout.on('data', (data) => (out += data));
    started.stderr.on('data', (data) => (errors += data));
    started.on('close', (code, signal) => resolve({ code, signal, out, errors }));
  });
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-sys-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const canDetach = typeof Reflect.get(ArrayBuffer.prototype, 'transfer') === 'function';

test('raw views that outlive their mapping are detached or read zeros, and reach nobody', async () => {
  const { code, out, errors } = await run('stale-views');
  assert.equal(code, 0, errors);
  const { reused, ...result } = JSON.parse(out);
  const open: string[] = [];
  if (canDetach) {
    const used = { first: 'TypeError', lengths: [0, 0, 0, 0], last: null };
    assert.deepEqual(result, { before: 'detached', used, touched: false, lootSum: 0, stolen: 65536, second: 5, open });
    assert.equal(reused, true, 'the place was free again, which is what makes the old views dangerous');
  } else {
    const used = { first: 'done', lengths: [65536, 4096, 16384, 8], last: 0 };
    assert.deepEqual(result, { before: 'zeros', used, touched: false, lootSum: 0, stolen: null, second: 1, open });
    assert.equal(reused, false, 'the place is kept as long as a view leads there');
  }
});

test('a peer who truncates its file causes an error, not a signal', async () => {
  const { code, signal, out, errors } = await inFolder((folder) => run('victim', [join(folder, 's'), 'safe']));
  assert.deepEqual([code, signal], [0, null], errors);
  const wanted = { truncated: 'done,SYS_CALL_FAILED', results: ['SYS_SHRUNK', 'peer'], open: [] };
  assert.deepEqual(JSON.parse(out), wanted);
});

test('without the seal check the same peer does kill', async () => {
  const { signal } = await inFolder((folder) => run('victim', [join(folder, 's'), 'careless']));
  assert.equal(signal, 'SIGBUS');
});

test('fds that find no free number are a truncation, and none stays open', async () => {
  const { code, out, errors } = await run('few-fds', [], 64);
  assert.equal(code, 0, errors);
  assert.deepEqual(JSON.parse(out), {
    refused: 'SYS_CALL_FAILED EMFILE',
    count: 1,
    truncated: true,
    size: 0,
    open: [],
  });
});

test('promises go on after a watch called back, and what it throws is an uncaught exception', async () => {
  const { code, out, errors } = await run('throwing-watch');
  assert.deepEqual([code, out], [3, 'resolved,thrown in a callback'], errors);
});

test('a worker that waits for ever can be woken, and the process exits', async () => {
  const { code, out, errors } = await run('blocked-worker');
  assert.equal(code, 0, errors);
  assert.deepEqual(JSON.parse(out), { exit: 0, open: [] });
});
