import { checkFd, sysErrors } from './errors.js';
import type { Interest } from './sys.js';

/** Bits of poll(2). Source: asm-generic/poll.h. */
export const POLL = { IN: 0x1, OUT: 0x4, ERR: 0x8, HUP: 0x10, NVAL: 0x20 } as const;

/** Bytes of a struct pollfd: i32 fd, i16 events, i16 revents. */
const ENTRY = { size: 8, fd: 0, events: 4, revents: 6 } as const;

const eventsOf = (interest: Interest): number =>
  (interest.readable === true ? POLL.IN : 0) | (interest.writable === true ? POLL.OUT : 0);

/** The fds that one `Sys.poll` waits for, laid out once and used again and again. Holds numbers: it owns no fd. */
export class PollSet {
  /** The array of struct pollfd, little endian. */
  readonly bytes: Uint8Array;
  readonly #fields: DataView;

  /** @throws SysError SYS_BAD_ARGUMENT (EINVAL) for an empty set or a bad fd. */
  constructor(entries: readonly { readonly fd: number; readonly interest: Interest }[]) {
    if (entries.length === 0) {
      throw sysErrors.BAD_ARGUMENT({
        operation: 'poll',
        what: 'the set',
        value: 'empty',
        wanted: 'of one fd or more',
      });
    }
    const buffer = new ArrayBuffer(entries.length * ENTRY.size);
    this.bytes = new Uint8Array(buffer);
    this.#fields = new DataView(buffer);
    for (const [i, { fd, interest }] of entries.entries()) {
      checkFd('poll', fd);
      this.#fields.setInt32(i * ENTRY.size + ENTRY.fd, fd, true);
      this.#fields.setInt16(i * ENTRY.size + ENTRY.events, eventsOf(interest), true);
    }
  }

  get size(): number {
    return this.bytes.length / ENTRY.size;
  }
  fd(index: number): number {
    return this.#fields.getInt32(index * ENTRY.size + ENTRY.fd, true);
  }
  /** The bits asked for. */
  events(index: number): number {
    return this.#fields.getInt16(index * ENTRY.size + ENTRY.events, true);
  }
  /** The bits of `POLL` that the last poll found; ERR, HUP and NVAL come unasked. */
  ready(index: number): number {
    return this.#fields.getInt16(index * ENTRY.size + ENTRY.revents, true);
  }
  /** For implementations of `Sys`. */
  setReady(index: number, bits: number): void {
    this.#fields.setInt16(index * ENTRY.size + ENTRY.revents, bits, true);
  }
}
