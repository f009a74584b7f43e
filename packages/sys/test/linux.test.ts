/** What only the real system shows. Linux only. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  closeAll,
  createMemfd,
  EventFd,
  Fd,
  FdInbox,
  FILESYSTEM,
  type FileFacts,
  FileWindow,
  linuxSys,
  MAX_VIEW,
  mapFile,
  openFile,
  openMemory,
  SEAL,
  type Sys,
  SysError,
  sameFile,
  UnixSocket,
  WOULD_BLOCK,
} from '@pinion/sys';
import fc from 'fast-check';
import { assertNothingOpen, bytesOf, openFds, PAGE, refusal } from './systems.js';

/** Whether an address lies in a mapped area. */
const isMapped = (address: bigint): boolean =>
  [...readFileSync('/proc/self/maps', 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) /gm)].some(
    ([, first, end]) => BigInt(`0x${first}`) <= address && address < BigInt(`0x${end}`),
  );
const areas = (): number => readFileSync('/proc/self/maps', 'utf8').split('\n').length;

describe('mappings', () => {
  test('more mappings come and go than the kernel has room for', () => {
    const sys = linuxSys();
    const fds = openFds();
    const fd = createMemfd(sys, 'ram', BigInt(PAGE));
    const before = areas();
    for (let i = 0; i < 66_000; i++) {
      const mapping = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'one of many' });
      if (i % 8 === 0) mapping.window(0)[0] = i;
      mapping.close();
    }
    assert.ok(areas() - before < 1000, `${areas()} areas, ${before} before`);
    fd.close();
    assertNothingOpen(sys);
    assert.equal(openFds(), fds);
  });

  test('the address range of a closed mapping is free when no view leads there any more', async () => {
    const sys = linuxSys();
    using fd = createMemfd(sys, 'ram', BigInt(PAGE));
    const useOnce = (): bigint => {
      using ram = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'ram' });
      ram.window(0)[0] = 1;
      return ram.address;
    };
    const address = useOnce();
    await collectUntil(() => !isMapped(address));
    assert.equal(isMapped(address), false);
  });

  test('bytes go from memory to memory by socket and by pread without a stop', () => {
    const sys = linuxSys();
    using fd = createMemfd(sys, 'ram', BigInt(2 * PAGE));
    using ram = mapFile({ fd, offset: 0n, length: 2 * PAGE, writable: true, label: 'ram' });
    const [a, b] = UnixSocket.pair(sys);
    ram.write(100, bytesOf('by socket'));
    a.send(ram.bytes(100, 9), [fd]);
    const inbox = new FdInbox(1);
    assert.equal(b.receive(ram.bytes(PAGE + 3, 9), inbox), 9);
    assert.deepEqual(ram.bytes(PAGE + 3, 9), bytesOf('by socket'));
    assert.equal(sys.pread(fd.number, ram.bytes(0, 2), 103n), 2);
    assert.deepEqual(ram.bytes(0, 2), bytesOf('so'));
    inbox.close();
    closeAll([a.fd, b.fd]);
  });

  test('more than 1 GiB is cut into windows, whatever the engine can hold', () => {
    const sys = linuxSys();
    const length = 5 * MAX_VIEW + PAGE;
    using fd = createMemfd(sys, 'ram', BigInt(length));
    using ram = mapFile({ fd, offset: 0n, length, writable: true, label: 'ram' });
    assert.equal(ram.windows, 6);
    ram.write(4 * MAX_VIEW - 3, bytesOf('across'));
    assert.equal(ram.window(4)[2], 's'.charCodeAt(0));
    const got = new Uint8Array(6);
    assert.equal(sys.pread(fd.number, got, BigInt(4 * MAX_VIEW - 3)), 6);
    assert.deepEqual(got, bytesOf('across'));
    assert.equal(ram.window(5).length, PAGE);
  });

  test('a stray store into memory that was mapped for reading reaches nobody and kills nobody', () => {
    const sys = linuxSys();
    using fd = createMemfd(sys, 'rom', BigInt(PAGE));
    sys.pwrite(fd.number, bytesOf('rom'), 0n);
    using rom = mapFile({ fd, offset: 0n, length: PAGE, writable: false, label: 'rom' });
    rom.bytes(0, 3).set(bytesOf('ram'));
    const got = new Uint8Array(3);
    sys.pread(fd.number, got, 0n);
    assert.deepEqual(got, bytesOf('rom'));
  });

  test('a file sealed against writing is mapped for reading only', () => {
    const sys = linuxSys();
    using fd = createMemfd(sys, 'rom', BigInt(PAGE), SEAL.SHRINK | SEAL.WRITE);
    const request = { fd, offset: 0n, length: PAGE, label: 'rom' };
    assert.throws(() => mapFile({ ...request, writable: true }), refusal('SYS_CALL_FAILED', 'EPERM'));
    mapFile({ ...request, writable: false }).close();
    assertNothingOpenBut(sys, ['memfd rom']);
  });

  test('the memory of a process is reached as a file, and nothing else that has no size', () => {
    const sys = linuxSys();
    using fd = createMemfd(sys, 'x', BigInt(PAGE));
    const mapping = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'x' });
    mapping.write(100, Uint8Array.of(1, 2, 3));
    using memory = new Fd(sys, openSync('/proc/self/mem', 'r+'), 'memory');
    const request = { fd: memory, offset: mapping.address, length: PAGE, writable: true, label: 'far' };
    const far = openFile(request);
    const bytes = new Uint8Array(3);
    far.read(100, bytes);
    far.write(200, Uint8Array.of(9));
    assert.deepEqual([[...bytes], mapping.bytes(200, 1)[0]], [[1, 2, 3], 9]);
    assert.throws(() => openMemory(request), refusal('SYS_BEYOND_FILE', 'EINVAL'));
    mapping.close();
    far.close();
    const nowhere = openFile({ ...request, offset: 0n });
    assert.throws(() => nowhere.read(0, bytes), refusal('SYS_CALL_FAILED', 'EIO'));
    nowhere.close();
    for (const path of ['/proc/self/status', '/proc/self/maps', '/proc/version']) {
      using other = new Fd(sys, openSync(path, 'r'), path);
      const wrong = { fd: other, offset: 0n, length: 1, writable: false, label: path };
      assert.throws(() => openFile(wrong), refusal('SYS_BEYOND_FILE', 'EINVAL'));
    }
    const plain = openFile({ fd, offset: 0n, length: PAGE, writable: false, label: 'sealed' });
    plain.read(200, bytes);
    assert.deepEqual([bytes[0], plain instanceof FileWindow], [9, true]);
    plain.close();
    assert.throws(
      () => openFile({ fd, offset: 1n, length: PAGE, writable: false, label: 'x' }),
      refusal('SYS_BEYOND_FILE'),
    );
  });

  test('huge pages are mapped only on trust', () => {
    const real = linuxSys();
    using fd = createMemfd(real, 'x', BigInt(PAGE));
    // A file of a mount that is not the kernel's own for memfds.
    const stat = (number: number): FileFacts => ({ ...real.stat(number), device: BigInt(number) });
    const sys: Sys = { ...real, stat, filesystem: () => FILESYSTEM.HUGETLBFS };
    using lent = new Fd(sys, sys.duplicate(fd.number), 'lent');
    const request = { fd: lent, offset: 0n, length: PAGE, writable: true, label: 'x' };
    for (const open of [mapFile, openMemory]) {
      assert.throws(() => open(request), refusal('SYS_NOT_MEMORY', 'EINVAL'));
      assert.throws(() => open(request), /huge pages/);
      open({ ...request, hugePages: 'trust' }).close();
    }
    assertNothingOpenBut(real, ['memfd x', 'lent']);
  });

  test('a file that cannot be sealed is reached by pread, unless its file system could make us wait', () => {
    const real = linuxSys();
    const folder = mkdtempSync(join(tmpdir(), 'pinion-sys-'));
    writeFileSync(join(folder, 'disk'), 'on disk');
    const number = openSync(join(folder, 'disk'), 'r+');
    // Wherever the folder lies: these are what a file of a disk answers, and what it must not be asked.
    const noSeals = (): never => {
      throw new SysError('SYS_CALL_FAILED', 'EINVAL', 'fcntl');
    };
    const onType = (mountType: Sys['mountType']): Sys => ({ ...real, seals: noSeals, filesystem: noSeals, mountType });
    const openOn = (sys: Sys) => {
      using lent = new Fd(sys, sys.duplicate(number), 'lent');
      return openMemory({ fd: lent, offset: 0n, length: 7, writable: true, label: 'disk' });
    };
    const disk = openOn(onType(() => 'ext4'));
    const got = new Uint8Array(7);
    disk.read(0, got);
    assert.deepEqual(got, bytesOf('on disk'));
    disk.close();
    for (const type of ['fuse', 'fuseblk', 'fuse.sshfs', undefined]) {
      assert.throws(() => openOn(onType(() => type)), refusal('SYS_NOT_MEMORY', 'EINVAL'), type);
    }
    assert.match(real.mountType(number) ?? '', /^\w+/);
    assert.throws(() => real.mountType(88_888), refusal('SYS_CALL_FAILED', 'EBADF'));
    assert.throws(() => real.target(88_888), refusal('SYS_CALL_FAILED', 'EBADF'));
    closeSync(number);
    rmSync(folder, { recursive: true });
    assertNothingOpen(real);
  });

  test('a view that somebody detached does not trouble the mapping', { skip: !hasTransfer() }, () => {
    const sys = linuxSys();
    using fd = createMemfd(sys, 'ram', BigInt(PAGE));
    const ram = mapFile({ fd, offset: 0n, length: PAGE, writable: true, label: 'ram' });
    structuredTransfer(ram.window(0));
    ram.write(0, bytesOf('ok'));
    const got = new Uint8Array(2);
    ram.read(0, got);
    assert.deepEqual(got, bytesOf('ok'));
    ram.close();
  });

  test('property: what is written at any place is read back, and nothing beside it changes', () => {
    const sys = linuxSys();
    const length = 8 * PAGE;
    using fd = createMemfd(sys, 'ram', BigInt(length));
    using ram = mapFile({ fd, offset: 0n, length, writable: true, label: 'ram', windowSize: PAGE });
    const model = new Uint8Array(length);
    const store = fc.record({ offset: fc.nat(length), data: fc.uint8Array({ maxLength: 3 * PAGE }) });
    fc.assert(
      fc.property(store, ({ offset, data }) => {
        const fitting = data.subarray(0, length - offset);
        ram.write(offset, fitting);
        model.set(fitting, offset);
        const all = new Uint8Array(length);
        ram.read(0, all);
        assert.deepEqual(all, model);
      }),
      { numRuns: 50 },
    );
  });
});

describe('sockets', () => {
  test('property: any bytes arrive in order, however they are cut, with their fds', () => {
    const sys = linuxSys();
    using event = EventFd.create(sys, 'event');
    const message = fc.record({ data: fc.uint8Array({ minLength: 1, maxLength: 300 }), fds: fc.nat(3) });
    const cut = fc.integer({ min: 1, max: 200 });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), cut, (messages, room) => {
        const [a, b] = UnixSocket.pair(sys);
        for (const { data, fds } of messages) a.send(data, new Array<Fd>(fds).fill(event.fd));
        const inbox = new FdInbox(3);
        const buffer = new Uint8Array(1000);
        const got: number[] = [];
        for (;;) {
          const into = buffer.subarray(7, 7 + room);
          const count = b.tryReceive(into, inbox);
          if (count === WOULD_BLOCK) break;
          assert.equal(inbox.truncated, false);
          got.push(...into.subarray(0, count));
        }
        assert.deepEqual(
          got,
          messages.flatMap(({ data }) => [...data]),
        );
        assert.equal(
          inbox.size,
          messages.reduce((sum, { fds }) => sum + fds, 0),
        );
        inbox.close();
        closeAll([a.fd, b.fd]);
      }),
      { numRuns: 60 },
    );
    assertNothingOpenBut(sys, ['event']);
  });

  test('a receive interrupted by nothing else takes all that fits; a waiting send fills a slow reader', () => {
    const sys = linuxSys();
    const [a, b] = UnixSocket.pair(sys);
    sys.setNonBlocking(a.fd.number, true);
    const big = new Uint8Array(4 << 20);
    assert.throws(() => a.send(big), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
    assert.throws(() => a.receive(new Uint8Array(1), new FdInbox(0)), refusal('SYS_BAD_ARGUMENT', 'EINVAL'));
    closeAll([a.fd, b.fd]);
    assertNothingOpen(sys);
  });

  test('received fds are closed when a program is started', () => {
    const sys = linuxSys();
    const [a, b] = UnixSocket.pair(sys);
    const inbox = new FdInbox(1);
    a.send(bytesOf('x'), [a.fd]);
    b.receive(new Uint8Array(1), inbox);
    const [fd] = inbox.take();
    assert.ok(fd !== undefined);
    const O_CLOEXEC = 0o2000000;
    for (const { number } of [fd, a.fd]) {
      const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${number}`, 'utf8'))?.[1] ?? '0';
      assert.notEqual(Number.parseInt(flags, 8) & O_CLOEXEC, 0);
    }
    closeAll([fd, a.fd, b.fd]);
  });
});

describe('the odd ones', () => {
  test('ioctl writes into its buffer and answers numbers', () => {
    const sys = linuxSys();
    const [a, b] = UnixSocket.pair(sys);
    const FIONREAD = 0x541b;
    const waiting = new Uint8Array(4);
    a.send(bytesOf('12345'));
    assert.equal(sys.ioctl(b.fd.number, FIONREAD, waiting), 0);
    assert.deepEqual([...waiting], [5, 0, 0, 0]);
    assert.throws(() => sys.ioctl(b.fd.number, 0x3b64, 0n), refusal('SYS_CALL_FAILED', 'ENOTTY'));
    closeAll([a.fd, b.fd]);
  });

  test('identity without kcmp: by inode, eventfds by their number', () => {
    const real = linuxSys();
    const sys: Sys = { ...real, compareFiles: () => undefined };
    const files = [createMemfd(sys, 'a', 1n), createMemfd(sys, 'b', 1n)] as const;
    const events = [EventFd.create(sys, 'c').fd, EventFd.create(sys, 'd').fd] as const;
    const copies = [files[0].duplicate(), events[0].duplicate()] as const;
    assert.ok(sameFile(files[0], copies[0]));
    assert.ok(!sameFile(files[0], files[1]));
    assert.ok(sameFile(events[0], copies[1]));
    assert.ok(!sameFile(events[0], events[1]));
    assert.ok(!sameFile(files[0], events[0]));
    const odd: Sys = { ...sys, target: () => 'anon_inode:[timerfd]' };
    const both = [new Fd(odd, files[0].release(), 'odd'), new Fd(odd, copies[0].release(), 'odd too')] as const;
    assert.throws(() => sameFile(both[0], both[1]), refusal('SYS_NO_IDENTITY', 'EOPNOTSUPP'));
    closeAll([...both, files[1], ...events, copies[1]]);
    assertNothingOpen(real);
  });

  test('a failed adoption leaves the fd with the caller', () => {
    const sys = linuxSys();
    const [a, b] = UnixSocket.pair(sys);
    using listener = createMemfd(sys, 'no socket', 1n);
    assert.throws(() => EventFd.adopt(a.fd), refusal('SYS_NOT_EVENTFD'));
    assert.throws(() => UnixSocket.adopt(listener), refusal('SYS_CALL_FAILED', 'ENOTSOCK'));
    assert.equal(UnixSocket.adopt(a.fd).trySend(bytesOf('still open')), 10);
    closeAll([a.fd, b.fd]);
  });

  test('a forgotten owner is reported by name, and its fd is left alone', async () => {
    const sys = linuxSys();
    const number = sys.eventfd(0, false);
    const reports: string[] = [];
    sys.ledger.onForgotten((kind, label) => reports.push(`${kind} ${label}`));
    const forget = (): Fd => new Fd(sys, number, 'the forgotten one');
    forget();
    await collectUntil(() => reports.length > 0);
    assert.deepEqual(reports, ['fd the forgotten one']);
    assert.deepEqual(sys.ledger.labels(), ['the forgotten one']);
    assert.equal(sys.drain(number), 0n);
    sys.close(number);
  });
});

/** Collects garbage, turn by turn, until something has happened; gives up after 100 turns. */
async function collectUntil(happened: () => boolean): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  for (let turn = 0; turn < 100 && !happened(); turn++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function assertNothingOpenBut(sys: Sys, labels: readonly string[]): void {
  assert.deepEqual(sys.ledger.labels(), labels);
}

function hasTransfer(): boolean {
  return typeof Reflect.get(ArrayBuffer.prototype, 'transfer') === 'function';
}

function structuredTransfer(view: Uint8Array): void {
  const transfer: unknown = Reflect.get(view.buffer, 'transfer');
  assert.ok(typeof transfer === 'function');
  transfer.call(view.buffer, 16);
  assert.equal(view.length, 0);
}
