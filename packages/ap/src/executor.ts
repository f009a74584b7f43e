import type { ApMode } from './card.js';

/** One message for a card. `domain`: the usage domain of the queue it was put into, which CCA requests must name. */
export interface CardWork {
  readonly mode: ApMode;
  readonly domain: number;
  readonly message: Uint8Array;
}

/** How a card ended its work: with a reply (which may be a refusal), or because it broke. */
export type CardOutcome = { readonly reply: Uint8Array } | { readonly failure: unknown };

/**
 * Who computes for the cards. One of these serves all queues of a machine; each queue gives it at most two messages at a
 * time, and puts what comes back in order.
 */
export interface CardExecutor {
  /**
   * Starts one piece of work. `done` is called once, on this stack or later, and not at all after the undo was called.
   * @returns the undo: the outcome is wanted no more. Must not throw.
   */
  run(work: CardWork, done: (outcome: CardOutcome) => void): () => void;
  /** No device is open any more: whatever was started to compute ends before this settles. It may be used again afterwards. */
  close(): void | Promise<void>;
}

/** Computes on the caller's stack: deterministic, and nothing else happens meanwhile. */
export const inlineExecutor = (card: (work: CardWork) => Uint8Array): CardExecutor => ({
  run(work, done) {
    done(attempt(card, work));
    return () => {};
  },
  close: () => {},
});

/** Runs a card whatever it throws. */
export function attempt(card: (work: CardWork) => Uint8Array, work: CardWork): CardOutcome {
  try {
    return { reply: card(work) };
  } catch (failure) {
    return { failure };
  }
}
