import type { Clock } from '@pinion/core';
import type { Fd } from '@pinion/sys';
import { HEADER_FLAG } from './commands.js';
import { discard } from './discard.js';
import { refused, vfioUserErrors } from './errors.js';
import { isError, type Message } from './message.js';
import type { Head } from './outbox.js';

interface Pending {
  readonly command: number;
  readonly resolve: (reply: Message) => void;
  readonly reject: (cause: unknown) => void;
  readonly cancelTimer: () => void;
}

/** What takes a message to the peer. */
type Send = (head: Head, payload: Uint8Array, fds: readonly Fd[]) => void;

const IDS = 0x1_0000;

/** The commands that one side of a connection has sent, and their replies, which may come in any order. */
export class Calls {
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #send: Send;
  readonly #pending = new Map<number, Pending>();
  /** Given up; a reply that still comes is passed over. */
  readonly #abandoned = new Set<number>();
  #next = 0;
  #ended: { readonly cause: unknown } | undefined;

  /** `limit`: milliseconds that a peer has for a reply; 0: no limit. */
  constructor(about: { clock: Clock; limit: number; send: Send }) {
    this.#clock = about.clock;
    this.#limit = about.limit;
    this.#send = about.send;
  }

  /** Commands that wait for a reply. */
  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Sends a command; settles with its reply, whose descriptors are the caller's.
   * @throws VFIOUSER_REFUSED with the peer's errno, VFIOUSER_TIMEOUT (ETIMEDOUT), VFIOUSER_DISCONNECTED (ENODEV), VFIOUSER_UNANSWERED (EBUSY).
   */
  call(command: number, payload: Uint8Array, fds: readonly Fd[] = []): Promise<Message> {
    return this.start(command, payload, fds).reply;
  }

  /** The same, with a way to give up: the reply is then rejected with `cause`, and passed over when it comes. */
  start(
    command: number,
    payload: Uint8Array,
    fds: readonly Fd[] = [],
  ): { readonly reply: Promise<Message>; readonly abandon: (cause: unknown) => void } {
    if (this.#ended !== undefined) return { reply: Promise.reject(this.#ended.cause), abandon: () => {} };
    const id = this.#freeId();
    if (id === undefined) return { reply: Promise.reject(vfioUserErrors.UNANSWERED({ command })), abandon: () => {} };
    const reply = new Promise<Message>((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject, cancelTimer: this.#startTimer(id, command) });
    });
    this.#send({ id, command, flags: 0, error: 0 }, payload, fds);
    return { reply, abandon: (cause) => this.#abandon(id, cause) };
  }

  /** Sends a command that nobody answers. */
  post(command: number, payload: Uint8Array): void {
    if (this.#ended !== undefined) return;
    this.#send({ id: this.#freeId() ?? this.#next, command, flags: HEADER_FLAG.NO_REPLY, error: 0 }, payload, []);
  }

  /** A reply came. @returns false for one that nobody asked for: the peer is broken. */
  settle(reply: Message): boolean {
    if (this.#abandoned.delete(reply.id)) {
      discard(reply.fds);
      return true;
    }
    const pending = this.#pending.get(reply.id);
    if (pending === undefined || pending.command !== reply.command) return false;
    this.#pending.delete(reply.id);
    pending.cancelTimer();
    if (isError(reply)) {
      discard(reply.fds);
      pending.reject(refused(reply.command, reply.error));
    } else pending.resolve(reply);
    return true;
  }

  /** The connection is over: everything that waits fails with `cause`, and so does everything later. */
  end(cause: unknown): void {
    this.#ended ??= { cause };
    for (const id of [...this.#pending.keys()]) this.#abandon(id, cause);
    this.#abandoned.clear();
  }

  #abandon(id: number, cause: unknown): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#abandoned.add(id);
    pending.cancelTimer();
    pending.reject(cause);
  }

  #startTimer(id: number, command: number): () => void {
    if (this.#limit === 0) return () => {};
    const milliseconds = this.#limit;
    return this.#clock.after(milliseconds, () => this.#abandon(id, vfioUserErrors.TIMEOUT({ command, milliseconds })));
  }

  /** @returns undefined when the peer owes an answer for every id that there is. */
  #freeId(): number | undefined {
    if (this.#pending.size + this.#abandoned.size >= IDS) return undefined;
    while (this.#pending.has(this.#next) || this.#abandoned.has(this.#next)) this.#next = (this.#next + 1) % IDS;
    const id = this.#next;
    this.#next = (this.#next + 1) % IDS;
    return id;
  }
}
