import type { Fd } from '@pinion/sys';
import { HEADER_FLAG } from './commands.js';
import { vfioUserErrors } from './errors.js';
import type { Message } from './message.js';
import { HEADER, type Header } from './structs.js';

/** Bytes that a message may have above the data it transfers: header, fixed part, and the fixed part of what is inside. */
export const MESSAGE_OVERHEAD = 64;

/** Bytes that a descriptor counts for: those of the process are for all its peers. */
const FD_WEIGHT = 8192;
/** Bytes that a message counts for as long as it waits. */
export const weightOf = ({ payload, fds }: Pick<Message<unknown>, 'payload' | 'fds'>): number =>
  payload.length + MESSAGE_OVERHEAD + fds.length * FD_WEIGHT;

const NOTHING = new Uint8Array(0);

/**
 * Cuts a stream into messages, however it was split or batched. The size in a header is checked before anything is
 * allocated for it, and no more is allocated than was announced.
 *
 * Descriptors belong to the last message that begins in the piece they came with: a sender attaches them to the first byte of
 * a message, and a kernel ends a read behind the piece of a stream that carries them. Descriptors that come with a piece in which no
 * message begins belong to nobody.
 */
export class Framer<F = Fd> {
  readonly #maxSize: number;
  readonly #stray: (fds: readonly F[]) => void;
  #head = NOTHING;
  #header: Header | undefined;
  #payload = NOTHING;
  #filled = 0;
  #fds: readonly F[] = [];
  #closed = false;

  /** `maxSize`: most bytes of a message, its header included. `stray`: gets descriptors that belong to no message. */
  constructor(maxSize: number, stray: (fds: readonly F[]) => void) {
    this.#maxSize = maxSize;
    this.#stray = stray;
  }

  /** Bytes of an unfinished message that wait for the rest. */
  get pending(): number {
    return this.#head.length + (this.#header === undefined ? 0 : HEADER.size + this.#filled);
  }

  /**
   * The messages that `bytes` complete, in order. The bytes are the framer's from now on: payloads may be views of them.
   * @throws VFIOUSER_BAD_MESSAGE (EBADMSG) for a header that cannot be: nothing can be read behind it. The messages before
   * it were handed to `deliver`; descriptors of this piece went to `stray`.
   */
  push(bytes: Uint8Array, fds: readonly F[], deliver: (message: Message<F>) => void): void {
    const owner = fds.length === 0 ? -1 : this.#lastStart(bytes);
    if (fds.length > 0 && owner < 0) this.#stray(fds);
    let unowned = owner >= 0;
    // why closed: whoever gets a message may give up because of it, and nobody would take what comes behind.
    for (let at = 0; at < bytes.length && !this.#closed; ) {
      if (unowned && at === owner && this.#header === undefined && this.#head.length === 0) {
        this.#fds = fds;
        unowned = false;
      }
      try {
        at = this.#take(bytes, at, deliver);
      } catch (cause) {
        if (unowned) this.#stray(fds);
        throw cause;
      }
    }
    if (unowned) this.#stray(fds);
  }

  /** Gives up: descriptors of an unfinished message, and of all that still comes, go to `stray`. */
  close(): void {
    this.#closed = true;
    const fds = this.#fds;
    this.#fds = [];
    this.#head = NOTHING;
    this.#header = undefined;
    this.#payload = NOTHING;
    if (fds.length > 0) this.#stray(fds);
  }

  /** Where the last message that begins in `bytes` begins; -1 if none does. */
  #lastStart(bytes: Uint8Array): number {
    let at = this.#restOfCurrent(bytes);
    let last = -1;
    while (at < bytes.length) {
      last = at;
      if (at + HEADER.size > bytes.length) break;
      const size = this.#checkedSize(readHeader(bytes, at));
      if (size === undefined) break;
      at += size;
    }
    return last;
  }

  /** Bytes of `bytes` that belong to the message that is being read. */
  #restOfCurrent(bytes: Uint8Array): number {
    if (this.#header !== undefined) return this.#payload.length - this.#filled;
    if (this.#head.length === 0) return 0;
    const missing = HEADER.size - this.#head.length;
    if (bytes.length < missing) return bytes.length;
    const head = new Uint8Array(HEADER.size);
    head.set(this.#head);
    head.set(bytes.subarray(0, missing), this.#head.length);
    return (this.#checkedSize(readHeader(head, 0)) ?? bytes.length + HEADER.size) - this.#head.length;
  }

  #take(bytes: Uint8Array, at: number, deliver: (message: Message<F>) => void): number {
    if (this.#header === undefined) return this.#takeHeader(bytes, at, deliver);
    const part = bytes.subarray(at, at + this.#payload.length - this.#filled);
    this.#payload.set(part, this.#filled);
    this.#filled += part.length;
    if (this.#filled === this.#payload.length) this.#finish(this.#header, this.#payload, deliver);
    return at + part.length;
  }

  #takeHeader(bytes: Uint8Array, at: number, deliver: (message: Message<F>) => void): number {
    const missing = HEADER.size - this.#head.length;
    if (bytes.length - at < missing) {
      this.#head = Uint8Array.of(...this.#head, ...bytes.subarray(at));
      return bytes.length;
    }
    const whole = this.#head.length === 0;
    const header = whole
      ? readHeader(bytes, at)
      : readHeader(Uint8Array.of(...this.#head, ...bytes.subarray(at, at + missing)), 0);
    this.#head = NOTHING;
    this.#check(header);
    const size = header.size - HEADER.size;
    const start = at + missing;
    if (start + size <= bytes.length) {
      this.#finish(header, bytes.subarray(start, start + size), deliver);
      return start + size;
    }
    this.#header = header;
    this.#payload = new Uint8Array(size);
    this.#filled = 0;
    return start;
  }

  #finish(header: Header, payload: Uint8Array, deliver: (message: Message<F>) => void): void {
    const fds = this.#fds;
    this.#fds = [];
    this.#header = undefined;
    this.#payload = NOTHING;
    const { id, command, flags, error } = header;
    deliver({ id, command, flags, error, payload, fds });
  }

  #checkedSize({ size }: Pick<Header, 'size'>): number | undefined {
    return size < HEADER.size || size > this.#maxSize ? undefined : size;
  }

  #check(header: Header): void {
    const { size, flags } = header;
    const type = flags & HEADER_FLAG.TYPE;
    if (size >= HEADER.size && size <= this.#maxSize && type <= HEADER_FLAG.REPLY) return;
    const bad = (problem: string): unknown => vfioUserErrors.BAD_MESSAGE({ problem });
    if (size < HEADER.size) throw bad(`a message of ${size} bytes is smaller than its header`);
    if (size > this.#maxSize) throw bad(`a message of ${size} bytes; the most is ${this.#maxSize}`);
    throw bad(`message type ${type}`);
  }
}

/** The header's fields, one by one: this is on every message's path. */
function readHeader(bytes: Uint8Array, at: number): Header {
  const { id, command, size, flags, error } = HEADER.fields;
  return {
    id: id.get(bytes, at),
    command: command.get(bytes, at),
    size: size.get(bytes, at),
    flags: flags.get(bytes, at),
    error: error.get(bytes, at),
  };
}
