import { vmErrors } from '../errors.js';

interface Block {
  readonly at: bigint;
  readonly size: bigint;
}

const alignUp = (value: bigint, to: bigint): bigint => ((value + to - 1n) / to) * to;

/** A guest's own allocator over a piece of its physical memory: first fit, addresses and sizes in bytes. */
export class GuestHeap {
  readonly #free: Block[];
  readonly #used = new Map<bigint, bigint>();

  constructor(at: bigint, size: bigint) {
    this.#free = [{ at, size }];
  }

  /** Bytes handed out. */
  get used(): bigint {
    return [...this.#used.values()].reduce((sum, size) => sum + size, 0n);
  }

  /** Guest-physical address of `size` bytes, a multiple of `align`. @throws VM_GUEST_MEMORY_FULL (ENOMEM). */
  allocate(size: number, align = 4096): bigint {
    const wanted = BigInt(size);
    for (const [index, block] of this.#free.entries()) {
      const at = alignUp(block.at, BigInt(align));
      const end = at + wanted;
      if (end > block.at + block.size) continue;
      const rest = [
        { at: block.at, size: at - block.at },
        { at: end, size: block.at + block.size - end },
      ];
      this.#free.splice(index, 1, ...rest.filter((piece) => piece.size > 0n));
      this.#used.set(at, wanted);
      return at;
    }
    throw vmErrors.GUEST_MEMORY_FULL({ size, used: this.used });
  }

  /** Gives a block back, and joins it with free neighbours. Anything but the start of a block is ignored. */
  free(at: bigint): void {
    const size = this.#used.get(at);
    if (size === undefined) return;
    this.#used.delete(at);
    const blocks = [...this.#free, { at, size }].sort((a, b) => (a.at < b.at ? -1 : 1));
    this.#free.length = 0;
    for (const block of blocks) {
      const last = this.#free.at(-1);
      if (last !== undefined && last.at + last.size === block.at) {
        this.#free.splice(-1, 1, { at: last.at, size: last.size + block.size });
      } else this.#free.push(block);
    }
  }
}
