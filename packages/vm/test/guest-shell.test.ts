import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { GuestShell } from '@pinion/vm';
import { HandClock, streamPair } from './qemu-stream.js';

interface Asked {
  readonly id: string;
  readonly code: string;
}

/** The guest's side: collects `+` lines and hands each `!` to `asked`. */
function guest(asked: (command: Asked, port: Duplex) => void): { shell: GuestShell; clock: HandClock; port: Duplex } {
  const [ours, port] = streamPair();
  let rest = '';
  let code = '';
  port.on('data', (bytes: Buffer) => {
    const lines = (rest + bytes.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      assert.ok(line.length <= 1025, 'a line has room in the terminal of the guest');
      if (line.startsWith('+')) code += line.slice(1);
      else {
        asked({ id: line.slice(1), code: Buffer.from(code, 'base64').toString() }, port);
        code = '';
      }
    }
  });
  const clock = new HandClock();
  return { shell: new GuestShell({ stream: ours, name: 'g', clock }), clock, port };
}

const answer = ({ id }: Asked, port: Duplex, status: number, output: string): void =>
  void port.write(`@done ${id} ${status} ${Buffer.byteLength(output)}\n${output}`);

describe('the shell of a guest', () => {
  test('says when the guest has booted, also to who asks late', async () => {
    const { shell, port } = guest(() => {});
    port.write('@ready 6.12.1 1.75\n');
    assert.deepEqual(await shell.booted(), { kernel: '6.12.1', uptime: 1.75 });
    const next = shell.booted();
    port.write('noise of a boot\r\n@ready 6.12.1 2.5\n');
    assert.deepEqual(await next, { kernel: '6.12.1', uptime: 2.5 });
  });

  test('code of any length and characters arrives whole; its output is bytes', async () => {
    const seen: string[] = [];
    const { shell } = guest((asked, port) => {
      seen.push(asked.code);
      answer(asked, port, 3, '@done 1 2 3\nstill output\n\n');
    });
    const code = `echo 'ü' "$x"\n${'x'.repeat(5000)}`;
    const { status, output, text } = await shell.run(code);
    assert.deepEqual(seen, [code]);
    assert.deepEqual([status, text], [3, '@done 1 2 3\nstill output']);
    assert.equal(output.length, text.length + 2);
  });

  test('an answer in pieces of one byte is the same answer', async () => {
    const { shell } = guest(({ id }, port) => {
      for (const byte of Buffer.from(`@done ${id} 0 3\nabc`)) port.write(Buffer.of(byte));
    });
    assert.equal((await shell.run('true')).text, 'abc');
  });

  test('commands go one after the other, in order', async () => {
    const running: Asked[] = [];
    const { shell, port } = guest((asked) => running.push(asked));
    const both = [shell.run('one'), shell.run('two')];
    await new Promise(setImmediate);
    assert.deepEqual(
      running.map(({ code }) => code),
      ['one'],
    );
    for (let i = 0; i < 2; i += 1) {
      const [asked] = running.slice(-1);
      assert.ok(asked !== undefined);
      answer(asked, port, 0, asked.code);
      await both[i];
      await new Promise(setImmediate);
    }
    assert.deepEqual(
      (await Promise.all(both)).map(({ text }) => text),
      ['one', 'two'],
    );
  });

  test('a command that takes too long is named, and its late answer is not the next one’s', async () => {
    let late: Asked | undefined;
    const { shell, clock, port } = guest((asked, at) => {
      if (late !== undefined) answer(asked, at, 0, 'next');
      else late = asked;
    });
    const slow = shell.run('sleep 1000\nmore', 500);
    await new Promise(setImmediate);
    clock.pass(500);
    await assert.rejects(slow, {
      name: 'VM_QEMU_TIMEOUT',
      message: 'a command of guest g: sleep 1000 took longer than 500 ms',
    });
    assert.ok(late !== undefined);
    answer(late, port, 0, 'late');
    assert.equal((await shell.run('echo next')).text, 'next');
    assert.equal(clock.waiting, 0);
  });

  test('a reboot ends the command that runs', async () => {
    const { shell, port } = guest(() => {});
    const lost = shell.run('reboot -f');
    await new Promise(setImmediate);
    port.write('@ready 6.12.1 1\n');
    await assert.rejects(lost, { name: 'VM_GUEST_REBOOTED', errno: 'ECANCELED' });
  });

  test('when QEMU is gone everything ends with the reason', async () => {
    const { shell } = guest(() => {});
    const running = shell.run('true');
    const boot = shell.booted();
    await new Promise(setImmediate);
    const both = [assert.rejects(running, /gone/), assert.rejects(boot, /gone/)];
    shell.fail(new RangeError('gone'));
    await Promise.all(both);
    await assert.rejects(shell.run('again'), /gone/);
  });
});
