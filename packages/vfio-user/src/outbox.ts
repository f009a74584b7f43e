import type { Fd } from '@pinion/sys';
import type { Message } from './message.js';
import { StreamBuffer } from './stream-buffer.js';
import { HEADER } from './structs.js';
import type { Transport } from './transport.js';

/**
 * Bytes that go out in one send. A UNIX socket cuts longer sends into pieces, and a peer that reads a header in two pieces may
 * give up, so whole messages are joined up to this size only.
 */
const BATCH = 16_384;
/** Bytes up to which a loop copies faster than a call. */
const SHORT = 32;
const NONE: readonly Fd[] = [];
const NOTHING = new Uint8Array(0);

/** A message's header without its size. */
export type Head = Pick<Message, 'id' | 'command' | 'flags' | 'error'>;

/** Messages on their way out, in order: small ones leave together, one with descriptors always begins a send of its own. */
export class Outbox {
  readonly #transport: Transport;
  readonly #buffer = new StreamBuffer(BATCH);
  #room: Uint8Array = NOTHING;
  #size = 0;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Keeps a message until `flush`, or sends it. Its payload is `first` with `second` behind it. `fds` stay the caller's. */
  add(head: Head, first: Uint8Array, second: Uint8Array = NOTHING, fds: readonly Fd[] = NONE): void {
    const size = HEADER.size + first.length + second.length;
    if (size > BATCH) {
      this.flush();
      const bytes = new Uint8Array(size);
      write(bytes, 0, head, first, second);
      this.#transport.send(bytes, fds);
      return;
    }
    if (fds.length > 0 || this.#size + size > BATCH) this.flush();
    if (this.#size === 0) this.#room = this.#buffer.room();
    write(this.#room, this.#size, head, first, second);
    this.#size += size;
    if (fds.length > 0) this.#send(fds);
  }

  /** Sends a message after all that wait. */
  now(head: Head, payload: Uint8Array, fds: readonly Fd[] = NONE): void {
    this.add(head, payload, NOTHING, fds);
    this.flush();
  }

  flush(): void {
    if (this.#size > 0) this.#send(NONE);
  }

  #send(fds: readonly Fd[]): void {
    const bytes = this.#buffer.take(this.#size);
    this.#size = 0;
    this.#transport.send(bytes, fds);
  }
}

function write(bytes: Uint8Array, at: number, head: Head, first: Uint8Array, second: Uint8Array): void {
  const { id, command, size, flags, error } = HEADER.fields;
  id.put(bytes, at, head.id);
  command.put(bytes, at, head.command);
  size.put(bytes, at, HEADER.size + first.length + second.length);
  flags.put(bytes, at, head.flags);
  error.put(bytes, at, head.error);
  copy(first, bytes, at + HEADER.size);
  copy(second, bytes, at + HEADER.size + first.length);
}

function copy(from: Uint8Array, into: Uint8Array, at: number): void {
  if (from.length > SHORT) into.set(from, at);
  else for (let i = 0; i < from.length; i += 1) into[at + i] = from[i] ?? 0;
}
