// Many parts of few files.
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { describe, test } from 'node:test';
import { createMemfd, FakeSys, Fd, FileBook, linuxSys, SEAL, type Sys, type WindowRequest } from '@pinion/sys';
import { PAGE, refusal } from './systems.js';

const native = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
const SYSTEMS: readonly (readonly [name: string, make: () => Sys, skip: boolean])[] = [
  ['fake', () => new FakeSys(), false],
  ['linux', () => linuxSys(), !native],
];
const part = (fd: Fd, page = 0, changes: Partial<WindowRequest> = {}): WindowRequest => ({
  fd,
  offset: BigInt(page * PAGE),
  length: PAGE,
  writable: true,
  label: `part ${page}`,
  ...changes,
});
const byte = new Uint8Array(1);

for (const [name, make, skip] of SYSTEMS) {
  describe(`a book of files (${name})`, { skip }, () => {
    test('has a file open once, however many parts are in use and whoever sent it', () => {
      const sys = make();
      const book = new FileBook();
      const fd = createMemfd(sys, 'ram', BigInt(8 * PAGE));
      const windows = Array.from({ length: 8 }, (_, n) => {
        const sent = fd.duplicate('sent');
        const window = book.open(part(sent, n));
        sent.close();
        return window;
      });
      assert.deepEqual([sys.ledger.count('fd'), sys.ledger.count('mapping')], [2, 0]);
      windows.forEach((window, n) => {
        window.write(5, Uint8Array.of(n));
      });
      const seen = new Uint8Array(8 * PAGE);
      sys.pread(fd.number, seen, 0n);
      assert.deepEqual(
        windows.map((_, n) => seen[n * PAGE + 5]),
        [0, 1, 2, 3, 4, 5, 6, 7],
      );
      assert.equal(new Set(windows.map(({ identity }) => identity)).size, 1);
      for (const window of windows) window.close();
      assert.equal(sys.ledger.count('fd'), 2, 'the next part comes soon');
      book.close();
      fd.close();
      assert.deepEqual(sys.ledger.labels(), []);
    });

    test('maps a part after a few copies, or when somebody asks; both show the same bytes', () => {
      const sys = make();
      const book = new FileBook();
      const fd = createMemfd(sys, 'ram', BigInt(2 * PAGE));
      const [often, asked] = [book.open(part(fd, 0)), book.open(part(fd, 1))];
      for (let n = 0; n < 4; n += 1) often.write(n, Uint8Array.of(n + 1));
      assert.equal(sys.ledger.count('mapping'), 0);
      often.read(0, byte);
      assert.deepEqual([byte[0], sys.ledger.count('mapping')], [1, 1]);
      asked.write(9, Uint8Array.of(77));
      const mapping = asked.mapping();
      assert.ok(mapping);
      assert.equal(mapping.bytes(9, 1)[0], 77);
      mapping.bytes(9, 1)[0] = 78;
      asked.read(9, byte);
      assert.deepEqual([byte[0], asked.mapping() === mapping, sys.ledger.count('mapping')], [78, true, 2]);
      often.close();
      asked.close();
      asked.close();
      book.close();
      fd.close();
      assert.deepEqual(sys.ledger.labels(), []);
    });

    test('never maps a file that can shrink; one that is sealed later is looked at again', () => {
      const sys = make();
      const book = new FileBook();
      const fd = createMemfd(sys, 'ram', BigInt(2 * PAGE), 0);
      const window = book.open(part(fd));
      for (let n = 0; n < 10; n += 1) window.write(0, Uint8Array.of(n));
      assert.deepEqual([window.mappable, window.mapping(), sys.ledger.count('mapping')], [false, undefined, 0]);
      sys.truncate(fd.number, 0n);
      assert.throws(() => window.read(0, byte), refusal('SYS_SHRUNK', 'EFAULT'));
      sys.truncate(fd.number, BigInt(2 * PAGE));
      sys.addSeals(fd.number, SEAL.SHRINK);
      const later = book.open(part(fd, 1));
      assert.deepEqual([window.mapping(), later.mappable, later.mapping() === undefined], [undefined, true, false]);
      for (const each of [window, later]) each.close();
      book.close();
      fd.close();
      assert.deepEqual(sys.ledger.labels(), []);
    });

    test('keeps a few files for the next part, not all', () => {
      const sys = make();
      const book = new FileBook();
      for (let n = 0; n < 10; n += 1) {
        const fd = createMemfd(sys, 'ram', BigInt(PAGE));
        book.open(part(fd)).close();
        fd.close();
      }
      assert.equal(sys.ledger.count('fd'), 4);
      book.close();
      assert.deepEqual(sys.ledger.labels(), []);
    });

    test('refuses what cannot be, the first time and later; nothing is open then', () => {
      const sys = make();
      const [a, b] = sys.socketPair();
      const socket = new Fd(sys, a, 'socket');
      const book = new FileBook();
      const fd = createMemfd(sys, 'ram', BigInt(2 * PAGE));
      const BAD: readonly (readonly [request: WindowRequest, error: string, errno: string])[] = [
        [part(fd, 2), 'SYS_BEYOND_FILE', 'EINVAL'],
        [part(fd, 1, { length: PAGE + 1 }), 'SYS_BEYOND_FILE', 'EINVAL'],
        [part(socket), 'SYS_NOT_MEMORY', 'EINVAL'],
      ];
      for (const known of [false, true]) {
        const window = known ? book.open(part(fd)) : undefined;
        for (const [request, error, errno] of BAD) assert.throws(() => book.open(request), refusal(error, errno));
        assert.throws(() => book.open(part(fd, 0, { length: 0 })));
        assert.throws(() => book.open(part(fd, 0, { offset: -1n })));
        window?.close();
      }
      book.close();
      for (const each of [fd, socket, new Fd(sys, b, 'socket')]) each.close();
      assert.deepEqual(sys.ledger.labels(), []);
    });

    test('an access outside a part, or after its end, is an error that names it', () => {
      const sys = make();
      const book = new FileBook();
      const fd = createMemfd(sys, 'ram', BigInt(2 * PAGE));
      for (const mapped of [false, true]) {
        const window = book.open(part(fd));
        if (mapped) window.mapping();
        assert.throws(() => window.read(PAGE, byte), refusal('SYS_OUT_OF_RANGE', 'EFAULT'));
        assert.throws(() => window.write(-1, byte), refusal('SYS_OUT_OF_RANGE', 'EFAULT'));
        window.close();
        for (const use of [() => window.read(0, byte), () => window.write(0, byte), () => window.mapping()]) {
          assert.throws(use, refusal('SYS_UNMAPPED', 'EFAULT'));
          assert.throws(use, /part 0/);
        }
        const readOnly = book.open(part(fd, 0, { writable: false }));
        if (mapped) readOnly.mapping();
        assert.throws(() => readOnly.write(0, byte), refusal('SYS_READ_ONLY', 'EPERM'));
        readOnly.close();
      }
      book.close();
      fd.close();
      assert.deepEqual(sys.ledger.labels(), []);
    });
  });
}

test('who may only read a file does not write it by the descriptor of one who may', { skip: !native }, () => {
  const sys = linuxSys();
  const book = new FileBook();
  const fd = createMemfd(sys, 'ram', BigInt(2 * PAGE));
  const mine = book.open(part(fd));
  const theirs = new Fd(sys, openSync(`/proc/self/fd/${fd.number}`, 'r'), 'for reading');
  const window = book.open(part(theirs));
  assert.equal(window.identity, mine.identity);
  assert.throws(() => window.write(0, byte), refusal('SYS_CALL_FAILED', 'EBADF'));
  assert.throws(() => window.mapping(), refusal('SYS_CALL_FAILED', 'EACCES'));
  const reading = book.open(part(theirs, 0, { writable: false }));
  mine.write(0, Uint8Array.of(5));
  reading.read(0, byte);
  assert.equal(byte[0], 5);
  assert.ok(reading.mapping());
  for (const each of [mine, window, reading]) each.close();
  book.close();
  for (const each of [theirs, fd]) each.close();
  assert.deepEqual(sys.ledger.labels(), []);
});
