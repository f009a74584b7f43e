import type { JsonWebKey } from 'node:crypto';
import {
  type Apqn,
  aqicRegister1,
  decodeReply,
  encodeRequest,
  formatApqn,
  PQAP_FUNCTION,
  pqapRegister0,
} from '@pinion/ap';
import { PAGE_SIZE } from '@pinion/core';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
import { Turns } from './turns.js';

/** DER of DigestInfo for SHA-256, without the digest. Source: RFC 8017, 9.2, note 1. */
const SHA256_PREFIX = Uint8Array.from([
  0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
]);
const DIGEST_BYTES = 32;
/** 00 01 in front, 00 behind the padding, and at least eight bytes of padding. */
const PADDING_OVERHEAD = 11;

/** The padded message that RSASSA-PKCS1-v1_5 signs, as long as the modulus. Source: RFC 8017, 9.2. @throws VM_BAD_KEY (EINVAL). */
export function padDigest(digest: Uint8Array, modulusBytes: number): Uint8Array {
  const info = SHA256_PREFIX.length + DIGEST_BYTES;
  if (digest.length !== DIGEST_BYTES || modulusBytes < info + PADDING_OVERHEAD) {
    throw vmErrors.BAD_KEY({
      problem: `${digest.length} bytes of digest do not fit a modulus of ${modulusBytes} bytes`,
    });
  }
  const message = new Uint8Array(modulusBytes).fill(0xff);
  message.set([0, 1]);
  message[modulusBytes - info - 1] = 0;
  message.set(SHA256_PREFIX, modulusBytes - info);
  message.set(digest, modulusBytes - DIGEST_BYTES);
  return message;
}

/**
 * A guest's driver for one queue of a crypto card: asks for an interrupt through the notification byte, puts RSA messages into
 * the queue and takes the replies. A guest has one such driver: it takes every adapter interrupt. The private key never leaves guest memory but through the queue.
 */
export class CryptoDriver {
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #apqn: Apqn;
  readonly #nib: bigint;
  readonly #messages = new Turns();
  #psmid = 0n;

  private constructor(machine: GuestMachine, heap: GuestHeap, apqn: Apqn) {
    this.#machine = machine;
    this.#heap = heap;
    this.#apqn = apqn;
    this.#nib = heap.allocate(PAGE_SIZE);
  }

  /** Turns the queue's interrupts on, on subclass `isc`. @throws VM_NO_QUEUE (ENODEV) with the response code. */
  static start(machine: GuestMachine, heap: GuestHeap, queue: { apqn: Apqn; isc: number }): CryptoDriver {
    const driver = new CryptoDriver(machine, heap, queue.apqn);
    driver.#aqic(aqicRegister1(queue.isc));
    return driver;
  }

  /** Guest-physical address of the notification byte. */
  get nib(): bigint {
    return this.#nib;
  }

  /**
   * Signs a SHA-256 digest with an RSA key (a private JWK) on the card: RSASSA-PKCS1-v1_5.
   * @throws VM_BAD_KEY (EINVAL), VM_CRYPTO_FAILED (EIO) with the card's reply code, VM_KILLED while waiting.
   */
  async sign(digest: Uint8Array, key: JsonWebKey): Promise<Uint8Array> {
    const part = (value: string | undefined): Uint8Array => {
      if (value === undefined) throw vmErrors.BAD_KEY({ problem: 'it is no private RSA key' });
      return Buffer.from(value, 'base64url');
    };
    const crt = { p: part(key.p), q: part(key.q), dp: part(key.dp), dq: part(key.dq), u: part(key.qi) };
    const message = padDigest(digest, part(key.n).length);
    const reply = decodeReply(await this.exchange(encodeRequest({ form: 'CRT', ...crt, message })));
    if (!reply.ok) throw vmErrors.CRYPTO_FAILED({ queue: formatApqn(this.#apqn), code: reply.code });
    return reply.result.slice(reply.result.length - message.length);
  }

  /** Sends a message and waits for its reply; several calls take turns. @throws VM_NO_QUEUE (ENODEV), VM_UNPLUGGED, VM_KILLED while waiting. */
  async exchange(message: Uint8Array): Promise<Uint8Array> {
    return this.#messages.run(() => this.#exchange(message));
  }

  async #exchange(message: Uint8Array): Promise<Uint8Array> {
    const buffer = this.#heap.allocate(Math.max(message.length, PAGE_SIZE));
    try {
      this.#machine.memory.write(buffer, message);
      this.#psmid += 1n;
      const sent = this.#machine.crypto.nqap(this.#apqn, { psmid: this.#psmid, at: buffer, length: message.length });
      if (sent?.cc !== 0) throw vmErrors.NO_QUEUE({ queue: formatApqn(this.#apqn), code: sent?.status.code });
      return await this.#takeReply(buffer);
    } finally {
      this.#heap.free(buffer);
    }
  }

  /** Turns the interrupts off and gives the page of the notification byte back. */
  stop(): void {
    this.#aqic(0n);
    this.#heap.free(this.#nib);
  }

  async #takeReply(buffer: bigint): Promise<Uint8Array> {
    const { memory, crypto } = this.#machine;
    for (;;) {
      await crypto.adapterInterrupt();
      const [notified] = memory.read(this.#nib, 1);
      if (notified === 0) continue; // another queue on the same subclass
      memory.write(this.#nib, Uint8Array.of(0));
      const reply = crypto.dqap(this.#apqn, { at: buffer, length: PAGE_SIZE });
      if (reply?.cc === 0 && reply.psmid === this.#psmid) return memory.read(buffer, reply.length);
    }
  }

  #aqic(gr1: bigint): void {
    const gr0 = pqapRegister0(PQAP_FUNCTION.AQIC, this.#apqn);
    const answer = this.#machine.crypto.pqap(gr0, gr1, this.#nib);
    if (answer?.cc === 0) return;
    const code = answer === undefined ? undefined : Number((answer.gr1 >> 16n) & 0xffn);
    throw vmErrors.NO_QUEUE({ queue: formatApqn(this.#apqn), code });
  }
}
