import type { GraphicsAccess } from '../graphics-access.js';

const PAGE = 4096;
/** Pages in front of what the engine alone understands: the process's status page and the register state. */
const KNOWN_PAGES = 2;

/** Dwords of the register state, page 1 of a context image, that hold a value. Source: Intel PRM, "Register state context". */
export const CONTEXT = {
  CTX_CTL: 3,
  RING_HEAD: 5,
  RING_TAIL: 7,
  RING_START: 9,
  RING_CTL: 11,
  PER_CTX: 25,
  INDIRECT_CTX: 27,
  TIMESTAMP: 35,
  /** PDP 3, upper half. The others follow two dwords apart, down to PDP 0's lower half. */
  PDP3_HIGH: 37,
} as const;
const PDPS = 4;
/** Bytes of the register state up to PDP 0's lower half. */
const STATE_BYTES = 52 * 4;
const ADDRESS_LOW = 0xfffff000;

/** What a submission needs of a context image, read once. */
export interface ContextState {
  readonly head: number;
  readonly tail: number;
  readonly start: number;
  readonly ctl: number;
  readonly perCtx: number;
  readonly indirectCtx: number;
  /** PDP 0 to 3, guest physical addresses in bytes. */
  readonly pdps: readonly number[];
}

/** A context image in a guest's global graphics memory. Every access goes through the table as it is then. */
export class ContextImage {
  readonly #memory: GraphicsAccess;
  readonly #address: number;

  constructor(memory: GraphicsAccess, address: number) {
    this.#memory = memory;
    this.#address = address;
  }

  /** A consistent copy of the register state: it is read once. */
  state(): ContextState {
    const page = new DataView(new ArrayBuffer(STATE_BYTES));
    this.#memory.read(this.#address + PAGE, new Uint8Array(page.buffer));
    const dword = (index: number): number => page.getUint32(index * 4, true);
    return {
      head: dword(CONTEXT.RING_HEAD),
      tail: dword(CONTEXT.RING_TAIL),
      start: dword(CONTEXT.RING_START),
      ctl: dword(CONTEXT.RING_CTL),
      perCtx: dword(CONTEXT.PER_CTX),
      indirectCtx: dword(CONTEXT.INDIRECT_CTX),
      pdps: Array.from({ length: PDPS }, (_, pdp) => {
        const high = CONTEXT.PDP3_HIGH + (PDPS - 1 - pdp) * 4;
        return dword(high) * 2 ** 32 + ((dword(high + 2) & ADDRESS_LOW) >>> 0);
      }),
    };
  }

  /** Writes values of the register state back. */
  update(values: Readonly<Partial<Record<keyof typeof CONTEXT, number>>>): void {
    for (const [name, value] of Object.entries(values)) {
      // why: Object.entries forgets that the keys are those of the table
      const index = CONTEXT[name as keyof typeof CONTEXT];
      this.#memory.writeDword(this.#address + PAGE + index * 4, value);
    }
  }

  /** A copy of what the engine alone understands, for an image of `pages` pages. */
  save(pages: number): Uint8Array {
    const shadow = new Uint8Array((pages - KNOWN_PAGES) * PAGE);
    if (shadow.length > 0) this.#memory.read(this.#address + KNOWN_PAGES * PAGE, shadow);
    return shadow;
  }

  /** Puts back what `save` took. */
  restore(shadow: Uint8Array): void {
    if (shadow.length > 0) this.#memory.write(this.#address + KNOWN_PAGES * PAGE, shadow);
  }
}
