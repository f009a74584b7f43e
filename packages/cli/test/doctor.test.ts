import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createOutput, examine, type Finding, type Machine } from '@pinion/cli';
import { FakeSys, sysErrors } from '@pinion/sys';
import { Recorded } from './console.js';

const LIMITS = `Limit                     Soft Limit           Hard Limit           Units     
Max open files            1048576              1048576              files     
Max locked memory         unlimited            unlimited            bytes     
`;
const FILES: Readonly<Record<string, string>> = {
  '/proc/self/limits': LIMITS,
  '/proc/sys/vm/max_map_count': '65530\n',
};
const QEMU = '/usr/bin/qemu-system-x86_64';

/** A machine where everything works. */
const good: Machine = {
  platform: 'linux',
  arch: 'x64',
  node: '22.14.0',
  pid: 42,
  environment: { PATH: '/usr/bin', PINION_QEMU_KIT: '/nowhere' },
  sys: () => new FakeSys(),
  readText: (path) => FILES[path],
  canOpen: (path) => path === '/dev/kvm',
  output: async (program, args) => {
    if (program !== QEMU) return undefined;
    return args.includes('help') ? 'name "vfio-user-pci", bus PCI' : 'QEMU emulator version 11.1.3';
  },
};

/** What is found, by the name of the check, and the exit code. */
async function look(
  change: Partial<Machine>,
): Promise<{ code: number; ok: boolean; found: ReadonlyMap<string, Finding> }> {
  const around = new Recorded('/');
  const output = createOutput(around, { json: true, level: 'info' });
  const code = await examine({ ...good, ...change }, { output, around });
  const { ok, checks } = JSON.parse(around.written);
  return { code, ok, found: new Map(checks.map((check: Finding & { name: string }) => [check.name, check])) };
}

const limits = (row: string, value: string) => (path: string) =>
  path === '/proc/self/limits' ? LIMITS.replace(new RegExp(`(${row} +)\\w+`), `$1${value}`) : FILES[path];
const unsupported = (): never => {
  throw sysErrors.UNSUPPORTED({ platform: 'darwin', arch: 'arm64', problem: 'use FakeSys, or run there' });
};

describe('pinion doctor', () => {
  test('finds nothing wrong where nothing is', async () => {
    const { code, ok, found } = await look({});
    const verdicts = [...found].map(([name, { verdict }]) => `${name} ${verdict}`);
    assert.deepEqual(
      verdicts.filter((verdict) => !verdict.endsWith(' ok')),
      ['guest kit warn'],
    );
    assert.deepEqual([code, ok, found.size], [0, true, 13]);
  });

  /** What is different, which check tells, its verdict, what it found, and its advice. */
  const DIFFERENT: readonly (readonly [
    what: string,
    change: Partial<Machine>,
    check: string,
    verdict: string,
    found: RegExp,
    advice: RegExp | undefined,
  ])[] = [
    ['an old Node', { node: '20.18.3' }, 'node', 'fail', /^20\.18\.3$/, /install Node 20\.19/],
    ['a very old Node', { node: '18.20.0' }, 'node', 'fail', /^18/, /install/],
    ['a Node that does not detach', { node: '20.20.2' }, 'node', 'ok', /show zeros here/, undefined],
    [
      'a Mac',
      { platform: 'darwin', arch: 'arm64' },
      'platform',
      'fail',
      /darwin on arm64/,
      /the embedded VM runs everywhere/,
    ],
    ['another processor', { arch: 's390x' }, 'platform', 'fail', /linux on s390x/, /x64 or arm64/],
    ['no native side', { sys: unsupported }, 'native calls', 'fail', /^SYS_UNSUPPORTED \(EOPNOTSUPP\)/, /npm ci/],
    ['no native side', { sys: unsupported }, 'guest memory', 'fail', /^SYS_UNSUPPORTED/, /seccomp/],
    [
      'few descriptors',
      { readText: limits('Max open files', '256') },
      'open files',
      'warn',
      /^256 descriptors$/,
      /ulimit -n/,
    ],
    [
      'no locked memory',
      { readText: limits('Max locked memory', '0') },
      'RLIMIT_MEMLOCK',
      'warn',
      /^0 bytes$/,
      /ulimit -l/,
    ],
    ['no /proc', { readText: () => undefined }, 'open files', 'warn', /^unknown$/, /cannot be read/],
    ['no /proc', { readText: () => undefined }, 'mappings', 'warn', /^unknown$/, /cannot be read/],
    [
      'few mappings',
      { readText: (path) => (path.endsWith('count') ? '1000' : LIMITS) },
      'mappings',
      'warn',
      /^1,000 per process$/,
      /sysctl/,
    ],
    ['no QEMU', { output: async () => undefined }, 'QEMU', 'warn', /^none$/, /qemu:setup/],
    [
      'a QEMU without the device',
      { output: async () => 'version 9.2.0' },
      'QEMU',
      'warn',
      /9\.2\.0.*, without vfio-user-pci$/,
      /qemu:setup/,
    ],
    [
      'a QEMU of before',
      { output: async (_, args) => (args.includes('help') ? 'name "vfio-user-pci"' : 'version 10.1.0') },
      'QEMU',
      'warn',
      /10\.1\.0 with vfio-user-pci$/,
      /share=on/,
    ],
    ['no KVM', { canOpen: () => false }, 'KVM', 'warn', /cannot be opened/, /group kvm/],
    [
      'sockets of systemd',
      { environment: { LISTEN_PID: '42', LISTEN_FDS: '2' } },
      'socket activation',
      'ok',
      /^2 socket/,
      undefined,
    ],
    [
      'noise in LISTEN_FDS',
      { environment: { LISTEN_PID: '42', LISTEN_FDS: 'x' } },
      'socket activation',
      'warn',
      /VFIOUSER_BAD_ACTIVATION/,
      /unset/,
    ],
  ];
  for (const [what, change, check, verdict, text, advice] of DIFFERENT) {
    test(`${what}: ${check} is ${verdict}`, async () => {
      const { code, ok, found } = await look(change);
      const finding = found.get(check);
      assert.equal(finding?.verdict, verdict);
      assert.match(finding.found, text);
      if (advice === undefined) assert.equal(finding.advice, undefined);
      else assert.match(finding.advice ?? '', advice);
      const failed = [...found.values()].some((each) => each.verdict === 'fail');
      assert.deepEqual([code, ok], [failed ? 1 : 0, !failed]);
    });
  }

  test('for people: a line for each, and what to do below it', async () => {
    const around = new Recorded('/', { terminal: true });
    const output = createOutput(around, { json: false, level: 'info' });
    assert.equal(await examine({ ...good, node: '18.0.0' }, { output, around }), 1);
    assert.match(
      around.written,
      /^fail node {22}18\.0\.0\n {30} -> install Node 20\.19 or newer\nok {3}platform {18}linux on x64\n/,
    );
    assert.match(around.complained, /KVM \.\.\./);
  });
});
