import { type GuestMemory, PROT_READ, PROT_WRITE } from '@pinion/core';
import { ByteWindow } from './byte-window.js';
import type { Calls } from './calls.js';
import { COMMAND } from './commands.js';
import type { DeviceHome } from './device-home.js';
import { discard } from './discard.js';
import type { DmaEntry, Owner } from './dma-entry.js';
import { decodeDmaAccess, encodeDmaAccess } from './dma-messages.js';
import { vfioUserErrors } from './errors.js';
import type { Message } from './message.js';
import type { RequestScope } from './request-scope.js';

/**
 * Bytes of answers to DMA_READ that may be on their way at a time. QEMU 11.1.3 sends an answer once and forgets what its socket had
 * no room for (212 992 bytes by default); everything behind that is misread, and the disk hangs.
 */
const ANSWERS = 65_536;

interface InFlight {
  readonly first: bigint;
  readonly last: bigint;
  readonly abandon: (cause: unknown) => void;
}

/**
 * DMA to the memory of one client. What was mapped with a descriptor is copied at once, through the container; the rest goes by
 * DMA_READ and DMA_WRITE messages of at most the client's size, one after the other. Not atomic: what came before a
 * failure stays done.
 *
 * A device must not await this inside a request that its sender waits for unless the memory is shared: VFIOUSER_DMA_IN_REQUEST.
 */
export class GuestDma implements GuestMemory {
  readonly #home: DeviceHome;
  readonly #owner: Owner;
  readonly #calls: Calls;
  readonly #scope: RequestScope;
  readonly #inFlight = new Set<InFlight>();
  readonly #answers = new ByteWindow(ANSWERS);
  /** Most bytes in one message; the client says so in VERSION. */
  maxBytes = 1 << 20;

  constructor(about: { home: DeviceHome; owner: Owner; calls: Calls; scope: RequestScope }) {
    this.#home = about.home;
    this.#owner = about.owner;
    this.#calls = about.calls;
    this.#scope = about.scope;
  }

  /**
   * Fills `bytes` from the client's memory at `address`.
   * @throws VFIOUSER_NO_DMA (EFAULT), VFIOUSER_DMA_IN_REQUEST (EDEADLK), VFIOUSER_DMA_REFUSED (EIO), VFIOUSER_REFUSED with the client's
   * errno, VFIOUSER_TIMEOUT (ETIMEDOUT), VFIOUSER_DISCONNECTED (ENODEV), and the backend's.
   */
  read(address: bigint, bytes: Uint8Array): Promise<void> {
    return this.#each({ address, bytes, prot: PROT_READ }, (at, part) => this.#readMessage(at, part));
  }

  /** Writes `bytes` into the client's memory at `address`. @throws as `read`. */
  write(address: bigint, bytes: Uint8Array): Promise<void> {
    return this.#each({ address, bytes, prot: PROT_WRITE }, (at, part) => this.#writeMessage(at, part));
  }

  /**
   * A mapping goes away: messages about it that the client has not answered are given up. Their sender could not wait: the client
   * does not answer before its unmap is through.
   */
  forget(address: bigint, size: bigint): void {
    for (const { first, last, abandon } of [...this.#inFlight]) {
      if (first < address + size && address <= last) abandon(vfioUserErrors.NO_DMA({ address: first, length: 0 }));
    }
  }

  async #each(
    access: { address: bigint; bytes: Uint8Array; prot: number },
    message: (at: bigint, part: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const { bytes, prot } = access;
    for (let done = 0; done < bytes.length; ) {
      const at = access.address + BigInt(done);
      const entry = this.#entryAt(at, { prot, length: bytes.length - done });
      const part = bytes.subarray(done, done + this.#room(entry, at, prot));
      if (entry.piece.memory !== undefined) this.#home.dma.container.dmaRw(at, part, prot === PROT_WRITE);
      else {
        await message(at, part);
        if (prot === PROT_WRITE) this.#home.dma.dirty.wrote(entry, at, part.length);
      }
      done += part.length;
    }
  }

  /** @throws VFIOUSER_NO_DMA (EFAULT). */
  #entryAt(at: bigint, { prot, length }: { readonly prot: number; readonly length: number }): DmaEntry {
    const entry = this.#home.dma.find(at);
    if (entry !== undefined && (entry.prot & prot) !== 0 && entry.owners.has(this.#owner)) return entry;
    throw vfioUserErrors.NO_DMA({ address: at, length });
  }

  /** Bytes from `at` to the end of its mapping, or to the end of a message. */
  #room(entry: DmaEntry, at: bigint, prot: number): number {
    const rest = entry.address + entry.size - at;
    if (entry.piece.memory !== undefined) return Number(rest);
    const max = BigInt(prot === PROT_READ ? Math.min(this.maxBytes, ANSWERS) : this.maxBytes);
    return Number(rest < max ? rest : max);
  }

  async #readMessage(at: bigint, part: Uint8Array): Promise<void> {
    const { length } = part;
    this.#checkScope(at);
    const turn = this.#answers.take(length);
    if (turn !== undefined) await turn;
    try {
      if (turn !== undefined) this.#entryAt(at, { prot: PROT_READ, length }); // it may have gone meanwhile
      const reply = await this.#send(COMMAND.DMA_READ, at, length);
      const { address, count, data } = this.#decode(reply, true);
      if (address !== at || count !== BigInt(length)) throw wrongAnswer(at);
      part.set(data);
    } finally {
      this.#answers.give(length);
    }
  }

  async #writeMessage(at: bigint, part: Uint8Array): Promise<void> {
    const reply = await this.#send(COMMAND.DMA_WRITE, at, part.length, part);
    const { address, count } = this.#decode(reply, false);
    if (address !== at || count !== BigInt(part.length)) throw wrongAnswer(at);
  }

  async #send(command: number, at: bigint, length: number, data?: Uint8Array): Promise<Message> {
    this.#checkScope(at);
    const { reply, abandon } = this.#calls.start(command, encodeDmaAccess(at, length, data));
    const flight = { first: at, last: at + BigInt(length) - 1n, abandon };
    this.#inFlight.add(flight);
    try {
      return await reply;
    } finally {
      this.#inFlight.delete(flight);
    }
  }

  /** @throws VFIOUSER_DMA_IN_REQUEST (EDEADLK). */
  #checkScope(address: bigint): void {
    const { command } = this.#scope;
    if (command !== undefined) throw vfioUserErrors.DMA_IN_REQUEST({ address, command });
  }

  #decode(reply: Message, carries: boolean): ReturnType<typeof decodeDmaAccess> {
    discard(reply.fds);
    return decodeDmaAccess(reply.command, reply.payload, carries, this.maxBytes);
  }
}

const wrongAnswer = (address: bigint): unknown =>
  vfioUserErrors.DMA_REFUSED({ address, problem: 'the reply is about another address or size' });
