import type { DmaApi, FrameRange, PinApi } from '@pinion/core';
import { type Chain, inChain, readChains } from './ccw-chains.js';
import { CcwData } from './ccw-data.js';
import { dataWords, type IdalFormat, idalFormat } from './idal.js';
import { CCW_SIZE, type Ccw, isTic, movesData, type Orb } from './wire.js';

/** A place in a program. */
export interface Position {
  readonly chain: number;
  readonly index: number;
}

/** A CCW ready to run. `guestAddress`: where the guest wrote it; `data` is absent when no guest memory moves. */
export interface PreparedCcw {
  readonly ccw: Ccw;
  readonly guestAddress: number;
  readonly data: CcwData | undefined;
}

/**
 * A guest's channel program: copies of its CCWs and indirect lists, and its data pages, pinned from `prefetch` to
 * `free`. Guest pages that only hold CCWs or lists are not pinned: the copies are what runs. Source: struct
 * channel_program.
 */
export class ChannelProgram {
  readonly orb: Orb;
  readonly #chains: readonly Chain[];
  readonly #format: IdalFormat;
  #data: (CcwData | undefined)[][] = [];

  private constructor(orb: Orb, chains: readonly Chain[]) {
    this.orb = orb;
    this.#chains = chains;
    this.#format = idalFormat(orb);
  }

  /**
   * Copies the program at ORB.CPA. @throws PinionError CCW_CHAIN_TOO_LONG, CCW_TOO_MANY_CHAINS (EINVAL), and what
   * `dma.read` throws. Source: cp_init().
   */
  static init(dma: DmaApi, orb: Orb): ChannelProgram {
    return new ChannelProgram(orb, readChains(dma, orb));
  }

  /**
   * Reads the indirect lists and pins every page that data moves through, chain by chain. All or nothing: after a throw
   * nothing is pinned. @throws what `dma.read` and `pins.pin` throw. Source: cp_prefetch().
   */
  prefetch(dma: DmaApi, pins: PinApi): void {
    try {
      for (const chain of this.#chains) {
        const row: (CcwData | undefined)[] = [];
        this.#data.push(row);
        for (const ccw of chain.ccws) row.push(this.#prefetchCcw(ccw, dma, pins));
      }
    } catch (failure) {
      this.free();
      throw failure;
    }
  }

  /** Gives every page back; a second call does nothing. Source: cp_free(). */
  free(): void {
    const held = this.#data;
    this.#data = [];
    for (const row of held) for (const data of row) data?.unpin();
  }

  /** Page references that are held. */
  get pages(): number {
    return this.#data.flat().reduce((sum, data) => sum + (data?.pages ?? 0), 0);
  }

  /** Whether any pinned page lies in `range`. Source: cp_iova_pinned(). */
  overlaps(range: FrameRange): boolean {
    return this.#data.some((row) => row.some((data) => data?.overlaps(range) === true));
  }

  /** The CCW at a position, undefined behind the end of its chain. */
  at(position: Position): PreparedCcw | undefined {
    const chain = this.#chains[position.chain];
    const ccw = chain?.ccws[position.index];
    if (chain === undefined || ccw === undefined) return undefined;
    const guestAddress = chain.head + position.index * CCW_SIZE;
    return { ccw, guestAddress, data: this.#data[position.chain]?.[position.index] };
  }

  /** Where a TIC to `address` leads; undefined if that is no CCW of this program, or lies between two of them. */
  find(address: number): Position | undefined {
    const chain = this.#chains.findIndex((candidate) => inChain(candidate, address));
    const index = (address - (this.#chains[chain]?.head ?? 0)) / CCW_SIZE;
    return chain >= 0 && Number.isInteger(index) ? { chain, index } : undefined;
  }

  #prefetchCcw(ccw: Ccw, dma: DmaApi, pins: PinApi): CcwData | undefined {
    if (isTic(ccw)) return undefined;
    const words = dataWords(dma, ccw, this.#format);
    if (!movesData(ccw)) return undefined;
    return CcwData.pin(pins, words, { count: ccw.count, format: this.#format });
  }
}
