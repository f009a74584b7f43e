// What is asked of the kernel on x64 and on arm64: numbers of system calls, flags and struct layouts, by a libc that only takes notes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Host, linuxSys, POLL, PollSet, SEAL, type Sys } from '@pinion/sys';

type Call = readonly [name: string, ...args: unknown[]];
type Koffi = ReturnType<Host['load']>;

interface Notes {
  readonly sys: Sys;
  readonly calls: Call[];
  /** What a function answers instead of 0. */
  readonly answers: Map<string, (...args: readonly unknown[]) => unknown>;
}

/** A koffi whose functions note how they are called. */
function notes(arch: string): Notes {
  const calls: Call[] = [];
  const answers = new Map<string, (...args: readonly unknown[]) => unknown>();
  const func =
    (name: string) =>
    (...args: readonly unknown[]): unknown => {
      calls.push([name, ...args]);
      return answers.get(name)?.(...args) ?? 0;
    };
  const koffi = {
    load: () => ({ func }),
    errno: () => 0,
    address: () => 0x7000_0000n,
    view: (_address: bigint, length: number) => new ArrayBuffer(length),
  };
  const load = (): Koffi => koffi as unknown as Koffi; // why: the four members that are used, and no other
  return { sys: linuxSys({ platform: 'linux', arch, load }), calls, answers };
}

/** Numbers that differ. Source: arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h. */
const NUMBERS = { x64: { kcmp: 312, statx: 332 }, arm64: { kcmp: 272, statx: 291 } } as const;
const words = (bytes: unknown): number[] => [...new Int32Array((bytes as Uint8Array).slice().buffer)]; // why: what was passed as memory

for (const [arch, numbers] of Object.entries(NUMBERS)) {
  describe(`the binary interface of ${arch}`, () => {
    /** Source: asm-generic/{fcntl,mman-common,mman,socket,poll,errno,ioctl}.h, linux/{memfd,eventfd,eventpoll,socket,net}.h. */
    const CALLS: readonly (readonly [what: string, act: (sys: Sys) => unknown, ...expected: Call])[] = [
      ['memfd: MFD_CLOEXEC, MFD_ALLOW_SEALING', (sys) => sys.memfd('x'), 'memfd_create', 'x', 3],
      ['seals: F_GET_SEALS', (sys) => sys.seals(5), 'fcntl', 5, 1034, 0],
      ['seals: F_ADD_SEALS, F_SEAL_SHRINK', (sys) => sys.addSeals(5, SEAL.SHRINK), 'fcntl', 5, 1033, 2],
      ['duplicate: F_DUPFD_CLOEXEC', (sys) => sys.duplicate(5), 'fcntl', 5, 1030, 0],
      ['non-blocking: F_SETFL, O_NONBLOCK', (sys) => sys.setNonBlocking(5, true), 'fcntl', 5, 4, 0x800],
      [
        'shared: PROT_READ | PROT_WRITE, MAP_SHARED',
        (sys) => sys.map({ fd: 5, offset: 8192n, length: 4096, writable: true }),
        'mmap',
        0,
        4096,
        3,
        1,
        5,
        8192n,
      ],
      [
        'private: MAP_PRIVATE | MAP_NORESERVE',
        (sys) => sys.map({ fd: 5, offset: 0n, length: 4096, writable: false }),
        'mmap',
        0,
        4096,
        3,
        0x4002,
        5,
        0n,
      ],
      ['shutdown: SHUT_RDWR', (sys) => sys.shutdown(5, 'both'), 'shutdown', 5, 2],
      ['eventfd: EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE', (sys) => sys.eventfd(3, true), 'eventfd', 3, 0x80801],
      ['page size: _SC_PAGESIZE', (sys) => sys.pageSize, 'sysconf', 30],
      ['yield', (sys) => sys.yieldCpu(), 'sched_yield'],
      ['accept: SOCK_CLOEXEC', (sys) => sys.accept(5, true), 'accept4', 5, null, null, 0x80000],
      ['ioctl: the code as it is', (sys) => sys.ioctl(5, 0x3b64, 0n), 'ioctl', 5, 0x3b64, 0n],
      ['kcmp: KCMP_FILE', (sys) => sys.compareFiles(5, 6), 'syscall', numbers.kcmp, process.pid, process.pid, 0, 5, 6],
    ];
    for (const [what, act, ...expected] of CALLS) {
      test(what, () => {
        const { sys, calls } = notes(arch);
        act(sys);
        assert.deepEqual(calls.at(-1), expected);
      });
    }

    test('sockets: AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK; sockaddr_un', () => {
      const { sys, calls } = notes(arch);
      sys.listen('/a', 7);
      assert.deepEqual(calls[0], ['socket', 1, 0x80801, 0]);
      const [name, , address, length] = calls[1] ?? [];
      assert.ok(address instanceof Uint8Array);
      assert.deepEqual([name, [...address], length], ['bind', [1, 0, 47, 97, 0], 5]);
      assert.deepEqual(calls[2], ['listen', 0, 7]);
    });

    test('stat: AT_EMPTY_PATH | AT_STATX_DONT_SYNC; struct statx', () => {
      const { sys, calls, answers } = notes(arch);
      answers.set('syscall', (...args) => {
        const view = new DataView((args[5] as Uint8Array).buffer); // why: the statx buffer is the sixth argument
        view.setUint16(28, 0x81a4, true);
        view.setBigUint64(32, 77n, true);
        view.setBigUint64(40, 8192n, true);
        view.setUint32(136, 3, true);
        view.setUint32(140, 4, true);
        return 0;
      });
      assert.deepEqual(sys.stat(5), { device: 0x3_0000_0004n, inode: 77n, size: 8192n, kind: 'file' });
      assert.deepEqual(calls[0]?.slice(0, 6), ['syscall', numbers.statx, 5, '', 0x5000, 0x301]);
    });

    test('statfs: 120 bytes that begin with the type', () => {
      const { sys, answers } = notes(arch);
      answers.set('fstatfs', (_fd, into) => {
        const bytes = into as Uint8Array; // why: the buffer of the call
        assert.equal(bytes.length, 120);
        new DataView(bytes.buffer).setUint32(0, 0x0102_1994, true);
        return 0;
      });
      assert.equal(sys.filesystem(5), 0x0102_1994);
    });

    test('poll: struct pollfd of 8 bytes', () => {
      const { sys, calls, answers } = notes(arch);
      answers.set('poll', (bytes) => {
        (bytes as Uint8Array)[14] = POLL.OUT; // why: the array of the call; revents of the second entry
        return 1;
      });
      const set = new PollSet([
        { fd: 5, interest: { readable: true } },
        { fd: 6, interest: { writable: true } },
      ]);
      assert.deepEqual([sys.poll(set, 20), set.ready(0), set.ready(1)], [1, 0, POLL.OUT]);
      assert.deepEqual(
        [words(calls[0]?.[1]), calls[0]?.slice(2)],
        [
          [5, 1, 6, 4 | (4 << 16)],
          [2, 20],
        ],
      );
    });

    test('sendmsg: MSG_NOSIGNAL; struct msghdr of 56 bytes, iovec, cmsghdr', () => {
      const { sys, calls, answers } = notes(arch);
      answers.set('sendmsg', () => 3);
      sys.send(5, Uint8Array.of(1, 2, 3), [8, 9], true);
      const [name, fd, header, flags] = calls.at(-1) ?? [];
      assert.deepEqual([name, fd, flags], ['sendmsg', 5, 0x4000]);
      const fields = words(header);
      assert.equal(fields.length, 14);
      assert.deepEqual([fields[6], fields[10]], [1, 16 + 8], 'one iovec, control data of two fds');
      answers.set('send', () => 3);
      sys.send(5, Uint8Array.of(1, 2, 3), [], false);
      assert.deepEqual(calls.at(-1)?.slice(3), [3, 0x4040]);
    });

    test('recvmsg: MSG_CMSG_CLOEXEC | MSG_DONTWAIT', () => {
      const { sys, calls, answers } = notes(arch);
      answers.set('recvmsg', (_fd, header) => {
        new Uint32Array((header as Uint8Array).buffer)[10] = 0; // why: the msghdr of the call, without control data
        return 2;
      });
      const arrival = { limit: 4, fds: [], truncated: false };
      assert.equal(sys.receive(5, new Uint8Array(16), arrival, false), 2);
      assert.deepEqual([calls.at(-1)?.[0], calls.at(-1)?.[3]], ['recvmsg', 0x4000_0040]);
      assert.deepEqual(arrival, { limit: 4, fds: [], truncated: false });
    });

    test('eventfds carry 8 bytes', () => {
      const { sys, calls, answers } = notes(arch);
      answers.set('write', () => 8);
      assert.equal(sys.signal(5, 0x1_0000_0002n), true);
      assert.deepEqual([words(calls.at(-1)?.[2]), calls.at(-1)?.[3]], [[2, 1], 8]);
    });
  });
}
