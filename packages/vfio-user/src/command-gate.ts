import { discard } from './discard.js';
import type { Message } from './message.js';
import type { Transport } from './transport.js';

/** Commands that are carried out at a time; each may need a megabyte for its answer. */
const AT_A_TIME = 16;
/** Bytes of answers that a peer may have left unread when its next command is carried out. */
const ANSWERS_MAX = 2 << 20;
/** Commands that may wait; beyond, nothing more is read. */
const WAITING_MAX = 256;

/**
 * Lets a server's commands in as fast as it takes the answers: 32 bytes ask for a megabyte, and one that asks without end and reads
 * nothing would have all our memory.
 */
export class CommandGate {
  readonly #transport: Pick<Transport, 'waiting' | 'pause' | 'resume'>;
  readonly #carryOut: (command: Message) => Promise<void>;
  #queue: Message[] = [];
  #running = 0;
  #paused = false;

  /** `carryOut` answers over `transport`; it never rejects. */
  constructor(
    transport: Pick<Transport, 'waiting' | 'pause' | 'resume'>,
    carryOut: (command: Message) => Promise<void>,
  ) {
    this.#transport = transport;
    this.#carryOut = carryOut;
  }

  /** A command came. No command of a server comes with descriptors: they are closed, and their number stands in the message. */
  arrived(command: Message): void {
    discard(command.fds);
    this.#queue.push(command);
    this.proceed();
  }

  /** Carries out what may be; to be called when the transport has sent everything. */
  proceed(): void {
    while (this.#running < AT_A_TIME && this.#transport.waiting <= ANSWERS_MAX) {
      const command = this.#queue.shift();
      if (command === undefined) break;
      this.#running += 1;
      void this.#carryOut(command).then(() => {
        this.#running -= 1;
        this.proceed();
      });
    }
    if (this.#queue.length > WAITING_MAX) this.#setPaused(true);
    else if (this.#queue.length === 0) this.#setPaused(false);
  }

  /** The connection is over: what waits is forgotten. */
  close(): void {
    this.#queue = [];
  }

  #setPaused(paused: boolean): void {
    if (this.#paused === paused) return;
    this.#paused = paused;
    if (paused) this.#transport.pause();
    else this.#transport.resume();
  }
}
