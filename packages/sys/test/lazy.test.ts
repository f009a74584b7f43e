/** Importing the package does nothing; elsewhere the first call says so. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { createMemfd, FakeSys, type Host, linuxSys } from '@pinion/sys';
import { refusal } from './systems.js';

const loaded = (): boolean => Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes('koffi'));

test('koffi is loaded by the first call, not by the import and not by the making', () => {
  assert.equal(loaded(), false);
  const sys = linuxSys();
  createMemfd(new FakeSys(), 'x', 1n).close();
  assert.equal(loaded(), false);
  createMemfd(sys, 'x', 1n).close();
  assert.equal(loaded(), true);
});

const load: Host['load'] = () => {
  throw new RangeError('no such file');
};
const elsewhere: readonly Host[] = [
  { platform: 'darwin', arch: 'arm64', load },
  { platform: 'win32', arch: 'x64', load },
  { platform: 'linux', arch: 'ia32', load },
  { platform: 'linux', arch: 'riscv64', load },
];
for (const host of elsewhere) {
  test(`${host.platform} on ${host.arch} is refused at the first call`, () => {
    const sys = linuxSys(host);
    for (const call of [
      () => sys.memfd('x'),
      () => sys.pageSize,
      () => sys.socketPair(),
      () => sys.eventfd(0, false),
    ]) {
      assert.throws(call, refusal('SYS_UNSUPPORTED', 'EOPNOTSUPP'));
      assert.throws(call, new RegExp(`this is ${host.platform} on ${host.arch}`));
    }
  });
}

test('a koffi that does not load is told with its reason', () => {
  const sys = linuxSys({ platform: 'linux', arch: 'arm64', load });
  assert.throws(() => sys.memfd('x'), refusal('SYS_UNSUPPORTED'));
  assert.throws(() => sys.memfd('x'), /koffi does not load \(no such file\)/);
});
