/** A whole life of memory and messages, with each call of it failing once. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  createMemfd,
  EventFd,
  FakeSys,
  FaultySys,
  FdInbox,
  linuxSys,
  mapFile,
  openMemory,
  PollSet,
  type Sys,
  SysError,
  UnixSocket,
} from '@pinion/sys';
import { assertNothingOpen, bytesOf, openFds, PAGE, refusal, SYSTEMS } from './systems.js';

/** Opens, sends, maps, waits, and closes whatever happened. */
function life(sys: Sys): void {
  const opened: { close(): void }[] = [];
  const keep = <T extends { close(): void }>(owner: T): T => {
    opened.push(owner);
    return owner;
  };
  const inbox = keep(new FdInbox(4));
  try {
    const [a, b] = UnixSocket.pair(sys);
    keep(a);
    keep(b);
    const sealed = keep(createMemfd(sys, 'sealed', BigInt(PAGE)));
    const free = keep(createMemfd(sys, 'free', BigInt(PAGE), 0));
    const event = keep(EventFd.create(sys, 'event'));
    a.send(bytesOf('fds'), [sealed, free, event.fd]);
    b.tryReceive(new Uint8Array(8), inbox);
    const [one, two, three] = inbox.take().map(keep);
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    EventFd.adopt(three).signal();
    sys.poll(new PollSet([{ fd: event.fd.number, interest: { readable: true } }]), 0);
    sys.watch(event.fd.number, { readable: true }, () => {}).stop();
    event.drain();
    const request = { offset: 0n, length: PAGE, writable: true, label: 'memory' };
    const memory = keep(openMemory({ ...request, fd: one }));
    memory.write(0, bytesOf('x'));
    memory.read(0, new Uint8Array(1));
    const file = keep(openMemory({ ...request, fd: two }));
    file.write(0, bytesOf('x'));
    file.read(0, new Uint8Array(1));
  } finally {
    closeStubbornly(opened);
  }
}

/** Closes all, newest first; what fails is tried again once, as a mapping may be. */
function closeStubbornly(owners: readonly { close(): void }[]): void {
  const failures: unknown[] = [];
  for (const owner of [...owners].reverse()) {
    try {
      owner.close();
    } catch (failure) {
      failures.push(failure);
      owner.close();
    }
  }
  if (failures.length > 0) throw failures[0];
}

describe('every call fails once', () => {
  for (const { name, make } of SYSTEMS) {
    test(`${name}: nothing is left open, whichever call failed`, () => {
      const count = new FaultySys(make());
      life(count);
      const calls = count.calls();
      assert.ok(calls > 30, `${calls} calls`);
      for (let nth = 1; nth <= calls; nth++) {
        const fds = openFds();
        const inner = make();
        const sys = new FaultySys(inner);
        sys.failAny(nth, 'EIO');
        assert.throws(() => life(sys), refusal('SYS_CALL_FAILED', 'EIO'), `call ${nth} did not fail`);
        assert.equal(sys.pending, 0);
        assertNothingOpen(sys);
        assert.equal(openFds(), fds, `fds after the failure of call ${nth}`);
        if (inner instanceof FakeSys) assert.equal(inner.openFds, 0, `fake fds after the failure of call ${nth}`);
      }
    });
  }
});

describe('orders', () => {
  test('the nth call of one operation fails, once', () => {
    const sys = new FaultySys(new FakeSys());
    sys.fail('eventfd', 2, 'EMFILE');
    const first = sys.eventfd(0, false);
    assert.throws(() => sys.eventfd(0, false), refusal('SYS_CALL_FAILED', 'EMFILE'));
    const third = sys.eventfd(0, false);
    assert.deepEqual([sys.calls('eventfd'), sys.calls('memfd'), sys.calls()], [3, 0, 3]);
    sys.close(first);
    sys.close(third);
  });

  test('a close that fails has closed', () => {
    const fake = new FakeSys();
    const sys = new FaultySys(fake);
    const fd = createMemfd(sys, 'x', 1n);
    sys.fail('close', 1, 'EIO');
    assert.throws(() => fd.close(), refusal('SYS_CALL_FAILED', 'EIO'));
    assert.equal(fake.openFds, 0);
    fd.close();
    assertNothingOpen(sys);
  });

  test('an unmap that fails leaves a mapping that works and can be closed', () => {
    const sys = new FaultySys(linuxSys());
    using fd = createMemfd(sys, 'x', BigInt(PAGE));
    const memory = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'x' });
    memory.write(0, bytesOf('k'));
    sys.fail('unmap', 1, 'ENOMEM');
    assert.throws(() => memory.close(), refusal('SYS_CALL_FAILED', 'ENOMEM'));
    assert.equal(memory.bytes(0, 1)[0], 'k'.charCodeAt(0));
    memory.close();
    assert.equal(sys.ledger.count('mapping'), 0);
  });

  test('orders can be taken back, and bad ones are refused', () => {
    const sys = new FaultySys(new FakeSys());
    sys.failAny(1, 'EIO');
    assert.equal(sys.pending, 1);
    sys.clear();
    assert.equal(sys.stat(sys.memfd('x')).size, 0n);
    for (const nth of [0, -1, 1.5]) assert.throws(() => sys.fail('map', nth, 'EIO'), refusal('SYS_BAD_ARGUMENT'));
  });
});

describe('the fake', () => {
  test('a wait for nothing is an error, as nothing can come', () => {
    const sys = new FakeSys();
    const [a, b] = UnixSocket.pair(sys);
    const set = new PollSet([{ fd: a.fd.number, interest: { readable: true } }]);
    assert.throws(() => a.receive(new Uint8Array(1), new FdInbox(0)), refusal('SYS_WOULD_HANG', 'EDEADLK'));
    assert.throws(() => sys.poll(set, -1), refusal('SYS_WOULD_HANG', 'EDEADLK'));
    assert.throws(() => a.send(new Uint8Array(1 << 20)), refusal('SYS_WOULD_HANG', 'EDEADLK'));
    a.close();
    b.close();
  });

  test('it has as many fds as it is told', () => {
    const sys = new FakeSys({ fdLimit: 4 });
    const [a, b] = UnixSocket.pair(sys);
    const event = EventFd.create(sys, 'e');
    const copy = event.fd.duplicate();
    assert.throws(() => event.fd.duplicate(), refusal('SYS_CALL_FAILED', 'EMFILE'));
    assert.throws(() => sys.socketPair(), refusal('SYS_CALL_FAILED', 'EMFILE'));
    copy.close();
    a.send(bytesOf('x'), [event.fd, event.fd]);
    const inbox = new FdInbox(8);
    assert.equal(b.tryReceive(new Uint8Array(4), inbox), 1);
    assert.deepEqual([inbox.truncated, inbox.size, sys.openFds], [true, 0, 3]);
    for (const owner of [a, b, event]) owner.close();
    assert.equal(sys.openFds, 0);
  });

  test('its ioctls are answered by a function', () => {
    const asked: unknown[] = [];
    const sys = new FakeSys({ ioctl: (request, argument) => asked.push([request, argument]) });
    using file = createMemfd(sys, 'vfio', 0n);
    assert.equal(sys.ioctl(file.number, 0x3b64, 7n), 1);
    assert.deepEqual(asked, [[0x3b64, 7n]]);
    const bare = new FakeSys();
    assert.throws(() => bare.ioctl(bare.memfd('x'), 0x3b64, 7n), refusal('SYS_CALL_FAILED', 'ENOTTY'));
  });
});

test('an error is a line for people and a number for the wire', () => {
  const sys = new FakeSys();
  assert.throws(
    () => sys.close(77),
    (error: unknown) =>
      error instanceof SysError &&
      error.code === 9 &&
      `${error}` === 'SYS_CALL_FAILED (EBADF): close(fake) failed with EBADF',
  );
});
