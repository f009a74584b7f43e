import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { silentLog } from '@pinion/core';
import { checkVersion, createV86Cpu, EMULATOR_VERSION, missingNames, runSelfTest, V86Vm, v86 } from '@pinion/v86';
import { createRegistry, Host } from '@pinion/vm';
import { type FakeCpu, fakeCpus, type Script } from './fake-cpu.js';
import { DEVICES_IMAGE } from './pc.js';

const MAILBOX = 0x18_0000;
const WINDOW = 0xc000_0000;

/** What the program of the self-test does, as a script; `wrong` names what this CPU gets wrong. */
const program =
  (wrong: string): Script =>
  (cpu) => {
    if (wrong !== 'dumb') cpu.print('C');
    cpu.setDword(MAILBOX + (wrong === 'memory' ? 64 : 4), ~cpu.dword(MAILBOX));
    cpu.print('R');
    cpu.setDword(MAILBOX + 8, wrong === 'no device' ? 0xffff_ffff : (cpu.readConfig(1, 0) ?? 0));
    cpu.config(1, 0x10, WINDOW);
    cpu.config(1, 4, wrong === 'no decoding' ? 0 : 6);
    const constant = cpu.options.traps.load(WINDOW, 4) ?? 0xffff_ffff;
    cpu.setDword(MAILBOX + 12, constant);
    if (wrong !== 'no stores') cpu.store(WINDOW + 4, ~constant);
    cpu.print('P');
    cpu.store(WINDOW + 0x10, 1);
    if (wrong === 'no interrupts') return 'halted';
    assert.equal(cpu.lines.get(11), true);
    cpu.options.traps.load(WINDOW + 0x14, 4);
    assert.equal(cpu.lines.get(11), false);
    cpu.print('I');
    return finish(cpu, wrong);
  };

function finish(cpu: FakeCpu, wrong: string) {
  cpu.config(1, 0x44, 0xfee0_0000);
  cpu.config(1, 0x4c, 0x50);
  cpu.config(1, 0x40, 0x0081_0005);
  cpu.store(WINDOW + 0x10, 2);
  if (wrong === 'no messages') return 'halted';
  assert.deepEqual(cpu.messages, [0x50]);
  cpu.print('M');
  if (wrong === 'no end') return 'dead';
  cpu.exit(wrong === 'odd end' ? 7 : 0x55);
  return 'dead';
}

test('the emulator passes', async () => {
  await runSelfTest(createV86Cpu, silentLog);
});

test('a CPU that does everything right passes, and is forgotten', async () => {
  const { createCpu, made } = fakeCpus(program('nothing'));
  await runSelfTest(createCpu, silentLog);
  assert.deepEqual(
    made.map(({ forgotten }) => forgotten),
    [true],
  );
});

const failures: readonly (readonly [wrong: string, message: RegExp])[] = [
  ['dumb', /'the CPU executes': expected true, found false/],
  ['memory', /'memory is where we think': expected 0xa35e54e1, found 0x0/],
  ['no device', /'a PCI device appears': expected 0x5e1f1de5, found 0xffffffff/],
  ['no decoding', /'its registers can be read': expected 0xbadcafe, found 0xffffffff/],
  ['no stores', /'its registers can be written': expected 0xf4523501, found 0x0/],
  ['no interrupts', /'an interrupt arrives by the pin'/],
  ['no messages', /'an interrupt arrives by a message': expected CRPIM, found CRPI/],
  ['no end', /'the guest ends the machine': expected exit 85, found halt/],
  ['odd end', /'the guest ends the machine': expected exit 85, found exit 7/],
];
for (const [wrong, message] of failures) {
  test(`a CPU with this wrong fails by name: ${wrong}`, async () => {
    const { createCpu, made } = fakeCpus(program(wrong));
    await assert.rejects(runSelfTest(createCpu, silentLog), { name: 'V86_SELF_TEST', errno: 'EIO', message });
    assert.equal(made[0]?.forgotten, true);
  });
}

test('a CPU that never comes to an end, or has another size, fails by name', async () => {
  const endless = fakeCpus(() => 'running');
  await assert.rejects(runSelfTest(endless.createCpu, silentLog), { message: /'the CPU executes'/ });
  const small = fakeCpus(() => 'dead');
  const createCpu: typeof small.createCpu = (options) => small.createCpu({ ...options, ramBytes: 4096 });
  await assert.rejects(runSelfTest(createCpu, silentLog), { message: /'memory has its size': expected 0x200000/ });
});

test('a VM is not started on a CPU that fails, and the next start tests again', async (t) => {
  const description = {
    name: 'pc',
    hypervisor: 'v86',
    memory: [{ name: 'ram', at: 0n, size: 4n << 20n }],
    containers: [],
  };
  const host = await Host.create(description, { registry: createRegistry({ hypervisors: [v86] }) });
  t.after(() => host.close());
  let wrong = 'memory';
  const { createCpu, made } = fakeCpus((cpu) => program(wrong)(cpu));
  const start = (): Promise<V86Vm> => V86Vm.start(host, description, { image: DEVICES_IMAGE, createCpu });
  await assert.rejects(start(), { name: 'V86_SELF_TEST' });
  wrong = 'nothing';
  await (await start()).stop();
  await (await start()).stop();
  assert.equal(made.length, 4, 'failed test, good test, and one CPU for each VM');
});

test('names that a module lacks are listed', () => {
  const missing = missingNames([], [{ name: 'memory' }, { name: 'main_loop' }]);
  assert.ok(missing.includes('mmap_read8') && missing.includes('device_raise_irq'));
  assert.ok(!missing.includes('memory') && !missing.includes('main_loop'));
});

test('the version that is installed is the one that package.json pins', () => {
  const manifest: { dependencies: Record<string, string> } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  assert.equal(manifest.dependencies['v86'], EMULATOR_VERSION);
});

test('another version of the emulator is refused, whatever its commit', () => {
  checkVersion(EMULATOR_VERSION);
  checkVersion(`${EMULATOR_VERSION}+g5f9a90f`);
  for (const version of ['0.5.463', '0.5.46', '1.0.0+g5f9a90f', ''])
    assert.throws(() => checkVersion(version), { name: 'V86_WRONG_VERSION', errno: 'EINVAL' });
});
