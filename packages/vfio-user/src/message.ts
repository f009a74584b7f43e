import type { Fd } from '@pinion/sys';
import { HEADER_FLAG } from './commands.js';
import { HEADER } from './structs.js';

/** A whole message as it came. Whoever handles it owns `fds`; `payload` may be a view of a larger piece. */
export interface Message<F = Fd> {
  readonly id: number;
  readonly command: number;
  /** Bits of HEADER_FLAG. */
  readonly flags: number;
  /** Errno of an error reply. */
  readonly error: number;
  readonly payload: Uint8Array;
  readonly fds: readonly F[];
}

export const isReply = (message: Pick<Message<unknown>, 'flags'>): boolean =>
  (message.flags & HEADER_FLAG.TYPE) === HEADER_FLAG.REPLY;
export const isError = (message: Pick<Message<unknown>, 'flags'>): boolean => (message.flags & HEADER_FLAG.ERROR) !== 0;
export const wantsReply = (message: Pick<Message<unknown>, 'flags'>): boolean =>
  (message.flags & HEADER_FLAG.NO_REPLY) === 0;

/** A message's bytes without its descriptors. */
export function encodeMessage(message: Omit<Message<never>, 'fds'>): Uint8Array<ArrayBuffer> {
  const { id, command, flags, error, payload } = message;
  const bytes = HEADER.encode({ id, command, size: HEADER.size + payload.length, flags, error }, payload.length);
  bytes.set(payload, HEADER.size);
  return bytes;
}
