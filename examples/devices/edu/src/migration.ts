import { MIGRATION_STATE, type MigrationOps, type MigrationState } from '@pinion/core';
import { errors } from './errors.js';
import { decodeState, encodeState, SAVED_SIZE, type SavedState } from './saved-state.js';

/** What migration needs of a card. */
export interface Card {
  /** Everything that runs comes to its end; nothing begins until `resume`. */
  pause(): void;
  resume(): void;
  save(): SavedState;
  /** @throws EDU_BAD_STATE (EINVAL): nothing has changed. */
  load(state: SavedState): void;
}

/** Stop, copy, resume: an edu card has little to say, so it says it when it is stopped. */
export class EduMigration implements MigrationOps {
  readonly #card: Card;
  readonly #bytes = new Uint8Array(SAVED_SIZE);
  #at = 0;

  constructor(card: Card) {
    this.#card = card;
  }

  enter(to: MigrationState, from: MigrationState): void {
    if (to === MIGRATION_STATE.RUNNING) this.#card.resume();
    else if (to === MIGRATION_STATE.STOP_COPY) this.#begin(encodeState(this.#card.save()));
    else if (to === MIGRATION_STATE.RESUMING) this.#begin(new Uint8Array(SAVED_SIZE));
    else if (from === MIGRATION_STATE.RESUMING) this.#card.load(decodeState(this.#bytes.subarray(0, this.#at)));
    else if (from === MIGRATION_STATE.RUNNING) this.#card.pause();
  }

  read(into: Uint8Array): number {
    const part = this.#bytes.subarray(this.#at, this.#at + into.length);
    into.set(part);
    this.#at += part.length;
    return part.length;
  }

  write(bytes: Uint8Array): void {
    if (this.#at + bytes.length > SAVED_SIZE) throw errors.BAD_STATE({ problem: `it goes beyond ${SAVED_SIZE} bytes` });
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #begin(bytes: Uint8Array): void {
    this.#bytes.set(bytes);
    this.#at = 0;
  }
}
