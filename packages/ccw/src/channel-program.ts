import type { DmaApi, FrameRange, PinApi } from '@pinion/core';
import { type Chain, inChain, readChains } from './ccw-chains.js';
import { CcwData } from './ccw-data.js';
import { dataWords, type IdalFormat, idalFormat } from './idal.js';
import type { CcwQuirk } from './quirks.js';
import { CCW_FLAG, CCW_SIZE, type Ccw, isTic, movesData, ORB, type Orb } from './wire.js';

/** A place in a program. */
export interface Position {
  readonly chain: number;
  readonly index: number;
}

/** A CCW ready to run. `address`: where its copy stands; `data` is absent when no guest memory moves. */
export interface PreparedCcw {
  readonly ccw: Ccw;
  readonly address: number;
  readonly data: CcwData | undefined;
}

/** What the host's SSCH takes: see `Orb`; `cpa` is the address of the copy. */
export type HostOrb = Orb;

/** Where the copy of the first chain stands; each chain has a page of its own. */
const HOST_BASE = 0x4000_0000;
const HOST_CHAIN = 0x1000;

/**
 * A guest's channel program: copies of its CCWs and indirect lists, and its data pages, pinned from `prefetch` to
 * `free`. Guest pages that only hold CCWs or lists are not pinned: the copies are what runs. Source: struct
 * channel_program.
 */
export class ChannelProgram {
  readonly orb: Orb;
  readonly #chains: readonly Chain[];
  readonly #format: IdalFormat;
  readonly #quirks: ReadonlySet<CcwQuirk>;
  #data: (CcwData | undefined)[][] = [];

  private constructor(orb: Orb, chains: readonly Chain[], quirks: ReadonlySet<CcwQuirk>) {
    this.orb = orb;
    this.#chains = chains;
    this.#format = idalFormat(orb, quirks);
    this.#quirks = quirks;
  }

  /**
   * Copies the program at ORB.CPA. @throws PinionError CCW_CHAIN_TOO_LONG, CCW_TOO_MANY_CHAINS (EINVAL), and what
   * `dma.read` throws. Source: cp_init().
   */
  static init(dma: DmaApi, orb: Orb, quirks: ReadonlySet<CcwQuirk> = new Set()): ChannelProgram {
    return new ChannelProgram(orb, readChains(dma, orb, quirks), quirks);
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

  /** Whether a piece of pinned data begins at exactly this byte. */
  beginsAt(address: bigint): boolean {
    return this.#data.some((row) => row.some((data) => data?.beginsAt(address) === true));
  }

  /**
   * The ORB for the copy: format 1, 64-bit lists (of 2 KiB blocks if the guest's were 32 bits), all other bits as the
   * guest set them. `paths`: the path mask when the guest gave none. Source: cp_get_orb().
   */
  hostOrb(intparm: number, paths: number): HostOrb {
    const { word1 } = this.orb;
    const blocks = (word1 & ORB.IDAW64) === 0 ? ORB.BLOCKS_2K : 0;
    const mask = (word1 & ORB.LPM) === 0 ? paths << 8 : 0;
    return { intparm, word1: (word1 | ORB.FORMAT1 | ORB.IDAW64 | blocks | mask) >>> 0, cpa: HOST_BASE };
  }

  /** The copies of the first chain as the channel gets them: every data address is a list. Source: ccwchain_fetch_one(). */
  get hostChain(): readonly Ccw[] {
    const ccws = this.#chains[0]?.ccws ?? [];
    return ccws.map((ccw) => (isTic(ccw) ? ccw : { ...ccw, flags: ccw.flags | CCW_FLAG.IDA }));
  }

  /** The CCW at a position, undefined behind the end of its chain. */
  at(position: Position): PreparedCcw | undefined {
    const ccw = this.#chains[position.chain]?.ccws[position.index];
    if (ccw === undefined) return undefined;
    const address = hostBase(position.chain) + position.index * CCW_SIZE;
    return { ccw, address, data: this.#data[position.chain]?.[position.index] };
  }

  /** Where a TIC to `address` leads; undefined if that lies between two CCWs or in no chain of this program. */
  find(address: number): Position | undefined {
    const chain = this.#chains.findIndex((candidate) => inChain(candidate, address));
    const index = (address - (this.#chains[chain]?.head ?? 0)) / CCW_SIZE;
    return chain >= 0 && Number.isInteger(index) ? { chain, index } : undefined;
  }

  /** Where the copy of what stands at guest address `address` stands, up to the end of a chain; undefined elsewhere. */
  toHost(address: number): number | undefined {
    for (const [index, { head, ccws }] of this.#chains.entries())
      if (address >= head && address <= head + ccws.length * CCW_SIZE) return hostBase(index) + (address - head);
    return undefined;
  }

  /**
   * The guest’s address for one inside or right behind a copied chain (also behind a CCW that a modifier skipped); others
   * stay. Source: cp_update_scsw().
   */
  toGuest(cpa: number): number {
    for (const [index, { head, ccws }] of this.#chains.entries()) {
      const offset = cpa - hostBase(index);
      if (offset >= 0 && offset <= (ccws.length + 1) * CCW_SIZE) return (head + offset) >>> 0;
    }
    return cpa;
  }

  #prefetchCcw(ccw: Ccw, dma: DmaApi, pins: PinApi): CcwData | undefined {
    if (isTic(ccw)) return undefined;
    const words = dataWords(dma, ccw, this.#format);
    if (!movesData(ccw)) return undefined;
    const unaligned = this.#quirks.has('unaligned-pins');
    return CcwData.pin(pins, words, { count: ccw.count, format: this.#format, unaligned });
  }
}

const hostBase = (chain: number): number => HOST_BASE + chain * HOST_CHAIN;
