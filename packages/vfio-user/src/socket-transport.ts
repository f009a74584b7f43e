import { type Fd, FdInbox, MAX_MESSAGE_FDS, type UnixSocket, type Watch, WOULD_BLOCK } from '@pinion/sys';
import { discard } from './discard.js';
import { vfioUserErrors } from './errors.js';
import { StreamBuffer } from './stream-buffer.js';
import type { Receiver, Transport } from './transport.js';

/** Bytes that one receive may bring at least: a few hundred small messages. */
const CHUNK = 16_384;

interface Unsent {
  readonly bytes: Uint8Array;
  readonly fds: readonly Fd[];
}

/** A UNIX socket on the event loop. Takes ownership of the socket. */
export class SocketTransport implements Transport {
  readonly #socket: UnixSocket;
  readonly #inbox = new FdInbox(MAX_MESSAGE_FDS);
  readonly #buffer = new StreamBuffer(CHUNK);
  #unsent: Unsent[] = [];
  #waiting = 0;
  #receiver: Receiver | undefined;
  #watch: Watch | undefined;
  #paused = false;
  #open = true;

  constructor(socket: UnixSocket) {
    this.#socket = socket;
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

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch?.stop();
    this.#watch = undefined;
    discard(this.#unsent.flatMap(({ fds }) => fds));
    this.#unsent = [];
    this.#waiting = 0;
    discard([this.#inbox, this.#socket]);
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
    if (this.#open && !this.#paused) this.#receive();
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

  #receive(): void {
    let count: number;
    try {
      count = this.#socket.tryReceive(this.#buffer.room(), this.#inbox);
    } catch (cause) {
      this.#end(cause);
      return;
    }
    if (count === WOULD_BLOCK) return;
    if (this.#inbox.truncated) {
      this.#end(vfioUserErrors.BAD_MESSAGE({ problem: 'descriptors that came with it were lost' }));
    } else if (count === 0) {
      this.#end();
    } else {
      this.#receiver?.received(this.#buffer.take(count), this.#inbox.take());
    }
  }

  #end(cause?: unknown): void {
    const receiver = this.#receiver;
    this.close();
    receiver?.closed(cause);
  }
}
