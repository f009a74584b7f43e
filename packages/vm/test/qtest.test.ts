import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { QtestClient } from '@pinion/vm';
import { HandClock, streamPair } from './qemu-stream.js';

interface Rig {
  readonly qtest: QtestClient;
  readonly clock: HandClock;
  readonly qemu: Duplex;
  /** Lines that came. */
  readonly asked: string[];
}

/** QEMU's side: answers each line with what `answer` says, if anything. */
function machine(answer: (line: string) => string | undefined): Rig {
  const [ours, qemu] = streamPair();
  const asked: string[] = [];
  qemu.on('data', (bytes: Buffer) => {
    for (const line of bytes.toString().trim().split('\n')) {
      asked.push(line);
      const reply = answer(line);
      if (reply !== undefined) qemu.write(`${reply}\n`);
    }
  });
  const clock = new HandClock();
  return { qtest: new QtestClient({ stream: ours, clock, limit: 1000 }), clock, qemu, asked };
}

describe('the test protocol', () => {
  test('ports, registers and memory in the words of QEMU', async () => {
    const { qtest, asked } = machine((line) => {
      if (line.startsWith('in')) return 'OK 0x00a5';
      if (line.startsWith('readl')) return 'OK 0xffffffffdeadbeef';
      return line.startsWith('read') ? 'OK 0x0102ff' : 'OK';
    });
    assert.equal(await qtest.readPort(0xcfc, 2), 0xa5);
    assert.equal(await qtest.readRegister(0xe000_0000n, 4), 0xdeadbeef);
    assert.deepEqual([...(await qtest.readMemory(0x1000n, 3))], [1, 2, 255]);
    await qtest.writePort(0xcf8, 4, 0x8000_0000);
    await qtest.writeRegister(0x1_0000_0000n, 1, 7);
    await qtest.writeMemory(0x2000n, Uint8Array.of(0, 0xab));
    await qtest.interceptInterrupts('ioapic');
    assert.deepEqual(asked, [
      'inw 0xcfc',
      'readl 0xe0000000',
      'read 0x1000 0x3',
      'outl 0xcf8 0x80000000',
      'writeb 0x100000000 0x7',
      'write 0x2000 0x2 0x00ab',
      'irq_intercept_in ioapic',
    ]);
  });

  test('answers belong to commands in order, whatever comes between', async () => {
    const { qtest, qemu } = machine(() => undefined);
    const both = [qtest.readPort(1, 1), qtest.readPort(2, 1)];
    await new Promise(setImmediate);
    qemu.write('IRQ raise 20\nOK 0x1\nIRQ low');
    qemu.write('er 20\nOK 0x2\n');
    assert.deepEqual(await Promise.all(both), [1, 2]);
    assert.equal(qtest.raised(20), false);
  });

  test('a line is waited for, and known afterwards', async () => {
    const { qtest, qemu, clock } = machine(() => undefined);
    assert.equal(qtest.raised(20), false);
    const up = qtest.level(20, true);
    qemu.write('IRQ raise 3\nIRQ raise 20\n');
    await up;
    await qtest.level(20, true);
    assert.deepEqual([qtest.raised(3), qtest.raised(20), qtest.raised(4)], [true, true, false]);
    const down = qtest.level(20, false);
    clock.pass(1000);
    await assert.rejects(down, {
      name: 'VM_QEMU_TIMEOUT',
      message: 'interrupt line 20 to be lowered took longer than 1000 ms',
    });
    assert.equal(clock.waiting, 0);
  });

  test('what QEMU refuses, and what it does not answer', async () => {
    const { qtest, clock } = machine((line) => (line.startsWith('irq') ? 'FAIL Unknown device' : undefined));
    await assert.rejects(qtest.interceptInterrupts('abacus'), {
      name: 'VM_QMP_REFUSED',
      errno: 'EIO',
      message: 'QEMU refused irq_intercept_in abacus: Unknown device (FAIL)',
    });
    const slow = qtest.readPort(1, 1);
    clock.pass(1000);
    await assert.rejects(slow, { name: 'VM_QEMU_TIMEOUT', message: /^qtest command inb 0x1 took longer/ });
  });

  test('the end of QEMU ends everything that waits, and all that comes', async () => {
    const { qtest } = machine(() => undefined);
    const waiting = [qtest.readPort(1, 1), qtest.level(5, true)].map((each) => assert.rejects(each, /gone/));
    qtest.fail(new RangeError('gone'));
    await Promise.all(waiting);
    await assert.rejects(qtest.readPort(1, 1), /gone/);
    await assert.rejects(qtest.level(5, true), /gone/);
  });

  test('a stream that QEMU closes is such an end', async () => {
    const { qtest, qemu } = machine(() => undefined);
    const waiting = assert.rejects(qtest.readPort(1, 1), { name: 'VM_QMP_BROKEN' });
    qemu.end();
    await waiting;
  });
});
