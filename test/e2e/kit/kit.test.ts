import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { copyModules, vmlinuxOf } from './kernel.js';
import { addressIn, findMirror } from './mirror.js';
import { Missing } from './missing.js';

function folderWith(t: TestContext, files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-kit-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [path, data] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), data);
  }
  return folder;
}

const source = (fields: Readonly<Record<string, string>>): string =>
  Object.entries({
    Types: 'deb',
    URIs: 'http://mirror.example/debian',
    Suites: 'bookworm',
    Components: 'main',
    ...fields,
  })
    .map(([key, value]) => `${key}: ${value}\n`)
    .join('');

describe('the mirror in apt’s files', () => {
  const files: readonly (readonly [what: string, name: string, text: string, address: string | undefined])[] = [
    ['deb822', 'a.sources', source({}), 'http://mirror.example/debian'],
    [
      'several suites and addresses',
      'a.sources',
      source({ Suites: 'x bookworm-updates', URIs: 'http://a http://b' }),
      'http://a',
    ],
    [
      'a comment, and a later paragraph',
      'a.sources',
      `# none\n${source({ Suites: 'jammy' })}\n${source({ URIs: 'http://c' })}`,
      'http://c',
    ],
    [
      'fields that go on in the next line',
      'a.sources',
      source({ Suites: 'x\n trixie' }),
      'http://mirror.example/debian',
    ],
    ['disabled', 'a.sources', source({ Enabled: 'no' }), undefined],
    ['sources of packages', 'a.sources', source({ Types: 'deb-src' }), undefined],
    ['the security archive', 'a.sources', source({ Suites: 'bookworm-security' }), undefined],
    ['another distribution', 'a.sources', source({ Suites: 'noble noble-updates' }), undefined],
    ['one line', 'a.list', 'deb http://d/debian trixie main\n', 'http://d/debian'],
    [
      'one line with options',
      'a.list',
      'deb [arch=amd64 signed-by=/k] http://e/debian sid main contrib\n',
      'http://e/debian',
    ],
    ['commented out', 'a.list', '# deb http://d/debian trixie main\ndeb-src http://d trixie main\n', undefined],
    ['a third party', 'a.list', 'deb https://apt.example/stable cloud main\n', undefined],
    ['nothing', 'a.list', '', undefined],
  ];
  for (const [what, name, text, address] of files) {
    test(what, () => assert.equal(addressIn(name, text), address));
  }

  test('is found with its keys; without one or the other it is missing, and the message says what', (t) => {
    const lists = {
      'etc/apt/sources.list.d/b.list': 'deb http://b/debian sid main',
      'etc/apt/sources.list.d/a.list': 'deb http://x noble main',
    };
    const keys = { 'usr/share/keyrings/debian-archive-keyring.gpg': '' };
    const root = folderWith(t, { ...lists, ...keys });
    assert.deepEqual(findMirror(root), {
      address: 'http://b/debian',
      keyring: join(root, 'usr/share/keyrings/debian-archive-keyring.gpg'),
    });
    assert.throws(() => findMirror(folderWith(t, lists)), { name: 'Missing', message: /debian-archive-keyring/ });
    assert.throws(() => findMirror(folderWith(t, keys)), { name: 'Missing', message: /mirror/ });
    assert.ok(new Missing('x') instanceof Error);
  });
});

describe('a machine that cannot have a QEMU', () => {
  const run = (script: string, env: Readonly<Record<string, string>>, ...args: readonly string[]) =>
    spawnSync(process.execPath, [script, ...args], { encoding: 'utf8', env: { ...env } });
  const main = fileURLToPath(new URL('main.js', import.meta.url));
  const e2e = fileURLToPath(new URL('../../../../.ci/e2e.mjs', import.meta.url));

  test('is told what it lacks, with status 3, and nothing is left', (t) => {
    const folder = folderWith(t, {});
    const { status, stderr } = run(main, { PATH: folder, PINION_QEMU_KIT: join(folder, 'kit') });
    assert.deepEqual(
      [status, stderr],
      [3, 'qemu:setup: this machine lacks the program apt-get: packages come from Debian, through apt\n'],
    );
    assert.deepEqual(readdirSync(folder), []);
  });

  test('fails the end-to-end tests, unless they were asked for if possible: then it says that nothing was tested', (t) => {
    const folder = folderWith(t, {});
    const env = { PATH: folder, PINION_QEMU_KIT: join(folder, 'kit') };
    assert.equal(run(e2e, env).status, 3);
    const { status, stdout } = run(e2e, env, '--if-possible');
    assert.equal(status, 0);
    assert.match(stdout, /SKIPPED.*nothing was tested/);
  });

  test('an unknown argument is refused with the usage', () => {
    for (const [script, usage] of [
      [main, 'npm run qemu:setup'],
      [e2e, 'npm run test:e2e'],
    ] as const) {
      const { status, stderr } = run(script, {}, '--agian');
      assert.equal(status, 2);
      assert.match(stderr, new RegExp(`unknown argument '--agian'\\nusage: ${usage}`));
    }
  });
});

/** A bzImage of one setup sector around a payload. */
function bzImage(payload: Uint8Array): Buffer {
  const setup = Buffer.alloc(1024);
  setup[0x1f1] = 1;
  setup.writeUInt32LE(16, 0x248);
  setup.writeUInt32LE(payload.length + 4, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(16), payload, Buffer.alloc(4)]);
}

const none = { busybox: '/nowhere/busybox', zstd: '/nowhere/zstd' };

describe('a kernel package', () => {
  test('the kernel inside a bzImage', () => {
    const elf = Buffer.concat([Buffer.from('\x7fELF', 'latin1'), Buffer.alloc(100, 7)]);
    assert.deepEqual(vmlinuxOf(bzImage(gzipSync(elf)), none), elf);
  });

  test('a payload that is no ELF, or packed in an unknown way, is none', () => {
    assert.equal(vmlinuxOf(bzImage(gzipSync(Buffer.from('something else'))), none), undefined);
    assert.equal(vmlinuxOf(bzImage(Buffer.from('LZ4?????')), none), undefined);
  });

  test('modules come with what they need; what is built in is not looked for', (t) => {
    const module = (depends: string): string => `\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`;
    const from = folderWith(t, {
      'drivers/nvme.ko': module('nvme-core,built_in'),
      'drivers/nvme-core.ko': module(''),
      'fs/ext4.ko': module(''),
      'crypto/crc32c_generic.ko': module(''),
      'other.ko': module('nvme'),
      'modules.order': '',
    });
    const to = join(folderWith(t, {}), 'modules');
    const modules = copyModules(from, ['nvme', 'ext4', 'not_there'], to, none);
    assert.deepEqual(Object.fromEntries(modules), {
      nvme: { file: 'modules/nvme.ko', needs: ['nvme_core'] },
      nvme_core: { file: 'modules/nvme_core.ko', needs: [] },
      ext4: { file: 'modules/ext4.ko', needs: ['crc32c_generic'] },
      crc32c_generic: { file: 'modules/crc32c_generic.ko', needs: [] },
    });
  });
});
