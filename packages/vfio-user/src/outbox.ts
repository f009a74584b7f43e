import type { Fd } from '@pinion/sys';
import { joined } from './sizes.js';
import type { Transport } from './transport.js';

/**
 * Bytes that go out in one send. A UNIX socket cuts longer sends into pieces, and a peer that reads a header in two pieces may
 * give up, so whole messages are joined up to this size only.
 */
const BATCH = 16_384;

/** Messages on their way out, in order: small ones leave together, one with descriptors always begins a send of its own. */
export class Outbox {
  readonly #transport: Transport;
  #batch: Uint8Array[] = [];
  #size = 0;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Keeps a message until `flush`, or sends it. `fds` stay the caller's. */
  add(bytes: Uint8Array, fds: readonly Fd[] = []): void {
    if (fds.length > 0 || bytes.length > BATCH) {
      this.flush();
      this.#transport.send(bytes, fds);
      return;
    }
    if (this.#size + bytes.length > BATCH) this.flush();
    this.#batch.push(bytes);
    this.#size += bytes.length;
  }

  /** Sends a message after all that wait. */
  now(bytes: Uint8Array, fds: readonly Fd[] = []): void {
    this.add(bytes, fds);
    this.flush();
  }

  flush(): void {
    const [first] = this.#batch;
    if (first === undefined) return;
    const bytes = this.#batch.length === 1 ? first : joined(this.#batch);
    this.#batch = [];
    this.#size = 0;
    this.#transport.send(bytes);
  }
}
