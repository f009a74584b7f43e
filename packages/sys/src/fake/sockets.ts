import { constants } from 'node:os';
import { failure } from './memory.js';

const { EPIPE, ENOTCONN } = constants.errno;
/** Bytes that wait for a reader before a sender would block: about what Linux has. */
const BUFFER = 212_992;

/** One send: its bytes that were not read yet, and what rides on their first byte. */
interface Packet<F> {
  bytes: Uint8Array;
  fds: readonly F[];
}

/** What a receive takes from a stream. */
export interface Taken<F> {
  readonly count: number;
  readonly fds: readonly F[];
}

/** One end of a UNIX stream in memory. `F`: what an fd in flight is. */
export class FakeStream<F> {
  readonly kind = 'socket';
  readonly target: string;
  readonly inode: bigint;
  peer: FakeStream<F> | undefined;
  #queue: Packet<F>[] = [];
  #readShut = false;
  #writeShut = false;

  constructor(inode: bigint) {
    this.inode = inode;
    this.target = `socket:[${inode}]`;
  }

  static pair<F>(inode: bigint): readonly [FakeStream<F>, FakeStream<F>] {
    const ends = [new FakeStream<F>(inode), new FakeStream<F>(inode + 1n)] as const;
    ends[0].peer = ends[1];
    ends[1].peer = ends[0];
    return ends;
  }

  get readable(): boolean {
    return this.#queue.length > 0 || this.ended;
  }
  get writable(): boolean {
    return this.#brokenPipe || this.#room > 0;
  }
  get hungUp(): boolean {
    return this.peer === undefined;
  }
  /** Whether nothing more will come. */
  get ended(): boolean {
    return this.peer === undefined || this.peer.#writeShut || this.#readShut;
  }
  get #brokenPipe(): boolean {
    return this.peer === undefined || this.#writeShut || this.peer.#readShut;
  }
  get #waiting(): number {
    return this.#queue.reduce((sum, packet) => sum + packet.bytes.length, 0);
  }
  get #room(): number {
    return this.peer === undefined ? BUFFER : BUFFER - this.peer.#waiting;
  }

  /** @returns bytes taken; 0 if it would have to wait. */
  send(bytes: Uint8Array, fds: () => readonly F[]): number {
    const { peer } = this;
    if (peer === undefined || this.#brokenPipe) throw failure('sendmsg', EPIPE);
    const count = Math.min(bytes.length, this.#room);
    if (count > 0) peer.#queue.push({ bytes: bytes.slice(0, count), fds: fds() });
    return count;
  }

  /** Takes bytes up to the end of the first packet that carries fds. */
  receive(into: Uint8Array): Taken<F> {
    let count = 0;
    for (let packet = this.#queue[0]; packet !== undefined && count < into.length; packet = this.#queue[0]) {
      const part = packet.bytes.subarray(0, into.length - count);
      into.set(part, count);
      count += part.length;
      const { fds } = packet;
      packet.bytes = packet.bytes.subarray(part.length);
      packet.fds = [];
      if (packet.bytes.length === 0) this.#queue.shift();
      if (fds.length > 0) return { count, fds };
    }
    return { count, fds: [] };
  }

  shutdown(how: 'read' | 'write' | 'both'): void {
    if (this.peer === undefined) throw failure('shutdown', ENOTCONN);
    if (how !== 'write') this.#readShut = true;
    if (how !== 'read') this.#writeShut = true;
  }

  /** The last fd of this end is closed. @returns the fds that nobody will receive. */
  end(): readonly F[] {
    if (this.peer !== undefined) this.peer.peer = undefined;
    this.peer = undefined;
    const lost = this.#queue.flatMap((packet) => packet.fds);
    this.#queue = [];
    return lost;
  }
}

/** A listening socket in memory. */
export class FakeListener<F> {
  readonly kind = 'socket';
  readonly path: string;
  readonly inode: bigint;
  readonly target: string;
  readonly writable = false;
  readonly hungUp = false;
  readonly backlog: number;
  readonly pending: FakeStream<F>[] = [];

  constructor(path: string, backlog: number, inode: bigint) {
    this.path = path;
    this.backlog = backlog;
    this.inode = inode;
    this.target = `socket:[${inode}]`;
  }

  get readable(): boolean {
    return this.pending.length > 0;
  }
}
