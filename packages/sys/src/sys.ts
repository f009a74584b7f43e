import type { Ledger } from './ledger.js';
import type { PollSet } from './poll-set.js';

/** Seals of a memfd. Source: linux/fcntl.h, memfd_create(2). */
export const SEAL = { SEAL: 0x1, SHRINK: 0x2, GROW: 0x4, WRITE: 0x8, FUTURE_WRITE: 0x10 } as const;

/** What `accept`, `send` and `receive` answer instead of a count when they would have to wait and may not. */
export const WOULD_BLOCK = -1;

/** The most fds that one message carries. Source: SCM_MAX_FD, net/scm.h. */
export const MAX_MESSAGE_FDS = 253;

/** What statx(2) says about an fd. */
export interface FileFacts {
  readonly device: bigint;
  readonly inode: bigint;
  /** Bytes. */
  readonly size: bigint;
  readonly kind: 'file' | 'socket' | 'pipe' | 'other';
}

/** Magic numbers of file systems that matter here. Source: linux/magic.h. */
export const FILESYSTEM = { TMPFS: 0x0102_1994, HUGETLBFS: 0x9584_58f6 } as const;

export interface MapRequest {
  readonly fd: number;
  /** Offset in the file: bytes, a multiple of the page size. */
  readonly offset: bigint;
  /** Bytes, at least 1. */
  readonly length: number;
  /**
   * Whether stores reach the file. A mapping that is not writable is a private one whose pages may still be stored to
   * without a fault: a JavaScript view cannot be read-only, and a store through it must not kill the process.
   */
  readonly writable: boolean;
}

/** A mapped range as the system sees it; `Mapping` is its owner. */
export interface MappedRange {
  /** Virtual address of its first byte. */
  readonly address: bigint;
  /** Bytes. */
  readonly length: number;
}

/** What one receive brought besides bytes. The caller makes one and uses it again and again. */
export interface Arrival {
  /** How many fds one receive may take, 0..253. */
  readonly limit: number;
  /** The fds that came with the last receive, in the sender's order, close-on-exec. */
  fds: readonly number[];
  /** True when the last receive lost fds: more than `limit` came, or this process has no free fd. Those that came are closed. */
  truncated: boolean;
}

/** What a socket is. Source: getsockopt(2) SO_DOMAIN, SO_TYPE, SO_ACCEPTCONN, SO_PEERCRED. */
export interface SocketFacts {
  /** A UNIX stream socket: the only kind used here. */
  readonly unixStream: boolean;
  readonly listening: boolean;
  /** Process id of the peer when it connected; 0 if there is none. */
  readonly peerPid: number;
}

export interface Interest {
  readonly readable?: boolean;
  readonly writable?: boolean;
}

/** A standing order for readiness; `stop` it before its fd is closed. */
export interface Watch {
  /** After this the callback is not called again. A second call does nothing. */
  stop(): void;
  /** Lets the process end although the watch stands. */
  unref(): void;
}

/**
 * The system calls this project uses, and nothing else: fds are numbers, answers are values, failures are `SysError`s.
 * `LinuxSys` makes them by koffi, `FakeSys` in memory, `FaultySys` makes another one fail. Interrupted calls are
 * repeated. All fds come close-on-exec. Unless a docstring says more, every operation
 * @throws SysError SYS_CALL_FAILED with the call's errno, SYS_BAD_ARGUMENT (EINVAL) before any call, SYS_UNSUPPORTED (EOPNOTSUPP).
 */
export interface Sys {
  readonly name: string;
  /** What is open through owner objects. */
  readonly ledger: Ledger;
  /** Bytes. */
  readonly pageSize: number;

  /** Closes an fd. It is gone whatever the outcome, as close(2) has it on Linux. */
  close(fd: number): void;
  /** A new fd for the same open file. Source: F_DUPFD_CLOEXEC. */
  duplicate(fd: number): number;
  setNonBlocking(fd: number, on: boolean): void;
  /** How a file was opened: flags of open(2), the access mode among them. Source: F_GETFL. */
  openFlags(fd: number): number;
  /** From what the kernel has at hand: never asks, so never waits for, a remote or FUSE server. */
  stat(fd: number): FileFacts;
  /**
   * The magic number of the file system, one of `FILESYSTEM` for memfds. Source: fstatfs(2). May wait for ever on FUSE: ask
   * only about what has seals.
   */
  filesystem(fd: number): number;
  /** The type of the file system by name (`ext4`, `fuse.sshfs`), as mountinfo has it; undefined if the mount is not ours. Never waits. */
  mountType(fd: number): string | undefined;
  /** What the fd leads to, as /proc/self/fd says: `/memfd:ram (deleted)`, `anon_inode:[eventfd]`. */
  target(fd: number): string;

  /** A new memfd of size 0 that can be sealed. `name`: at most 249 bytes, for /proc only. */
  memfd(name: string): number;
  /** Sets the size of a file: bytes. EPERM if a seal forbids it. */
  truncate(fd: number, size: bigint): void;
  /** Adds seals, bits of `SEAL`; there is no way back. */
  addSeals(fd: number, seals: number): void;
  /** The seals of a file, bits of `SEAL`. EINVAL for a file that cannot have any. */
  seals(fd: number): number;
  /** Reads at an offset without moving the file position. @returns bytes read; fewer at the end of the file. */
  pread(fd: number, into: Uint8Array, offset: bigint): number;
  /** Writes at an offset without moving the file position. @returns bytes written. */
  pwrite(fd: number, from: Uint8Array, offset: bigint): number;

  /** Maps a file. No check of seals or size here: that is `mapFile`'s. */
  map(request: MapRequest): MappedRange;
  /** A live view of a part of a mapped range. Whoever asks keeps it for `unmap`. */
  view(range: MappedRange, offset: number, length: number): Uint8Array;
  /**
   * Takes a range away. `views` are all that `view` gave for it; they are harmless before the range can be used again:
   * detached where the engine can (Node >= 22), else lying on private zero pages until they are collected.
   * When it throws, the range is still mapped, though views may be detached.
   */
  unmap(range: MappedRange, views: readonly Uint8Array[]): void;
  /** Makes pages resident. Source: mlock(2): ENOMEM over RLIMIT_MEMLOCK, EPERM if the limit is 0. */
  lock(range: MappedRange, offset: number, length: number): void;
  unlock(range: MappedRange, offset: number, length: number): void;

  /** Two connected UNIX stream sockets, blocking. */
  socketPair(): readonly [number, number];
  /** A listening UNIX stream socket. EADDRINUSE if the path exists, also when nobody listens there any more. */
  listen(path: string, backlog: number): number;
  /** Connects to a listening socket. Never waits: EAGAIN if the listener's queue is full. */
  connect(path: string): number;
  /** The next connection, or WOULD_BLOCK if there is none and `wait` is false. */
  accept(fd: number, wait: boolean): number;
  shutdown(fd: number, how: 'read' | 'write' | 'both'): void;
  socketFacts(fd: number): SocketFacts;
  /**
   * Sends bytes (at least 1), with fds on the first of them. Never raises SIGPIPE.
   * @returns bytes accepted: may be fewer than given unless `wait`; then the fds have gone. WOULD_BLOCK: nothing has gone.
   */
  send(fd: number, bytes: Uint8Array, fds: readonly number[], wait: boolean): number;
  /**
   * Receives bytes and fds. fds come with the first byte of the message they were sent with; bytes of earlier messages may
   * stand before that byte in the same answer, bytes of later messages never behind it. Truncated fds are closed and told.
   * @returns bytes received; 0 when the peer has closed; WOULD_BLOCK if there is nothing and `wait` is false.
   */
  receive(fd: number, into: Uint8Array, arrival: Arrival, wait: boolean): number;

  /** A new eventfd, non-blocking. `semaphore`: each read takes one. */
  eventfd(initial: number, semaphore: boolean): number;
  /** Adds to the counter (1..2^64-2). @returns false if the counter is full: the reader has been signalled long since. */
  signal(fd: number, value: bigint): boolean;
  /** Takes the counter (one, of a semaphore). @returns 0n when it is zero. */
  drain(fd: number): bigint;

  /**
   * Waits until one of the set is ready. Blocks the whole thread: in a worker always keep an eventfd in the set that the
   * main thread can signal, or the process cannot exit. A signal may end the wait early.
   * @param timeout milliseconds; 0 does not wait, -1 waits for ever. @returns how many are ready; see `PollSet.ready`.
   */
  poll(set: PollSet, timeout: number): number;
  /** Lets others who are ready run on this CPU before this thread goes on. Source: sched_yield(2). */
  yieldCpu(): void;
  /**
   * Calls back on the event loop, once per turn, as long as the fd is ready. The callback runs as an immediate: what it
   * throws is an ordinary uncaught exception, promises that it resolves go on at once.
   * @throws SysError SYS_NOT_POLLABLE (EPERM): an ordinary file, or an fd that is watched already.
   */
  watch(fd: number, interest: Interest, callback: () => void): Watch;

  /**
   * ioctl(2). `argument` is a buffer that the call may read and write, or a plain number.
   * A buffer that is smaller than the size inside the request code is refused.
   */
  ioctl(fd: number, request: number, argument: Uint8Array | bigint): number;
  /** Whether two fds are one open file. Source: kcmp(2) KCMP_FILE. @returns undefined where kcmp is not permitted. */
  compareFiles(a: number, b: number): boolean | undefined;
}
