import type { ApMode } from './card.js';
import { answerCca, refuseCca } from './cca.js';
import type { CardWork } from './executor.js';
import { answerRsa } from './rsa.js';
import { decodeRequest, encodeError } from './type50.js';

const CARDS: Readonly<Record<ApMode, (work: CardWork) => Uint8Array>> = {
  accelerator: ({ message }) => answerRsa(message),
  cca: answerCca,
};

/**
 * What a card answers to a message: always a whole reply. Computes on the calling stack.
 * @throws whatever node:crypto throws for a reason that is not the message's.
 */
export const answer = (work: CardWork): Uint8Array => CARDS[work.mode](work);

/** The reply to a message that no card would compute with: its form is wrong. Undefined when there is something to compute. */
export function refusal(work: CardWork): Uint8Array | undefined {
  if (work.mode === 'cca') return refuseCca(work);
  const request = decodeRequest(work.message);
  return typeof request === 'number' ? encodeError(request) : undefined;
}
