import { type DmaApi, PAGE_SIZE } from '@pinion/core';
import { ccwErrors } from './errors.js';
import type { CcwQuirk } from './quirks.js';
import { CCW_SIZE, type Ccw, decodeCcw, decodeCcw0, isChained, isTic, ORB, type Orb } from './wire.js';

/** CCWs that follow each other in memory. `head`: guest address of the first, 31 bits. */
export interface Chain {
  readonly head: number;
  readonly ccws: readonly Ccw[];
}

/** CCWs of one chain. Source: CCWCHAIN_LEN_MAX. */
export const CHAIN_MAX = 256;
/** Chains of one program; Linux recurses without a limit. */
export const CHAINS_MAX = 256;

/** Whether `address` lies in the chain, both ends inside; whether it is aligned is not asked. */
export const inChain = (chain: Chain, address: number): boolean =>
  address >= chain.head && address <= lastAddress(chain.head, chain.ccws.length);

const lastAddress = (head: number, length: number): number => head + (length - 1) * CCW_SIZE;

/**
 * Copies a channel program out of guest memory: the chain at ORB.CPA, then, depth first, a chain for every TIC whose
 * target is in no chain yet. Nothing is pinned. Unlike Linux, which copies 2048 bytes at each head, reads page by
 * page and only as far as the chain goes, so that a short program may stand at the end of a mapping.
 *
 * @throws PinionError CCW_CHAIN_TOO_LONG, CCW_TOO_MANY_CHAINS (both EINVAL) and whatever `dma.read` throws for CCWs
 * that are not mapped. Source: cp_init(), ccwchain_handle_ccw(), ccwchain_loop_tic().
 */
export function readChains(dma: DmaApi, orb: Orb, quirks: ReadonlySet<CcwQuirk> = new Set()): readonly Chain[] {
  const decode = (orb.word1 & ORB.FORMAT1) !== 0 ? decodeCcw : decodeCcw0;
  const whole = quirks.has('whole-chain-reads');
  const copy = (head: number): Chain => readChain(new ChainCopy(dma, head, whole), head, decode);
  const first = copy(orb.cpa);
  const chains = [first];
  const walks = [targetsOf(first)];
  for (let walk = walks.at(-1); walk !== undefined; walk = walks.at(-1)) {
    const target = walk.next();
    if (target.done) walks.pop();
    else if (!chains.some((chain) => inChain(chain, target.value))) {
      if (chains.length === CHAINS_MAX) throw ccwErrors.TOO_MANY_CHAINS({ cpa: orb.cpa, limit: CHAINS_MAX });
      const chain = copy(target.value);
      chains.push(chain);
      walks.push(targetsOf(chain));
    }
  }
  return chains;
}

function* targetsOf(chain: Chain): Generator<number, undefined> {
  for (const ccw of chain.ccws) if (isTic(ccw)) yield ccw.address;
}

/**
 * The length rule of ccwchain_calc_length(): a TIC back into its own chain does not end it, a status modifier may
 * skip it.
 */
function readChain(copy: ChainCopy, head: number, decode: (bytes: Uint8Array) => Ccw): Chain {
  const ccws: Ccw[] = [];
  for (let more = true; more; ) {
    if (ccws.length === CHAIN_MAX) throw ccwErrors.CHAIN_TOO_LONG({ head, limit: CHAIN_MAX });
    const ccw = decode(copy.bytesOf(ccws.length));
    ccws.push(ccw);
    const loopsBack = isTic(ccw) && ccw.address >= head && ccw.address <= lastAddress(head, ccws.length);
    more = isChained(ccw) || loopsBack;
  }
  return { head, ccws };
}

/** Guest memory from `head` on, copied one page at a time as far as somebody looks; `whole`: all at the first look. */
class ChainCopy {
  readonly #dma: DmaApi;
  readonly #head: number;
  readonly #bytes = new Uint8Array(CHAIN_MAX * CCW_SIZE);
  readonly #whole: boolean;
  #filled = 0;

  constructor(dma: DmaApi, head: number, whole: boolean) {
    this.#dma = dma;
    this.#head = head;
    this.#whole = whole;
  }

  bytesOf(index: number): Uint8Array {
    const end = (index + 1) * CCW_SIZE;
    while (this.#filled < end) this.#fillPage();
    return this.#bytes.subarray(end - CCW_SIZE, end);
  }

  #fillPage(): void {
    const address = this.#head + this.#filled;
    const inPage = this.#whole ? this.#bytes.length : PAGE_SIZE - (address % PAGE_SIZE);
    const piece = this.#bytes.subarray(this.#filled, Math.min(this.#filled + inPage, this.#bytes.length));
    this.#dma.read(BigInt(address), piece);
    this.#filled += piece.length;
  }
}
