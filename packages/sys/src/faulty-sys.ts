import { constants } from 'node:os';
import { checkWhole, sysErrors } from './errors.js';
import type { Ledger } from './ledger.js';
import type { PollSet } from './poll-set.js';
import type { Arrival, FileFacts, Interest, MappedRange, MapRequest, SocketFacts, Sys, Watch } from './sys.js';

/** An operation of `Sys` by name. */
export type SysOperation = Exclude<keyof Sys, 'name' | 'ledger' | 'pageSize'>;
/** The errno names of this system. */
type ErrnoName = keyof typeof constants.errno;

interface Fault {
  readonly operation: SysOperation | undefined;
  readonly errno: number;
  /** Calls until it strikes. */
  left: number;
}

/**
 * Another `Sys` with faults on order: the Nth call of an operation fails with an errno, without having done anything
 * (except `close`, which closes all the same, as Linux does). Run a scenario with N = 1, 2, 3, ... until it passes clean.
 */
export class FaultySys implements Sys {
  readonly name = 'faulty';
  readonly #inner: Sys;
  readonly #calls = new Map<SysOperation, number>();
  #faults: Fault[] = [];

  constructor(inner: Sys) {
    this.#inner = inner;
  }

  /** Makes the `nth` call of `operation` from now on (1: the next) fail once with `errno`. @throws SysError SYS_BAD_ARGUMENT (EINVAL). */
  fail(operation: SysOperation, nth: number, errno: ErrnoName): void {
    this.#order(operation, nth, errno);
  }

  /** Makes the `nth` call from now on fail once, whichever operation it is. @throws as `fail`. */
  failAny(nth: number, errno: ErrnoName): void {
    this.#order(undefined, nth, errno);
  }

  /** How many calls there were, of one operation or of all; failed ones count. */
  calls(operation?: SysOperation): number {
    if (operation !== undefined) return this.#calls.get(operation) ?? 0;
    return [...this.#calls.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Orders that have not struck. */
  get pending(): number {
    return this.#faults.length;
  }

  /** Takes back what has not struck. */
  clear(): void {
    this.#faults = [];
  }

  get ledger(): Ledger {
    return this.#inner.ledger;
  }
  get pageSize(): number {
    return this.#inner.pageSize;
  }
  close(fd: number): void {
    this.#inner.close(fd);
    this.#strike('close');
  }
  duplicate(fd: number): number {
    return this.#run('duplicate', (sys) => sys.duplicate(fd));
  }
  setNonBlocking(fd: number, on: boolean): void {
    this.#run('setNonBlocking', (sys) => sys.setNonBlocking(fd, on));
  }
  openFlags(fd: number): number {
    return this.#run('openFlags', (sys) => sys.openFlags(fd));
  }
  stat(fd: number): FileFacts {
    return this.#run('stat', (sys) => sys.stat(fd));
  }
  filesystem(fd: number): number {
    return this.#run('filesystem', (sys) => sys.filesystem(fd));
  }
  mountType(fd: number): string | undefined {
    return this.#run('mountType', (sys) => sys.mountType(fd));
  }
  target(fd: number): string {
    return this.#run('target', (sys) => sys.target(fd));
  }
  memfd(name: string): number {
    return this.#run('memfd', (sys) => sys.memfd(name));
  }
  truncate(fd: number, size: bigint): void {
    this.#run('truncate', (sys) => sys.truncate(fd, size));
  }
  addSeals(fd: number, seals: number): void {
    this.#run('addSeals', (sys) => sys.addSeals(fd, seals));
  }
  seals(fd: number): number {
    return this.#run('seals', (sys) => sys.seals(fd));
  }
  pread(fd: number, into: Uint8Array, offset: bigint): number {
    return this.#run('pread', (sys) => sys.pread(fd, into, offset));
  }
  pwrite(fd: number, from: Uint8Array, offset: bigint): number {
    return this.#run('pwrite', (sys) => sys.pwrite(fd, from, offset));
  }
  map(request: MapRequest): MappedRange {
    return this.#run('map', (sys) => sys.map(request));
  }
  view(range: MappedRange, offset: number, length: number): Uint8Array {
    return this.#run('view', (sys) => sys.view(range, offset, length));
  }
  unmap(range: MappedRange, views: readonly Uint8Array[]): void {
    this.#run('unmap', (sys) => sys.unmap(range, views));
  }
  lock(range: MappedRange, offset: number, length: number): void {
    this.#run('lock', (sys) => sys.lock(range, offset, length));
  }
  unlock(range: MappedRange, offset: number, length: number): void {
    this.#run('unlock', (sys) => sys.unlock(range, offset, length));
  }
  socketPair(): readonly [number, number] {
    return this.#run('socketPair', (sys) => sys.socketPair());
  }
  listen(path: string, backlog: number): number {
    return this.#run('listen', (sys) => sys.listen(path, backlog));
  }
  connect(path: string): number {
    return this.#run('connect', (sys) => sys.connect(path));
  }
  accept(fd: number, wait: boolean): number {
    return this.#run('accept', (sys) => sys.accept(fd, wait));
  }
  shutdown(fd: number, how: 'read' | 'write' | 'both'): void {
    this.#run('shutdown', (sys) => sys.shutdown(fd, how));
  }
  socketFacts(fd: number): SocketFacts {
    return this.#run('socketFacts', (sys) => sys.socketFacts(fd));
  }
  send(fd: number, bytes: Uint8Array, fds: readonly number[], wait: boolean): number {
    return this.#run('send', (sys) => sys.send(fd, bytes, fds, wait));
  }
  receive(fd: number, into: Uint8Array, arrival: Arrival, wait: boolean): number {
    return this.#run('receive', (sys) => sys.receive(fd, into, arrival, wait));
  }
  eventfd(initial: number, semaphore: boolean): number {
    return this.#run('eventfd', (sys) => sys.eventfd(initial, semaphore));
  }
  signal(fd: number, value: bigint): boolean {
    return this.#run('signal', (sys) => sys.signal(fd, value));
  }
  drain(fd: number): bigint {
    return this.#run('drain', (sys) => sys.drain(fd));
  }
  poll(set: PollSet, timeout: number): number {
    return this.#run('poll', (sys) => sys.poll(set, timeout));
  }
  yieldCpu(): void {
    this.#run('yieldCpu', (sys) => sys.yieldCpu());
  }
  watch(fd: number, interest: Interest, callback: () => void): Watch {
    return this.#run('watch', (sys) => sys.watch(fd, interest, callback));
  }
  ioctl(fd: number, request: number, argument: Uint8Array | bigint): number {
    return this.#run('ioctl', (sys) => sys.ioctl(fd, request, argument));
  }
  compareFiles(a: number, b: number): boolean | undefined {
    return this.#run('compareFiles', (sys) => sys.compareFiles(a, b));
  }

  #order(operation: SysOperation | undefined, nth: number, errno: ErrnoName): void {
    checkWhole('fail', 'the number of the call', nth, [1, Number.MAX_SAFE_INTEGER]);
    this.#faults.push({ operation, errno: constants.errno[errno], left: nth });
  }

  #run<T>(operation: SysOperation, call: (sys: Sys) => T): T {
    this.#strike(operation);
    return call(this.#inner);
  }

  #strike(operation: SysOperation): void {
    this.#calls.set(operation, this.calls(operation) + 1);
    const meant = this.#faults.filter((fault) => fault.operation === undefined || fault.operation === operation);
    for (const fault of meant) fault.left -= 1;
    const due = meant.find((fault) => fault.left === 0);
    this.#faults = this.#faults.filter((fault) => fault.left > 0);
    if (due !== undefined) throw sysErrors.CALL_FAILED({ call: operation, what: 'injected', errno: due.errno });
  }
}
