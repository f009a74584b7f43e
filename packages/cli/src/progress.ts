import type { Surroundings } from './surroundings.js';

const BACK = '\r\u001b[K';

/** One line on a terminal that says what is being waited for; nothing in a pipe, and nothing with JSON. */
export class Progress {
  readonly #around: Pick<Surroundings, 'err' | 'terminal'>;
  readonly #shown: boolean;
  #standing = false;

  constructor(around: Pick<Surroundings, 'err' | 'terminal'>, about: { readonly json: boolean }) {
    this.#around = around;
    this.#shown = around.terminal && !about.json;
  }

  /** Says what is under way; takes the place of what was said before. */
  show(text: string): void {
    if (!this.#shown) return;
    this.#around.err(`${BACK}${text} ...`);
    this.#standing = true;
  }

  /** Takes the line away: before anything else is printed, and at the end. */
  clear(): void {
    if (this.#standing) this.#around.err(BACK);
    this.#standing = false;
  }
}
