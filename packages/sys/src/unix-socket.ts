import { checkWhole, sysErrors } from './errors.js';
import { closeAll, Fd } from './fd.js';
import { type Arrival, MAX_MESSAGE_FDS, type SocketFacts, type Sys, WOULD_BLOCK } from './sys.js';

/**
 * Where received fds land, as owners. One per connection, used for every receive. It owns what is in it until `take`.
 */
export class FdInbox {
  /** For `Sys.receive`. */
  readonly arrival: Arrival;
  #held: Fd[] = [];

  /** `limit`: how many fds one receive may bring, 0..253; more are a truncation. @throws SysError SYS_BAD_ARGUMENT (EINVAL). */
  constructor(limit: number) {
    checkWhole('receive', 'the limit of fds', limit, [0, MAX_MESSAGE_FDS]);
    this.arrival = { limit, fds: [], truncated: false };
  }

  /** How many fds wait to be taken. */
  get size(): number {
    return this.#held.length;
  }

  /** True when the last receive lost fds: all that came with it are closed. Only that receive is told of it. */
  get truncated(): boolean {
    return this.arrival.truncated;
  }

  /** Hands over all fds that came, oldest first; the caller closes them. */
  take(): Fd[] {
    const fds = this.#held;
    this.#held = [];
    return fds;
  }

  /** Closes what nobody took. */
  close(): void {
    closeAll(this.take());
  }

  /** For `UnixSocket.receive`: makes owners of what just arrived. */
  adopt(sys: Sys, label: string): void {
    for (const fd of this.arrival.fds) this.#held.push(new Fd(sys, fd, `fd received on ${label}`));
    this.arrival.fds = [];
  }
}

/** A connected UNIX stream socket that passes fds, which node:net cannot. */
export class UnixSocket {
  readonly fd: Fd;

  /** Takes ownership of a connected socket. */
  constructor(fd: Fd) {
    this.fd = fd;
  }

  /** Two sockets connected to each other. @throws SysError SYS_CALL_FAILED (EMFILE). */
  static pair(sys: Sys, label = 'socket pair'): readonly [UnixSocket, UnixSocket] {
    const [a, b] = sys.socketPair();
    return [new UnixSocket(new Fd(sys, a, `${label} (a)`)), new UnixSocket(new Fd(sys, b, `${label} (b)`))];
  }

  /**
   * Connects to a listening socket. @throws SysError SYS_CALL_FAILED (ENOENT, ECONNREFUSED, EACCES, EAGAIN: its queue is
   * full), SYS_BAD_ARGUMENT (EINVAL).
   */
  static connect(sys: Sys, path: string): UnixSocket {
    return new UnixSocket(new Fd(sys, sys.connect(path), `connection to ${path}`));
  }

  /** Takes over an fd from outside, for instance `--fd`. @throws SysError SYS_BAD_ARGUMENT (EINVAL): no connected UNIX stream socket; the fd stays the caller's. */
  static adopt(fd: Fd): UnixSocket {
    const facts = fd.sys.socketFacts(fd.number);
    if (!facts.unixStream || facts.listening) {
      const wanted = 'a connected UNIX stream socket';
      throw sysErrors.BAD_ARGUMENT({ operation: 'adopt', what: 'the fd', value: fd.label, wanted });
    }
    return new UnixSocket(fd);
  }

  get facts(): SocketFacts {
    return this.fd.sys.socketFacts(this.fd.number);
  }

  /**
   * Sends without waiting. @returns bytes accepted, fds with the first of them; WOULD_BLOCK: nothing has gone.
   * @throws SysError SYS_CALL_FAILED (EPIPE, ECONNRESET, ETOOMANYREFS: too many fds in flight, EBADF), SYS_BAD_ARGUMENT (EINVAL).
   */
  trySend(bytes: Uint8Array, fds: readonly Fd[] = NONE): number {
    return this.fd.sys.send(this.fd.number, bytes, numbers(fds), false);
  }

  /** Sends everything, and waits as long as that takes: for workers. @throws as `trySend`. */
  send(bytes: Uint8Array, fds: readonly Fd[] = NONE): void {
    const { sys, number } = this.fd;
    let done = sys.send(number, bytes, numbers(fds), true);
    if (done === WOULD_BLOCK) throw nonBlocking('send', this.fd);
    while (done < bytes.length) {
      const count = sys.send(number, bytes.subarray(done), [], true);
      if (count === WOULD_BLOCK) throw nonBlocking('send', this.fd);
      done += count;
    }
  }

  /**
   * Receives without waiting; fds land in `inbox`. See `Sys.receive` for where in the bytes they belong.
   * @returns bytes, 0 when the peer has closed, WOULD_BLOCK. @throws SysError SYS_CALL_FAILED (ECONNRESET, EBADF).
   */
  tryReceive(into: Uint8Array, inbox: FdInbox): number {
    return this.#receive(into, inbox, false);
  }

  /** Receives, and waits for it: for workers, after a `poll`. @throws as `tryReceive`. */
  receive(into: Uint8Array, inbox: FdInbox): number {
    const count = this.#receive(into, inbox, true);
    if (count === WOULD_BLOCK) throw nonBlocking('receive', this.fd);
    return count;
  }

  /** Ends one or both directions; wakes whoever waits. @throws SysError SYS_CALL_FAILED (ENOTCONN). */
  shutdown(how: 'read' | 'write' | 'both' = 'both'): void {
    this.fd.sys.shutdown(this.fd.number, how);
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #receive(into: Uint8Array, inbox: FdInbox, wait: boolean): number {
    const count = this.fd.sys.receive(this.fd.number, into, inbox.arrival, wait);
    if (inbox.arrival.fds.length > 0) inbox.adopt(this.fd.sys, this.fd.label);
    return count;
  }
}

/** A listening UNIX stream socket. The caller removes the path: only he knows whether it is his. */
export class UnixListener {
  readonly fd: Fd;

  /** Takes ownership of a listening socket. */
  constructor(fd: Fd) {
    this.fd = fd;
  }

  /** @throws SysError SYS_CALL_FAILED (EADDRINUSE, EACCES, ENOENT), SYS_BAD_ARGUMENT (EINVAL). */
  static listen(sys: Sys, path: string, backlog = 16): UnixListener {
    return new UnixListener(new Fd(sys, sys.listen(path, backlog), `listener on ${path}`));
  }

  /** Takes over an fd from outside, as systemd passes it. @throws SysError SYS_BAD_ARGUMENT (EINVAL): not a listening UNIX stream socket. */
  static adopt(fd: Fd): UnixListener {
    const facts = fd.sys.socketFacts(fd.number);
    if (!facts.unixStream || !facts.listening) {
      const wanted = 'a listening UNIX stream socket';
      throw sysErrors.BAD_ARGUMENT({ operation: 'adopt', what: 'the fd', value: fd.label, wanted });
    }
    return new UnixListener(fd);
  }

  /** The next connection, or undefined if none waits. @throws SysError SYS_CALL_FAILED (EMFILE, EBADF). */
  tryAccept(label = `client of ${this.fd.label}`): UnixSocket | undefined {
    const { sys, number } = this.fd;
    const accepted = sys.accept(number, false);
    return accepted === WOULD_BLOCK ? undefined : new UnixSocket(new Fd(sys, accepted, label));
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const NONE: readonly Fd[] = [];
const NO_NUMBERS: readonly number[] = [];
const numbers = (fds: readonly Fd[]): readonly number[] => (fds.length === 0 ? NO_NUMBERS : fds.map((fd) => fd.number));

/** Somebody who shares the open file made it non-blocking. */
const nonBlocking = (operation: string, fd: Fd): Error =>
  sysErrors.BAD_ARGUMENT({ operation, what: fd.label, value: 'non-blocking', wanted: 'blocking, to wait for it' });
