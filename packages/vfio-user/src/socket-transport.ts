import { type Fd, FdInbox, MAX_MESSAGE_FDS, SysError, type UnixSocket, type Watch, WOULD_BLOCK } from '@pinion/sys';
import { discard } from './discard.js';
import { vfioUserErrors } from './errors.js';
import { StreamBuffer } from './stream-buffer.js';
import type { Receiver, Transport } from './transport.js';

/** Bytes that one receive may bring at least: a few hundred small messages. */
const CHUNK = 16_384;

/** Receives before other work of the event loop gets its turn. */
const IN_A_ROW = 32;

export interface SocketTransportOptions {
  /**
   * How many times to look for the next message, yielding the CPU in between, before going back to the event loop (about a microsecond each). A
   * client that waits for every reply is served in two thirds of the time, several times faster on a CPU of its own; timers and
   * other sockets of the process wait meanwhile, and the CPU is busy. Default 0.
   */
  readonly spin?: number;
}

interface Unsent {
  readonly bytes: Uint8Array;
  readonly fds: readonly Fd[];
}

/** A UNIX socket on the event loop. Takes ownership of the socket. */
export class SocketTransport implements Transport {
  readonly #socket: UnixSocket;
  readonly #spin: number;
  readonly #inbox = new FdInbox(MAX_MESSAGE_FDS);
  readonly #buffer = new StreamBuffer(CHUNK);
  #unsent: Unsent[] = [];
  #waiting = 0;
  #receiver: Receiver | undefined;
  #watch: Watch | undefined;
  #paused = false;
  /** The last receive may have left something. */
  #more = false;
  /** Times that something was received since the event loop had its turn. */
  #row = 0;
  #open = true;

  constructor(socket: UnixSocket, { spin = 0 }: SocketTransportOptions = {}) {
    this.#socket = socket;
    this.#spin = spin;
  }

  get waiting(): number {
    return this.#waiting;
  }

  start(receiver: Receiver): void {
    this.#receiver = receiver;
    this.#rewatch();
  }

  send(bytes: Uint8Array, fds: readonly Fd[] = []): void {
    if (!this.#open) return;
    const taken = this.#unsent.length > 0 ? 0 : this.#trySend(bytes, fds);
    if (taken === bytes.length || !this.#open) return;
    const kept = taken > 0 ? [] : this.#keep(fds);
    if (kept === undefined) return;
    this.#unsent.push({ bytes: bytes.subarray(taken), fds: kept });
    this.#waiting += bytes.length - taken;
    this.#rewatch();
  }

  pause(): void {
    this.#paused = true;
    this.#rewatch();
  }

  resume(): void {
    this.#paused = false;
    this.#rewatch();
  }

  /** Goes on receiving as long as messages follow each other and nothing needs the event loop. */
  proceed(): void {
    const { sys } = this.#socket.fd;
    for (let tries = 0; this.#row < IN_A_ROW && tries < this.#spin; ) {
      if (!this.#open || this.#paused || this.#unsent.length > 0 || this.#receiver?.idle?.() !== true) return;
      sys.yieldCpu(); // first: the client has its answer, and may be waiting for this CPU
      if (this.#receiveAll()) {
        this.#row += 1;
        tries = 0;
      } else tries += 1;
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch?.stop();
    this.#watch = undefined;
    discard(this.#unsent.flatMap(({ fds }) => fds));
    this.#unsent = [];
    this.#waiting = 0;
    this.#drain();
    discard([this.#inbox, this.#socket]);
  }

  /**
   * Reads what the peer has sent: a socket that is closed over unread bytes resets the connection instead of ending it, and QEMU 11.1
   * aborts at that. Nothing comes behind a shutdown, so there is an end to it.
   */
  #drain(): void {
    try {
      this.#socket.shutdown();
      while (this.#socket.tryReceive(this.#buffer.room(), this.#inbox) > 0) discard(this.#inbox.take());
    } catch (cause) {
      if (!(cause instanceof SysError)) throw cause; // why: the peer has gone already, and there is nobody to spare
    }
  }

  /** One watch says both: a descriptor can be watched once. */
  #rewatch(): void {
    this.#watch?.stop();
    this.#watch = undefined;
    if (!this.#open || this.#receiver === undefined) return;
    const interest = { readable: !this.#paused, writable: this.#unsent.length > 0 };
    if (!interest.readable && !interest.writable) return;
    const { fd } = this.#socket;
    try {
      this.#watch = fd.sys.watch(fd.number, interest, () => this.#ready());
    } catch (cause) {
      this.#end(cause);
    }
  }

  #ready(): void {
    if (this.#unsent.length > 0) this.#flush();
    if (!this.#open || this.#paused) return;
    this.#row = 0;
    this.#receiveAll();
    this.proceed();
  }

  /** Receives what is there; a kernel ends a receive behind each piece that carries descriptors. */
  #receiveAll(): boolean {
    let some = false;
    this.#more = true;
    for (let n = 0; this.#more && n < IN_A_ROW && this.#open && !this.#paused; n += 1) some = this.#receive() || some;
    if (some && this.#open) this.#receiver?.quiet();
    return some;
  }

  #flush(): void {
    for (let next = this.#unsent[0]; next !== undefined; next = this.#unsent[0]) {
      const taken = this.#trySend(next.bytes, next.fds);
      if (!this.#open) return;
      if (taken > 0) discard(next.fds);
      this.#waiting -= taken;
      if (taken < next.bytes.length) {
        if (taken > 0) this.#unsent[0] = { bytes: next.bytes.subarray(taken), fds: [] };
        return;
      }
      this.#unsent.shift();
    }
    this.#rewatch();
    this.#receiver?.drained();
  }

  /** Descriptors of our own for what must wait; undefined if there can be none: then the connection is over. */
  #keep(fds: readonly Fd[]): readonly Fd[] | undefined {
    const kept: Fd[] = [];
    try {
      for (const fd of fds) kept.push(fd.duplicate());
      return kept;
    } catch (cause) {
      discard(kept);
      this.#end(cause);
      return undefined;
    }
  }

  /** @returns bytes that have gone: 0 when the socket is full. */
  #trySend(bytes: Uint8Array, fds: readonly Fd[]): number {
    try {
      const count = this.#socket.trySend(bytes, fds);
      return count === WOULD_BLOCK ? 0 : count;
    } catch (cause) {
      this.#end(cause);
      return 0;
    }
  }

  /** @returns whether there was something. */
  #receive(): boolean {
    let count: number;
    const room = this.#buffer.room();
    try {
      count = this.#socket.tryReceive(room, this.#inbox);
    } catch (cause) {
      this.#end(cause);
      return false;
    }
    this.#more = this.#inbox.size > 0 || count === room.length;
    if (count === WOULD_BLOCK) return false;
    if (this.#inbox.truncated) {
      this.#end(vfioUserErrors.BAD_MESSAGE({ problem: 'descriptors that came with it were lost' }));
    } else if (count === 0) {
      this.#end();
    } else {
      this.#receiver?.received(this.#buffer.take(count), this.#inbox.take());
    }
    return true;
  }

  #end(cause?: unknown): void {
    const receiver = this.#receiver;
    this.close();
    receiver?.closed(cause);
  }
}
