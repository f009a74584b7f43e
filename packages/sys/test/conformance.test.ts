/** What the real and the fake system have in common: every test here runs on both. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  closeAll,
  createMemfd,
  EventFd,
  Fd,
  FdInbox,
  mapFile,
  openMemory,
  POLL,
  PollSet,
  SEAL,
  sameFile,
  sameMemory,
  UnixListener,
  UnixSocket,
  WOULD_BLOCK,
} from '@pinion/sys';
import { assertNothingOpen, bytesOf, openFds, PAGE, refusal, SYSTEMS, text } from './systems.js';

for (const { name, make } of SYSTEMS) {
  describe(`${name}: files`, () => {
    test('a memfd has its size and seals, and keeps them', () => {
      const sys = make();
      const before = openFds();
      const fd = createMemfd(sys, 'ram', 3n * 4096n);
      assert.equal(fd.stat().size, 12288n);
      assert.equal(fd.stat().kind, 'file');
      assert.equal(sys.seals(fd.number), SEAL.SHRINK | SEAL.GROW | SEAL.SEAL);
      assert.throws(() => sys.truncate(fd.number, 4096n), refusal('SYS_CALL_FAILED', 'EPERM'));
      assert.throws(() => sys.truncate(fd.number, 65536n), refusal('SYS_CALL_FAILED', 'EPERM'));
      assert.throws(() => sys.addSeals(fd.number, SEAL.WRITE), refusal('SYS_CALL_FAILED', 'EPERM'));
      assert.equal(sys.target(fd.number), '/memfd:ram (deleted)');
      fd.close();
      assertNothingOpen(sys);
      assert.equal(openFds(), before);
    });

    test('pread and pwrite reach any offset and stop at the end', () => {
      const sys = make();
      using fd = createMemfd(sys, 'file', 100n, SEAL.GROW);
      assert.equal(sys.pwrite(fd.number, bytesOf('hello'), 90n), 5);
      const into = new Uint8Array(20);
      assert.equal(sys.pread(fd.number, into, 88n), 12);
      assert.equal(text(into.subarray(2, 7)), 'hello');
      assert.equal(sys.pread(fd.number, into, 100n), 0);
      assert.equal(sys.pread(fd.number, into, 1n << 62n), 0);
    });

    test('one open file has many owners, and each closes once', () => {
      const sys = make();
      const fd = createMemfd(sys, 'shared', 4096n);
      const second = fd.duplicate('second');
      assert.ok(sameFile(fd, second));
      fd.close();
      fd.close();
      assert.equal(fd.open, false);
      assert.throws(() => fd.number, refusal('SYS_FD_CLOSED', 'EBADF'));
      assert.throws(() => fd.duplicate(), refusal('SYS_FD_CLOSED', 'EBADF'));
      assert.throws(() => fd.release(), refusal('SYS_FD_CLOSED', 'EBADF'));
      assert.equal(second.stat().size, 4096n);
      const number = second.release();
      assertNothingOpen(sys);
      sys.close(number);
      assert.throws(() => sys.close(number), refusal('SYS_CALL_FAILED', 'EBADF'));
    });

    test('a failed creation leaves nothing open', () => {
      const sys = make();
      const before = openFds();
      assert.throws(() => createMemfd(sys, 'x', 4096n, 0x40), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
      assert.throws(() => createMemfd(sys, 'x', 1n << 63n), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
      assert.throws(() => createMemfd(sys, 'x', -1n), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
      assertNothingOpen(sys);
      assert.equal(openFds(), before);
    });

    test('identity: the same memory, the same open file, and neither', () => {
      const sys = make();
      const files = [createMemfd(sys, 'a', 4096n), createMemfd(sys, 'a', 4096n)] as const;
      const copy = files[0].duplicate();
      const events = [EventFd.create(sys, 'one'), EventFd.create(sys, 'two')] as const;
      assert.ok(sameMemory(files[0], copy));
      assert.ok(!sameMemory(files[0], files[1]));
      assert.ok(!sameMemory(events[0].fd, events[0].fd), 'an eventfd is no memory');
      assert.ok(!sameFile(files[0], files[1]));
      assert.ok(!sameFile(events[0].fd, events[1].fd), 'all eventfds share one inode');
      assert.ok(sameFile(events[0].fd, events[0].fd));
      assert.ok(!sameFile(events[0].fd, copy));
      closeAll([...files, copy, events[0].fd, events[1].fd]);
      assertNothingOpen(sys);
    });
  });

  describe(`${name}: memory`, () => {
    test('two mappings and the file show the same bytes', () => {
      const sys = make();
      const fd = createMemfd(sys, 'ram', BigInt(4 * PAGE));
      const all = mapFile({ fd, offset: 0n, length: 4 * PAGE, writable: true, label: 'all' });
      const part = mapFile({ fd, offset: BigInt(PAGE), length: PAGE, writable: true, label: 'part' });
      const { number } = fd;
      part.bytes(8, 5).set(bytesOf('hello'));
      const got = new Uint8Array(5);
      all.read(PAGE + 8, got);
      assert.equal(text(got), 'hello');
      assert.equal(sys.pread(number, got, BigInt(PAGE + 8)), 5);
      assert.equal(text(got), 'hello');
      fd.close();
      all.write(PAGE + 8, bytesOf('world'));
      part.read(8, got);
      assert.equal(text(got), 'world', 'a mapping does not need its fd');
      all.lock(0, PAGE);
      all.unlock(0, PAGE);
      all.close();
      all.close();
      part.close();
      assertNothingOpen(sys);
    });

    test('windows cut raw views, and read and write cross the cuts', () => {
      const sys = make();
      using fd = createMemfd(sys, 'ram', BigInt(5 * PAGE));
      using ram = mapFile({ fd, offset: 0n, length: 5 * PAGE, writable: true, label: 'ram', windowSize: 2 * PAGE });
      assert.equal(ram.windows, 3);
      assert.deepEqual([ram.window(0).length, ram.window(2).length], [2 * PAGE, PAGE]);
      const data = Uint8Array.from({ length: 3 * PAGE }, (_, i) => i % 251);
      ram.write(PAGE + 1, data);
      const back = new Uint8Array(data.length);
      ram.read(PAGE + 1, back);
      assert.deepEqual(back, data);
      assert.deepEqual(
        ram.pieces(PAGE + 1, data.length).map((piece) => piece.length),
        [PAGE - 1, 2 * PAGE, 1],
      );
      assert.ok(ram.contiguous(0, 2 * PAGE));
      assert.ok(!ram.contiguous(1, 2 * PAGE));
      assert.throws(() => ram.bytes(PAGE, 2 * PAGE), refusal('SYS_SPANS_WINDOWS', 'ERANGE'));
      assert.equal(ram.bytes(5 * PAGE, 0).length, 0);
      assert.equal(ram.window(1), ram.window(1));
    });

    test('after close every access throws an error that names the mapping', () => {
      const sys = make();
      using fd = createMemfd(sys, 'ram', BigInt(PAGE));
      const ram = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'ram of vm 7' });
      ram.close();
      const accesses: readonly (() => unknown)[] = [
        () => ram.bytes(0, 1),
        () => ram.window(0),
        () => ram.pieces(0, 1),
        () => ram.read(0, new Uint8Array(1)),
        () => ram.write(0, new Uint8Array(1)),
        () => ram.lock(),
        () => ram.unlock(),
        () => ram.address,
      ];
      for (const access of accesses) {
        assert.throws(access, refusal('SYS_UNMAPPED', 'EFAULT'));
        assert.throws(access, /ram of vm 7/);
      }
      assert.equal(ram.open, false);
    });

    test('unsealed memory is not mapped but reached all the same', () => {
      const sys = make();
      const fd = createMemfd(sys, 'free', BigInt(2 * PAGE), 0);
      const request = { fd, offset: BigInt(PAGE), length: PAGE, writable: true, label: 'free' };
      assert.throws(() => mapFile(request), refusal('SYS_NOT_SEALED', 'EPERM'));
      const memory = openMemory(request);
      memory.write(10, bytesOf('by pwrite'));
      const got = new Uint8Array(9);
      memory.read(10, got);
      assert.equal(text(got), 'by pwrite');
      assert.equal(sys.pread(fd.number, got, BigInt(PAGE + 10)), 9);
      assert.throws(() => memory.read(PAGE, new Uint8Array(1)), refusal('SYS_OUT_OF_RANGE', 'EFAULT'));
      sys.truncate(fd.number, BigInt(PAGE + 12));
      assert.throws(() => memory.read(10, got), refusal('SYS_SHRUNK', 'EFAULT'));
      memory.close();
      memory.close();
      assert.throws(() => memory.read(0, got), refusal('SYS_UNMAPPED', 'EFAULT'));
      fd.close();
      assertNothingOpen(sys);
    });

    test('memory that was opened for reading takes no write, by either road', () => {
      const sys = make();
      for (const seals of [SEAL.SHRINK, 0]) {
        using fd = createMemfd(sys, 'rom', BigInt(PAGE), seals);
        sys.pwrite(fd.number, bytesOf('rom'), 0n);
        using rom = openMemory({ fd, offset: 0n, length: PAGE, writable: false, label: 'rom' });
        assert.throws(() => rom.write(0, bytesOf('x')), refusal('SYS_READ_ONLY', 'EPERM'));
        const got = new Uint8Array(3);
        rom.read(0, got);
        assert.equal(text(got), 'rom');
      }
      assertNothingOpen(sys);
    });

    test('what cannot be mapped is refused before anything is', () => {
      const sys = make();
      const fd = createMemfd(sys, 'ram', BigInt(2 * PAGE));
      const good = { fd, offset: 0n, length: PAGE, writable: true, label: 'bad request' };
      const [socket, other] = UnixSocket.pair(sys);
      const closed = createMemfd(sys, 'closed', 4096n);
      closed.close();
      const bad: readonly (readonly [why: string, request: Parameters<typeof mapFile>[0], name: string])[] = [
        ['no bytes', { ...good, length: 0 }, 'SYS_BAD_ARGUMENT'],
        ['a negative length', { ...good, length: -4096 }, 'SYS_BAD_ARGUMENT'],
        ['half a byte', { ...good, length: 4096.5 }, 'SYS_BAD_ARGUMENT'],
        ['not a number', { ...good, length: Number.NaN }, 'SYS_BAD_ARGUMENT'],
        ['more than an address space', { ...good, length: 2 ** 60 }, 'SYS_BAD_ARGUMENT'],
        ['a negative offset', { ...good, offset: -4096n }, 'SYS_BAD_ARGUMENT'],
        ['an offset of 2^63', { ...good, offset: 1n << 63n }, 'SYS_BAD_ARGUMENT'],
        ['an offset inside a page', { ...good, offset: 8n }, 'SYS_BAD_ARGUMENT'],
        ['a window of 5 GiB', { ...good, windowSize: 5 * 2 ** 30 }, 'SYS_BAD_ARGUMENT'],
        ['a window of a page and a bit', { ...good, windowSize: PAGE + 8 }, 'SYS_BAD_ARGUMENT'],
        ['one byte past the end', { ...good, length: 2 * PAGE + 1 }, 'SYS_BEYOND_FILE'],
        ['an end past 2^63', { ...good, offset: (1n << 63n) - 4096n }, 'SYS_BEYOND_FILE'],
        ['a socket', { ...good, fd: socket.fd }, 'SYS_NOT_MEMORY'],
        ['a closed fd', { ...good, fd: closed }, 'SYS_FD_CLOSED'],
      ];
      for (const [why, request, error] of bad) assert.throws(() => mapFile(request), refusal(error), why);
      assert.throws(() => openMemory({ ...good, fd: socket.fd }), refusal('SYS_NOT_MEMORY', 'EINVAL'));
      closeAll([fd, socket.fd, other.fd]);
      assertNothingOpen(sys);
    });

    test('a slice outside a mapping is refused', () => {
      const sys = make();
      using fd = createMemfd(sys, 'ram', BigInt(PAGE));
      using ram = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'ram' });
      const slices: readonly (readonly [number, number])[] = [
        [-1, 1],
        [0, PAGE + 1],
        [PAGE, 1],
        [1.5, 1],
        [0, Number.NaN],
        [0, -1],
        [Number.MAX_SAFE_INTEGER, 2],
      ];
      for (const [offset, length] of slices) {
        assert.throws(() => ram.bytes(offset, length), refusal('SYS_OUT_OF_RANGE', 'EFAULT'), `${offset} ${length}`);
      }
      assert.throws(() => ram.write(PAGE - 1, new Uint8Array(2)), refusal('SYS_OUT_OF_RANGE'));
      for (const index of [-1, 1, 0.5]) assert.throws(() => ram.window(index), refusal('SYS_BAD_ARGUMENT'));
      assert.throws(() => ram.lock(0, PAGE + 1), refusal('SYS_BAD_ARGUMENT'));
      assert.throws(() => ram.unlock(PAGE), refusal('SYS_BAD_ARGUMENT'));
    });
  });

  describe(`${name}: sockets`, () => {
    test('bytes and fds go both ways', () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      const file = createMemfd(sys, 'sent', BigInt(PAGE));
      const event = EventFd.create(sys, 'doorbell');
      const inbox = new FdInbox(8);
      const into = new Uint8Array(64);
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        assert.equal(from.trySend(bytesOf('two fds'), [file, event.fd]), 7);
        assert.equal(to.tryReceive(into, inbox), 7);
        assert.equal(text(into.subarray(0, 7)), 'two fds');
        assert.equal(inbox.truncated, false);
        const [one, two, none] = inbox.take();
        assert.ok(one !== undefined && two !== undefined && none === undefined);
        assert.ok(sameFile(one, file));
        assert.ok(sameMemory(one, file));
        const bell = EventFd.adopt(two);
        bell.signal(3n);
        assert.equal(event.drain(), 3n);
        closeAll([one, two]);
      }
      closeAll([file, event.fd, a.fd, b.fd]);
      assertNothingOpen(sys);
    });

    test('fds come with the first byte of their message, behind earlier bytes, never with later ones', () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      const event = EventFd.create(sys, 'e');
      const inbox = new FdInbox(4);
      const into = new Uint8Array(64);
      a.trySend(bytesOf('early '));
      a.trySend(bytesOf('with fd'), [event.fd]);
      a.trySend(bytesOf(' late'));
      assert.equal(b.tryReceive(into, inbox), 13);
      assert.equal(inbox.size, 1);
      assert.equal(b.tryReceive(into, inbox), 5);
      a.trySend(bytesOf('split'), [event.fd]);
      assert.equal(b.tryReceive(into.subarray(0, 1), inbox), 1);
      assert.equal(inbox.size, 2, 'the first byte brings them');
      assert.equal(b.tryReceive(into, inbox), 4);
      assert.equal(inbox.size, 2);
      inbox.close();
      closeAll([event.fd, a.fd, b.fd]);
      assertNothingOpen(sys);
    });

    for (const [limit, sent] of [
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 4],
      [16, 253],
    ] as const) {
      test(`${sent} fds where ${limit} may come are a truncation: all closed, bytes kept`, () => {
        const sys = make();
        const before = openFds();
        const [a, b] = UnixSocket.pair(sys);
        const event = EventFd.create(sys, 'e');
        const inbox = new FdInbox(limit);
        const into = new Uint8Array(8);
        a.trySend(bytesOf('fds'), new Array<Fd>(sent).fill(event.fd));
        assert.equal(b.tryReceive(into, inbox), 3);
        assert.equal(inbox.truncated, true);
        assert.equal(inbox.size, 0);
        a.trySend(bytesOf('next'), new Array<Fd>(limit).fill(event.fd));
        assert.equal(b.tryReceive(into, inbox), 4);
        assert.equal(inbox.truncated, false);
        assert.equal(inbox.size, limit);
        inbox.close();
        closeAll([event.fd, a.fd, b.fd]);
        assertNothingOpen(sys);
        assert.equal(openFds(), before);
      });
    }

    test('nothing to read, no room to write, nobody there any more', () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      const inbox = new FdInbox(0);
      const into = new Uint8Array(65536);
      assert.equal(b.tryReceive(into, inbox), WOULD_BLOCK);
      let sent = 0;
      for (let count = 0; count !== WOULD_BLOCK; count = a.trySend(into)) sent += count;
      assert.ok(sent > 65536);
      let received = 0;
      for (let count = 0; count !== WOULD_BLOCK; count = b.tryReceive(into, inbox)) received += count;
      assert.equal(received, sent);
      a.trySend(bytesOf('bye'));
      a.close();
      assert.equal(b.tryReceive(into, inbox), 3);
      assert.equal(b.tryReceive(into, inbox), 0, 'end');
      assert.throws(() => b.trySend(bytesOf('x')), refusal('SYS_CALL_FAILED', 'EPIPE'));
      b.close();
      assert.throws(() => b.trySend(bytesOf('x')), refusal('SYS_FD_CLOSED', 'EBADF'));
      assert.throws(() => b.tryReceive(into, inbox), refusal('SYS_FD_CLOSED', 'EBADF'));
      assertNothingOpen(sys);
    });

    test('shutdown ends one direction', () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      const inbox = new FdInbox(0);
      a.shutdown('write');
      assert.equal(b.tryReceive(new Uint8Array(1), inbox), 0);
      assert.throws(() => a.trySend(bytesOf('x')), refusal('SYS_CALL_FAILED', 'EPIPE'));
      assert.equal(b.trySend(bytesOf('y')), 1);
      assert.equal(a.tryReceive(new Uint8Array(1), inbox), 1);
      closeAll([a.fd, b.fd]);
    });

    test('fds that nobody received are closed with the socket', () => {
      const sys = make();
      const before = openFds();
      const [a, b] = UnixSocket.pair(sys);
      const event = EventFd.create(sys, 'e');
      a.trySend(bytesOf('x'), [event.fd, a.fd, b.fd]);
      closeAll([event.fd, a.fd, b.fd]);
      assertNothingOpen(sys);
      assert.equal(openFds(), before);
    });

    test('listen, connect, accept', () => {
      const sys = make();
      const folder = mkdtempSync(join(tmpdir(), 'pinion-sys-'));
      const path = join(folder, 's.sock');
      assert.throws(() => UnixSocket.connect(sys, path), refusal('SYS_CALL_FAILED', 'ENOENT'));
      const listener = UnixListener.listen(sys, path);
      assert.throws(() => UnixListener.listen(sys, path), refusal('SYS_CALL_FAILED', 'EADDRINUSE'));
      assert.equal(listener.tryAccept(), undefined);
      const client = UnixSocket.connect(sys, path);
      const server = listener.tryAccept('the client');
      assert.ok(server !== undefined);
      assert.equal(server.fd.label, 'the client');
      assert.equal(client.facts.listening, false);
      assert.equal(client.facts.peerPid, process.pid);
      client.trySend(bytesOf('hi'));
      assert.equal(server.tryReceive(new Uint8Array(8), new FdInbox(0)), 2);
      assert.throws(() => UnixListener.adopt(client.fd), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
      assert.throws(() => UnixSocket.adopt(listener.fd), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
      assert.ok(UnixListener.adopt(listener.fd).tryAccept() === undefined);
      closeAll([client.fd, server.fd, listener.fd]);
      rmSync(folder, { recursive: true });
      assertNothingOpen(sys);
    });

    test('a listener whose queue is full says so at once', () => {
      const sys = make();
      const folder = mkdtempSync(join(tmpdir(), 'pinion-sys-'));
      const listener = UnixListener.listen(sys, join(folder, 's'), 1);
      const clients = [UnixSocket.connect(sys, join(folder, 's')), UnixSocket.connect(sys, join(folder, 's'))];
      assert.throws(() => UnixSocket.connect(sys, join(folder, 's')), refusal('SYS_CALL_FAILED', 'EAGAIN'));
      closeAll([listener.fd, ...clients.map((client) => client.fd)]);
      rmSync(folder, { recursive: true });
      assertNothingOpen(sys);
    });
  });

  describe(`${name}: events`, () => {
    test('an eventfd counts; a semaphore gives one at a time', () => {
      const sys = make();
      using counter = EventFd.create(sys, 'counter', { initial: 2 });
      using semaphore = EventFd.create(sys, 'semaphore', { initial: 2, semaphore: true });
      assert.ok(counter.signal(5n));
      assert.equal(counter.drain(), 7n);
      assert.equal(counter.drain(), 0n);
      assert.deepEqual([semaphore.drain(), semaphore.drain(), semaphore.drain()], [1n, 1n, 0n]);
      assert.ok(counter.signal(0xffff_ffff_ffff_fffen));
      assert.equal(counter.signal(), false, 'full');
      assert.equal(counter.drain(), 0xffff_ffff_ffff_fffen);
    });

    test('only an eventfd is taken for one', () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      using file = createMemfd(sys, 'anon_inode:[eventfd]', 8n);
      for (const fd of [a.fd, file]) assert.throws(() => EventFd.adopt(fd), refusal('SYS_NOT_EVENTFD', 'EINVAL'));
      closeAll([a.fd, b.fd]);
    });

    test('yieldCpu comes back', () => {
      assert.equal(make().yieldCpu(), undefined);
    });

    test('poll tells what is ready', () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      const wake = EventFd.create(sys, 'wake');
      const set = new PollSet([
        { fd: a.fd.number, interest: { readable: true } },
        { fd: wake.fd.number, interest: { readable: true } },
        { fd: b.fd.number, interest: { readable: true, writable: true } },
      ]);
      assert.equal(sys.poll(set, 0), 1);
      assert.deepEqual([set.ready(0), set.ready(1), set.ready(2)], [0, 0, POLL.OUT]);
      wake.signal();
      assert.equal(sys.poll(set, -1), 2);
      assert.equal(set.ready(1), POLL.IN);
      a.close();
      wake.close();
      assert.equal(sys.poll(set, 0), 3);
      assert.equal(set.ready(0), POLL.NVAL);
      assert.equal(set.ready(2) & POLL.HUP, POLL.HUP);
      b.close();
      assertNothingOpen(sys);
    });

    test('a watch calls back while its fd is ready, until it is stopped', async () => {
      const sys = make();
      const [a, b] = UnixSocket.pair(sys);
      let calls = 0;
      await new Promise<void>((resolve) => {
        const watch = sys.watch(b.fd.number, { readable: true }, () => {
          calls += 1;
          if (calls < 3) return; // still ready: called again
          watch.stop();
          watch.stop();
          resolve();
        });
        assert.throws(() => sys.watch(b.fd.number, { readable: true }, () => {}), refusal('SYS_NOT_POLLABLE', 'EPERM'));
        assert.equal(sys.ledger.count('watch'), 1);
        a.trySend(bytesOf('x'));
      });
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      assert.equal(calls, 3);
      const again = sys.watch(b.fd.number, { writable: true }, () => {});
      again.unref();
      again.stop();
      again.unref();
      closeAll([a.fd, b.fd]);
      assertNothingOpen(sys);
    });

    test('what cannot be watched is refused', () => {
      const sys = make();
      using file = createMemfd(sys, 'file', 1n);
      using event = EventFd.create(sys, 'e');
      assert.throws(() => sys.watch(file.number, { readable: true }, () => {}), refusal('SYS_NOT_POLLABLE', 'EPERM'));
      assert.throws(() => sys.watch(event.fd.number, {}, () => {}), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
      assert.throws(() => sys.watch(99_999, { readable: true }, () => {}), refusal('SYS_CALL_FAILED', 'EBADF'));
      assert.equal(sys.ledger.count('watch'), 0);
    });
  });

  describe(`${name}: bad arguments`, () => {
    const into = new Uint8Array(8);
    const arrival = { limit: 0, fds: [], truncated: false };
    const range = { address: 0x1000n, length: PAGE };
    type Bad = readonly [what: string, call: (sys: ReturnType<typeof make>) => unknown, errno: string];
    const bad: readonly Bad[] = [
      ['close of -1', (sys) => sys.close(-1), 'EINVAL'],
      ['close of a fraction', (sys) => sys.close(1.5), 'EINVAL'],
      ['close of 2^31', (sys) => sys.close(2 ** 31), 'EINVAL'],
      ['close of nothing', (sys) => sys.close(88_888), 'EBADF'],
      ['duplicate', (sys) => sys.duplicate(88_888), 'EBADF'],
      ['setNonBlocking', (sys) => sys.setNonBlocking(88_888, true), 'EBADF'],
      ['stat', (sys) => sys.stat(88_888), 'EBADF'],
      ['seals', (sys) => sys.seals(88_888), 'EBADF'],
      ['truncate', (sys) => sys.truncate(88_888, 0n), 'EBADF'],
      ['truncate to a negative size', (sys) => sys.truncate(88_888, -1n), 'EINVAL'],
      ['pread', (sys) => sys.pread(88_888, into, 0n), 'EBADF'],
      ['pread before the file', (sys) => sys.pread(88_888, into, -1n), 'EINVAL'],
      ['pwrite', (sys) => sys.pwrite(88_888, into, 0n), 'EBADF'],
      ['pwrite past 2^63', (sys) => sys.pwrite(88_888, into, 1n << 63n), 'EINVAL'],
      ['a memfd name with NUL', (sys) => sys.memfd('a\0b'), 'EINVAL'],
      ['a memfd name too long', (sys) => sys.memfd('x'.repeat(250)), 'EINVAL'],
      ['map', (sys) => sys.map({ fd: 88_888, offset: 0n, length: PAGE, writable: true }), 'EBADF'],
      ['view of 2 GiB', (sys) => sys.view({ address: 0x1000n, length: 2 ** 31 }, 0, 2 ** 31), 'EINVAL'],
      ['view beyond its range', (sys) => sys.view(range, PAGE, 1), 'EINVAL'],
      ['lock beyond its range', (sys) => sys.lock(range, 0, PAGE + 1), 'EINVAL'],
      ['a socket path of no bytes', (sys) => sys.connect(''), 'EINVAL'],
      ['a socket path of 108 bytes', (sys) => sys.connect('x'.repeat(108)), 'EINVAL'],
      ['a socket path with NUL', (sys) => sys.listen('a\0', 1), 'EINVAL'],
      ['a backlog of 0', (sys) => sys.listen('/tmp/x', 0), 'EINVAL'],
      ['accept', (sys) => sys.accept(88_888, false), 'EBADF'],
      ['shutdown', (sys) => sys.shutdown(88_888, 'both'), 'EBADF'],
      ['socketFacts', (sys) => sys.socketFacts(88_888), 'EBADF'],
      ['send', (sys) => sys.send(88_888, into, [], false), 'EBADF'],
      ['send of nothing', (sys) => sys.send(88_888, new Uint8Array(0), [], false), 'EINVAL'],
      ['send of fd -1', (sys) => sys.send(88_888, into, [-1], false), 'EINVAL'],
      ['send of 254 fds', (sys) => sys.send(88_888, into, new Array<number>(254).fill(0), false), 'EINVAL'],
      ['receive', (sys) => sys.receive(88_888, into, arrival, false), 'EBADF'],
      ['receive into nothing', (sys) => sys.receive(88_888, new Uint8Array(0), arrival, false), 'EINVAL'],
      ['receive of 254 fds', (sys) => sys.receive(88_888, into, { ...arrival, limit: 254 }, false), 'EINVAL'],
      ['an eventfd of -1', (sys) => sys.eventfd(-1, false), 'EINVAL'],
      ['signal', (sys) => sys.signal(88_888, 1n), 'EBADF'],
      ['signal of 0', (sys) => sys.signal(88_888, 0n), 'EINVAL'],
      ['signal of 2^64-1', (sys) => sys.signal(88_888, (1n << 64n) - 1n), 'EINVAL'],
      ['drain', (sys) => sys.drain(88_888), 'EBADF'],
      ['poll for -2', (sys) => sys.poll(new PollSet([{ fd: 0, interest: {} }]), -2), 'EINVAL'],
      ['a poll set of nothing', () => new PollSet([]), 'EINVAL'],
      ['an inbox for 254', () => new FdInbox(254), 'EINVAL'],
      ['ioctl', (sys) => sys.ioctl(88_888, 0x541b, into), 'EBADF'],
      ['ioctl with a buffer that is too small', (sys) => sys.ioctl(0, 0x8010_0000, into), 'EINVAL'],
      ['ioctl with a request of 33 bits', (sys) => sys.ioctl(0, 2 ** 32, into), 'EINVAL'],
      ['an owner of -1', (sys) => new Fd(sys, -1, 'x'), 'EINVAL'],
    ];
    for (const [what, call, errno] of bad) {
      test(what, () => {
        const sys = make();
        const before = openFds();
        assert.throws(() => call(sys), refusal(errno === 'EINVAL' ? 'SYS_BAD_ARGUMENT' : 'SYS_CALL_FAILED', errno));
        assert.equal(openFds(), before);
        assertNothingOpen(sys);
      });
    }
  });
}
