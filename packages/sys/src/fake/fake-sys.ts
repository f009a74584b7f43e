import { constants } from 'node:os';
import { checkFd, checkOffset, checkWhole, sysErrors } from '../errors.js';
import { Ledger } from '../ledger.js';
import { MAX_MAPPING, MAX_VIEW } from '../limits.js';
import { checkInitial, checkInterest, checkIoctl, checkSignal, checkTimeout } from '../linux-events.js';
import { checkMemfdName } from '../linux-files.js';
import { checkWithin } from '../linux-memory.js';
import { checkMessage, checkReceive, checkSocketPath } from '../linux-sockets.js';
import { POLL, type PollSet } from '../poll-set.js';
import {
  type Arrival,
  FILESYSTEM,
  type FileFacts,
  type Interest,
  type MappedRange,
  type MapRequest,
  type SocketFacts,
  type Sys,
  type Watch,
  WOULD_BLOCK,
} from '../sys.js';
import { FakeEvent } from './events.js';
import { FakeFile, FakeMappings, failure } from './memory.js';
import { FakeListener, FakeStream } from './sockets.js';

const { EBADF, EINVAL, EMFILE, ENOTTY, EADDRINUSE, ENOENT, EAGAIN, ENOTSOCK, ESPIPE, ENODEV, ENOTCONN } =
  constants.errno;
const PAGE_SIZE = 4096;
const FIRST_FD = 3;
const FAKE_DEVICE = 7n;
/** O_RDWR: how every file here is open. */
const OPEN_READ_WRITE = 2;
/** Source: linux/magic.h SOCKFS_MAGIC, ANON_INODE_FS_MAGIC. */
const OTHER_MAGIC = { socket: 0x534f_434b, other: 0x0904_1934 } as const;

/** An open file: what fds, also those in flight, share. */
interface OpenFile {
  readonly object: FakeFile | FakeEvent | FakeStream<OpenFile> | FakeListener<OpenFile>;
  references: number;
}

/** What a fake device answers to an ioctl. */
export type IoctlHandler = (request: number, argument: Uint8Array | bigint) => number;

/**
 * A system in memory, for tests that must not touch the real one and for platforms where that does not run. It has
 * memfds, seals, mappings, sockets with fds in flight, eventfds, readiness. What it has not: nothing comes while a
 * call waits, so a wait for nothing throws SYS_WOULD_HANG (EDEADLK); raw views are not detached by `unmap`; a mapped
 * file keeps its size (EBUSY); the view of a read-only mapping is a copy; a file has at most 1 GiB.
 */
export class FakeSys implements Sys {
  readonly name = 'fake';
  readonly ledger = new Ledger();
  readonly pageSize = PAGE_SIZE;
  readonly #limit: number;
  readonly #ioctl: IoctlHandler | undefined;
  readonly #files = new Map<number, OpenFile>();
  readonly #listeners = new Map<string, FakeListener<OpenFile>>();
  readonly #mappings = new FakeMappings(PAGE_SIZE);
  readonly #watches = new Map<number, FakeWatch>();
  #inode = 100n;

  /** `fdLimit`: how many fds there may be (RLIMIT_NOFILE). `ioctl`: answers ioctls; without it ENOTTY. */
  constructor({ fdLimit = 1024, ioctl }: { fdLimit?: number; ioctl?: IoctlHandler } = {}) {
    this.#limit = fdLimit;
    this.#ioctl = ioctl;
  }

  /** How many fds are open, with or without an owner object. */
  get openFds(): number {
    return this.#files.size;
  }

  close(fd: number): void {
    const file = this.#file('close', fd);
    this.#files.delete(fd);
    this.#drop(file);
    this.#stir();
  }
  duplicate(fd: number): number {
    const file = this.#file('fcntl', fd);
    const number = this.#install(file);
    file.references += 1;
    return number;
  }
  setNonBlocking(fd: number): void {
    this.#file('fcntl', fd);
  }
  openFlags(fd: number): number {
    this.#file('fcntl', fd);
    return OPEN_READ_WRITE;
  }
  stat(fd: number): FileFacts {
    const { object } = this.#file('fstat', fd);
    const size = object instanceof FakeFile ? BigInt(object.bytes.length) : 0n;
    return { device: FAKE_DEVICE, inode: object.inode, size, kind: object.kind };
  }
  filesystem(fd: number): number {
    const { kind } = this.#file('fstatfs', fd).object;
    return kind === 'file' ? FILESYSTEM.TMPFS : OTHER_MAGIC[kind];
  }
  /** Always undefined: a memfd lies in no mount of ours. */
  mountType(fd: number): undefined {
    this.#file('read of /proc', fd);
  }
  target(fd: number): string {
    return this.#file('readlink', fd).object.target;
  }

  memfd(name: string): number {
    checkMemfdName(name);
    return this.#open(new FakeFile(name, this.#newInode()));
  }
  truncate(fd: number, size: bigint): void {
    checkOffset('truncate', 'the size', size);
    this.#memory('ftruncate', fd, EINVAL).truncate(size);
  }
  addSeals(fd: number, seals: number): void {
    checkWhole('addSeals', 'the set of seals', seals, [0, 0x1f]);
    this.#memory('fcntl', fd, EINVAL).addSeals(seals);
  }
  seals(fd: number): number {
    return this.#memory('fcntl', fd, EINVAL).seals;
  }
  pread(fd: number, into: Uint8Array, offset: bigint): number {
    checkOffset('pread', 'the offset', offset);
    return this.#memory('pread', fd, ESPIPE).read(into, offset);
  }
  pwrite(fd: number, from: Uint8Array, offset: bigint): number {
    checkOffset('pwrite', 'the offset', offset);
    return this.#memory('pwrite', fd, ESPIPE).write(from, offset);
  }

  map(request: MapRequest): MappedRange {
    checkOffset('map', 'the offset', request.offset);
    checkWhole('map', 'the length', request.length, [1, MAX_MAPPING]);
    return this.#mappings.map(this.#memory('mmap', request.fd, ENODEV), request);
  }
  view(range: MappedRange, offset: number, length: number): Uint8Array {
    checkWithin('view', range, offset, length);
    checkWhole('view', 'the length', length, [1, MAX_VIEW]);
    return this.#mappings.view(range, offset, length);
  }
  unmap(range: MappedRange): void {
    this.#mappings.unmap(range);
  }
  lock(range: MappedRange, offset: number, length: number): void {
    checkWithin('lock', range, offset, length);
    this.#mappings.check(range);
  }
  unlock(range: MappedRange, offset: number, length: number): void {
    checkWithin('unlock', range, offset, length);
    this.#mappings.check(range);
  }

  socketPair(): readonly [number, number] {
    if (this.#files.size + 2 > this.#limit) throw failure('socketpair', EMFILE);
    const [a, b] = this.#newPair();
    return [this.#open(a), this.#open(b)];
  }
  listen(path: string, backlog: number): number {
    checkWhole('listen', 'the backlog', backlog, [1, 4096]);
    checkSocketPath('listen', path);
    if (this.#listeners.has(path)) throw failure('bind', EADDRINUSE);
    const listener = new FakeListener<OpenFile>(path, backlog, this.#newInode());
    const fd = this.#open(listener);
    this.#listeners.set(path, listener);
    return fd;
  }
  connect(path: string): number {
    checkSocketPath('connect', path);
    const listener = this.#listeners.get(path);
    if (listener === undefined) throw failure('connect', ENOENT);
    if (listener.pending.length > listener.backlog) throw failure('connect', EAGAIN);
    const [ours, theirs] = this.#newPair();
    const fd = this.#open(ours);
    listener.pending.push(theirs);
    this.#stir();
    return fd;
  }
  accept(fd: number, wait: boolean): number {
    const { object } = this.#file('accept4', fd);
    if (!(object instanceof FakeListener)) throw failure('accept4', object.kind === 'socket' ? EINVAL : ENOTSOCK);
    const next = object.pending[0];
    if (next === undefined) return this.#nothing('accept', wait);
    const accepted = this.#open(next);
    object.pending.shift();
    return accepted;
  }
  shutdown(fd: number, how: 'read' | 'write' | 'both'): void {
    this.#stream('shutdown', fd).shutdown(how);
    this.#stir();
  }
  socketFacts(fd: number): SocketFacts {
    const { object } = this.#file('getsockopt', fd);
    if (object.kind !== 'socket') throw failure('getsockopt', ENOTSOCK);
    return { unixStream: true, listening: object instanceof FakeListener, peerPid: process.pid };
  }
  send(fd: number, bytes: Uint8Array, fds: readonly number[], wait: boolean): number {
    checkMessage(bytes, fds);
    const stream = this.#stream('sendmsg', fd);
    const riders = fds.map((rider) => this.#file('sendmsg', rider));
    const count = stream.send(bytes, () => {
      for (const rider of riders) rider.references += 1;
      return riders;
    });
    if (count === 0) return this.#nothing('send', wait);
    if (wait && count < bytes.length) throw sysErrors.WOULD_HANG({ operation: 'send' });
    this.#stir();
    return count;
  }
  receive(fd: number, into: Uint8Array, arrival: Arrival, wait: boolean): number {
    checkReceive(into, arrival.limit);
    const stream = this.#stream('recvmsg', fd);
    arrival.fds = [];
    arrival.truncated = false;
    const { count, fds } = stream.receive(into);
    if (count === 0 && !stream.ended) return this.#nothing('receive', wait);
    arrival.truncated = fds.length > arrival.limit || this.#files.size + fds.length > this.#limit;
    if (arrival.truncated) for (const file of fds) this.#drop(file);
    else arrival.fds = fds.map((file) => this.#install(file));
    this.#stir();
    return count;
  }

  eventfd(initial: number, semaphore: boolean): number {
    checkInitial(initial);
    return this.#open(new FakeEvent(initial, semaphore));
  }
  signal(fd: number, value: bigint): boolean {
    checkSignal(value);
    const done = this.#event('write', fd).signal(value);
    this.#stir();
    return done;
  }
  drain(fd: number): bigint {
    return this.#event('read', fd).drain();
  }

  poll(set: PollSet, timeout: number): number {
    checkTimeout(timeout);
    let ready = 0;
    for (let i = 0; i < set.size; i++) {
      const bits = this.#readiness(set.fd(i)) & (set.events(i) | POLL.ERR | POLL.HUP | POLL.NVAL);
      set.setReady(i, bits);
      if (bits !== 0) ready += 1;
    }
    if (ready === 0 && timeout === -1) throw sysErrors.WOULD_HANG({ operation: 'poll' });
    return ready;
  }
  yieldCpu(): void {} // one thread: there is nobody to let run
  watch(fd: number, interest: Interest, callback: () => void): Watch {
    const { object } = this.#file('epoll_ctl', fd);
    checkInterest(interest);
    if (object instanceof FakeFile) throw sysErrors.NOT_POLLABLE({ fd, problem: 'a file is always ready' });
    if (this.#watches.has(fd)) throw sysErrors.NOT_POLLABLE({ fd, problem: 'it is watched already' });
    const wanted = (interest.readable === true ? POLL.IN : 0) | (interest.writable === true ? POLL.OUT : 0);
    const isReady = (): boolean => (this.#readiness(fd) & (wanted | POLL.HUP)) !== 0 && this.#files.has(fd);
    const onStop = (): void => {
      this.#watches.delete(fd);
      entry.settle();
    };
    const watch = new FakeWatch({ isReady, callback, onStop });
    const entry = this.ledger.open('watch', `watch of fd ${fd}`, watch);
    this.#watches.set(fd, watch);
    watch.stir();
    return watch;
  }

  ioctl(fd: number, request: number, argument: Uint8Array | bigint): number {
    checkIoctl(request, argument);
    this.#file('ioctl', fd);
    if (this.#ioctl === undefined) throw failure('ioctl', ENOTTY);
    return this.#ioctl(request, argument);
  }
  compareFiles(a: number, b: number): boolean {
    return this.#file('kcmp', a) === this.#file('kcmp', b);
  }

  #newInode(): bigint {
    this.#inode += 2n;
    return this.#inode;
  }
  #newPair(): readonly [FakeStream<OpenFile>, FakeStream<OpenFile>] {
    return FakeStream.pair<OpenFile>(this.#newInode());
  }

  #open(object: OpenFile['object']): number {
    return this.#install({ object, references: 1 });
  }
  /** Gives an open file, whose reference is counted already, the lowest free number. */
  #install(file: OpenFile): number {
    if (this.#files.size >= this.#limit) throw failure('open', EMFILE);
    let fd = FIRST_FD;
    while (this.#files.has(fd)) fd += 1;
    this.#files.set(fd, file);
    return fd;
  }

  #drop(file: OpenFile): void {
    file.references -= 1;
    if (file.references > 0) return;
    const { object } = file;
    if (object instanceof FakeStream) for (const lost of object.end()) this.#drop(lost);
    if (object instanceof FakeListener) {
      this.#listeners.delete(object.path);
      for (const stream of object.pending) for (const lost of stream.end()) this.#drop(lost);
    }
  }

  #file(call: string, fd: number): OpenFile {
    checkFd(call, fd);
    const file = this.#files.get(fd);
    if (file === undefined) throw failure(call, EBADF);
    return file;
  }
  #memory(call: string, fd: number, otherwise: number): FakeFile {
    const { object } = this.#file(call, fd);
    if (!(object instanceof FakeFile)) throw failure(call, otherwise);
    return object;
  }
  #stream(call: string, fd: number): FakeStream<OpenFile> {
    const { object } = this.#file(call, fd);
    if (object instanceof FakeStream) return object;
    throw failure(call, object instanceof FakeListener ? ENOTCONN : ENOTSOCK);
  }
  #event(call: string, fd: number): FakeEvent {
    const { object } = this.#file(call, fd);
    if (!(object instanceof FakeEvent)) throw failure(call, EINVAL);
    return object;
  }

  #nothing(operation: string, wait: boolean): typeof WOULD_BLOCK {
    if (wait) throw sysErrors.WOULD_HANG({ operation });
    return WOULD_BLOCK;
  }

  #readiness(fd: number): number {
    const object = this.#files.get(fd)?.object;
    if (object === undefined) return POLL.NVAL;
    if (object instanceof FakeFile) return POLL.IN | POLL.OUT;
    return (object.readable ? POLL.IN : 0) | (object.writable ? POLL.OUT : 0) | (object.hungUp ? POLL.HUP : 0);
  }

  #stir(): void {
    for (const watch of this.#watches.values()) watch.stir();
  }
}

interface FakeWatchRequest {
  readonly isReady: () => boolean;
  readonly callback: () => void;
  readonly onStop: () => void;
}

/** Calls back once per turn of the event loop while its fd is ready. */
class FakeWatch implements Watch {
  readonly #request: FakeWatchRequest;
  #due: NodeJS.Immediate | undefined;
  #stopped = false;
  #unref = false;

  constructor(request: FakeWatchRequest) {
    this.#request = request;
  }

  /** Something may have become ready. */
  stir(): void {
    if (this.#stopped || this.#due !== undefined || !this.#request.isReady()) return;
    this.#due = setImmediate(() => {
      this.#due = undefined;
      if (!this.#stopped && this.#request.isReady()) this.#request.callback();
      this.stir();
    });
    if (this.#unref) this.#due.unref();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#due !== undefined) clearImmediate(this.#due);
    this.#request.onStop();
  }

  unref(): void {
    this.#unref = true;
    this.#due?.unref();
  }
}
