import type { JsonWebKey } from 'node:crypto';
import {
  type CcaReply,
  decodeCcaReply,
  decodeReply,
  encodeCcaRequest,
  encodeRequest,
  type QueueDescription,
} from '@pinion/ap';
import { vmErrors } from '../errors.js';
import { padDigest } from './crypto-driver.js';

export type CardMode = QueueDescription['mode'];

/** A piece of work for whichever card can do it. */
export interface CryptoRequest<T> {
  /** For messages: what is wanted. */
  readonly what: string;
  /** Which cards can do it. */
  readonly modes: readonly CardMode[];
  /** The message for a card of one of these modes, in a queue of that domain. */
  encode(mode: CardMode, domain: number): Uint8Array;
  /** What a reply of such a card means. @throws VM_CRYPTO_FAILED (EIO) if it refuses. */
  decode(mode: CardMode, reply: Uint8Array): T;
}

const failed = (what: string, reply: object): unknown =>
  vmErrors.CRYPTO_FAILED({
    queue: what,
    code: Number(Object.entries(reply).find(([name]) => name === 'code' || name === 'rscode')?.[1] ?? 0),
  });

function resultOf(what: string, reply: CcaReply | ReturnType<typeof decodeReply>): Uint8Array {
  if (!reply.ok) throw failed(what, reply);
  return reply.result;
}

/**
 * RSASSA-PKCS1-v1_5 over a SHA-256 digest with a private JWK. Accelerators and CCA coprocessors both can do it.
 * @throws VM_BAD_KEY (EINVAL).
 */
export function signRequest(digest: Uint8Array, key: JsonWebKey): CryptoRequest<Uint8Array> {
  const part = (value: string | undefined): Uint8Array => {
    if (value === undefined) throw vmErrors.BAD_KEY({ problem: 'it is no private RSA key' });
    return Buffer.from(value, 'base64url');
  };
  const crt = { p: part(key.p), q: part(key.q), dp: part(key.dp), dq: part(key.dq), u: part(key.qi) };
  const size = part(key.n).length;
  const message = padDigest(digest, size);
  const what = 'a signature';
  return {
    what,
    modes: ['accelerator', 'cca'],
    encode(mode, domain) {
      if (mode !== 'cca') return encodeRequest({ form: 'CRT', ...crt, message });
      return encodeCcaRequest({ verb: 'decrypt', domain, key: { form: 'CRT', ...crt, modulusBytes: size }, message });
    },
    decode(mode, reply) {
      const result = resultOf(what, mode === 'cca' ? decodeCcaReply(reply) : decodeReply(reply));
      return result.slice(result.length - size);
    },
  };
}

/** `length` random bytes, at most 8192. Only CCA coprocessors have them. */
export function randomRequest(length: number): CryptoRequest<Uint8Array> {
  const what = 'random bytes';
  return {
    what,
    modes: ['cca'],
    encode: (_mode, domain) => encodeCcaRequest({ verb: 'random', domain, length }),
    decode: (_mode, reply) => resultOf(what, decodeCcaReply(reply)),
  };
}
