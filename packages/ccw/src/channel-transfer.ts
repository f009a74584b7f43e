import { viewsOfSpan } from './ccw-data.js';
import type { PreparedCcw } from './channel-program.js';
import type { ChannelData } from './control-unit.js';
import { CCW_FLAG, CHANNEL_STATUS } from './wire.js';

type Direction = 'to-guest' | 'to-device';

/** What a transfer needs of the channel. `chainData`: the next CCW of a data chain, undefined for a program check. */
export interface TransferSource {
  readonly cancelled: () => boolean;
  readonly chainData: () => PreparedCcw | undefined;
}

/** The bytes of one command over all CCWs that data chaining joins. */
export class ChannelTransfer implements ChannelData {
  readonly #source: TransferSource;
  #current: PreparedCcw;
  /** Bytes of the current CCW that were taken. */
  #used = 0;
  #touched = false;
  #overrun = false;
  #failure = 0;

  constructor(first: PreparedCcw, source: TransferSource) {
    this.#current = first;
    this.#source = source;
  }

  get cancelled(): boolean {
    return this.#source.cancelled();
  }

  /** The CCW in use. */
  get current(): PreparedCcw {
    return this.#current;
  }

  /** Bits of `CHANNEL_STATUS` that ended the transfer; 0 while all is well. */
  get failure(): number {
    return this.#failure;
  }

  /** Bytes of the current CCW that were not used. */
  get residual(): number {
    return this.#current.ccw.count - this.#used;
  }

  /**
   * Whether an incorrect length is to be told: the unit moved data, but more or less than the program wanted, and the
   * program does not suppress it. Suppression does not hold as long as more of the data chain is to come.
   */
  get incorrectLength(): boolean {
    const { flags } = this.#current.ccw;
    const suppressed = (flags & CCW_FLAG.SLI) !== 0 && (flags & CCW_FLAG.CHAIN_DATA) === 0;
    return this.#touched && !suppressed && (this.residual > 0 || this.#overrun);
  }

  take(length: number, direction: Direction): readonly Uint8Array[] {
    this.#touched = true;
    const pieces: Uint8Array[] = [];
    for (let left = length; left > 0 && !this.cancelled; ) {
      if (!this.#reachData()) {
        this.#overrun = true;
        break;
      }
      const wanted = Math.min(left, this.residual);
      const found = this.#pieces(wanted, direction);
      pieces.push(...found);
      const moved = found.reduce((sum, piece) => sum + piece.length, 0);
      this.#used += moved;
      left -= moved;
      if (moved < wanted) break;
    }
    return pieces;
  }

  /** The unit ended the command: a data chain whose count is used up goes on to its next CCW. */
  finish(): void {
    if (this.#touched) this.#reachData();
  }

  /** Goes on to the next CCW that has bytes left. @returns false if there is none. */
  #reachData(): boolean {
    while (this.residual === 0) if (!this.#advance()) return false;
    return true;
  }

  #advance(): boolean {
    if ((this.#current.ccw.flags & CCW_FLAG.CHAIN_DATA) === 0 || this.#failure !== 0) return false;
    const next = this.#source.chainData();
    if (next === undefined) {
      this.#failure = CHANNEL_STATUS.PROGRAM_CHECK;
      return false;
    }
    this.#current = next;
    this.#used = 0;
    return true;
  }

  /** `length` bytes of the current CCW from `#used` on; fewer if its list breaks off. */
  #pieces(length: number, direction: Direction): readonly Uint8Array[] {
    const { ccw, data } = this.#current;
    if ((ccw.flags & CCW_FLAG.SKIP) !== 0 && direction === 'to-guest') return [new Uint8Array(length)];
    if (data === undefined) {
      this.#failure = CHANNEL_STATUS.PROTECTION_CHECK;
      return [];
    }
    const pieces: Uint8Array[] = [];
    const end = this.#used + length;
    let at = 0;
    for (const span of data.spans) {
      const from = Math.max(this.#used - at, 0);
      const to = Math.min(end - at, span.length);
      if (from < to) pieces.push(...viewsOfSpan({ ...span, offset: span.offset + from, length: to - from }));
      at += span.length;
    }
    if (at < end) this.#failure = CHANNEL_STATUS.PROGRAM_CHECK;
    return pieces;
  }
}
