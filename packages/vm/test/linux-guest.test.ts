import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { LinuxGuest, type QemuKit } from '@pinion/vm';

/** A program in QEMU's place whose guest boots and answers every command with the words after `say`; it dies at `die`, panics at `panic`. */
const QEMU = `
const { Socket } = require('node:net');
const [qmp, console_, shell] = [3, 4, 5].map((fd) => new Socket({ fd, readable: true, writable: true }));
qmp.write('{"QMP":{}}\\r\\n');
const events = { device_del: 'DEVICE_DELETED' };
qmp.on('data', (bytes) => {
  for (const line of bytes.toString().trim().split('\\n')) {
    const { id, execute, arguments: args } = JSON.parse(line);
    qmp.write(JSON.stringify({ return: {}, id }) + '\\r\\n');
    if (execute === 'device_del') qmp.write(JSON.stringify({ event: 'DEVICE_DELETED', data: { device: args.id } }) + '\\r\\n');
    if (execute === 'quit') process.exit(0);
  }
});
const ready = () => shell.write('@ready 6.12.0 1.5\\n');
if (!process.env.NEVER) ready();
let code = '';
shell.on('data', (bytes) => {
  for (const line of bytes.toString().trim().split('\\n')) {
    if (line.startsWith('+')) { code += line.slice(1); continue; }
    const text = Buffer.from(code, 'base64').toString();
    code = '';
    if (text === 'die') process.exit(7);
    if (text === 'panic') { console_.write('Kernel panic - not syncing: test\\n', () => process.exit(0)); return; }
    const status = text.startsWith('fail') ? 3 : 0;
    shell.write('@done ' + line.slice(1) + ' ' + status + ' ' + text.length + '\\n' + text);
    if (text.includes('reboot -f')) ready();
  }
});
`;

function kitFor(t: TestContext, script: string = QEMU): QemuKit {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-kit-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const qemu = join(folder, 'qemu');
  writeFileSync(qemu, `#!${process.execPath}\n${script}`);
  chmodSync(qemu, 0o755);
  const busybox = join(folder, 'busybox');
  writeFileSync(busybox, '');
  const none = { qemuVersion: '11', kernel: 'vmlinux', kernelVersion: '6.12.0', modules: new Map(), programs: folder };
  return { folder, qemu, busybox, ...none };
}

describe('a Linux guest', () => {
  test('boots, runs commands, reboots, plugs and unplugs, and ends', async (t) => {
    const guest = await LinuxGuest.boot({ kit: kitFor(t), name: 'g' });
    assert.deepEqual(guest.ready, { kernel: '6.12.0', uptime: 1.5 });
    assert.equal(await guest.sh('echo it'), 'echo it');
    assert.deepEqual(await guest.reboot(), { kernel: '6.12.0', uptime: 1.5 });
    await guest.plug({ driver: 'edu', id: 'e' });
    await guest.unplug('e');
    await guest.close();
    await assert.rejects(guest.sh('late'), { name: 'VM_QEMU_FAILED', message: /^QEMU of g ended by exit status 0/ });
  });

  test('a command that fails is an error with its end, unless one asks for the result', async (t) => {
    const guest = await LinuxGuest.boot({ kit: kitFor(t), name: 'g' });
    t.after(() => guest.close());
    const failure = {
      name: 'VM_GUEST_COMMAND',
      errno: 'EIO',
      message: "guest g: 'fail this' ended with status 3:\nfail this\nand that",
    };
    await assert.rejects(guest.sh('fail this\nand that'), failure);
    assert.equal((await guest.run('fail')).status, 3);
  });

  const ends: readonly (readonly [command: string, message: RegExp])[] = [
    ['die', /^QEMU of g ended by exit status 7/],
    ['panic', /^QEMU of g ended by a kernel panic of its guest; the last it said:\nKernel panic - not syncing: test/],
  ];
  for (const [command, message] of ends) {
    test(`the end by '${command}' is told to whoever waits`, async (t) => {
      const guest = await LinuxGuest.boot({ kit: kitFor(t), name: 'g' });
      await assert.rejects(guest.sh(command), { name: 'VM_QEMU_FAILED', message });
      await guest.close();
    });
  }

  test('one that does not come up, or cannot be made, leaves no process and no RAM disk', async (t) => {
    const kit = kitFor(
      t,
      `process.env.NEVER = '1';\nrequire('node:fs').writeFileSync(__dirname + '/pid', String(process.pid));\n${QEMU}`,
    );
    const own = mkdtempSync(join(tmpdir(), 'pinion-own-'));
    const { TMPDIR } = process.env;
    process.env['TMPDIR'] = own;
    t.after(() => {
      if (TMPDIR === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = TMPDIR;
      rmSync(own, { recursive: true });
    });
    await assert.rejects(LinuxGuest.boot({ kit, name: 'g', bootLimit: 1 }), {
      name: 'VM_QEMU_TIMEOUT',
      message: /^the boot of guest g took longer than 1 ms/,
    });
    await assert.rejects(LinuxGuest.boot({ kit, contents: { modules: ['abacus'] } }), { name: 'VM_NO_MODULE' });
    assert.equal(existsSync(join(kit.folder, 'pid')), true);
    assert.deepEqual(readdirSync(own), []);
  });
});
