import { type GuestMemory, PinionError } from '@pinion/core';
import { errors } from './errors.js';
import { collectPieces, type Piece } from './prp.js';
import { STATUS, type Status } from './registers.js';

/** Guest memory that cannot be pinned, only copied by somebody else: a VMM that shares none of it. */
export class FarMemory {
  /** Who copies; undefined: nobody does. */
  current: GuestMemory | undefined;
  /** Copies under way, by what gives them up. */
  readonly #underWay = new Set<(cause: unknown) => void>();
  #epoch = 0;

  /** Changes when everything under way was given up. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Gives up every copy that is under way: it fails at once, whatever its other side does later. */
  abandon(): void {
    this.#epoch += 1;
    for (const giveUp of this.#underWay) giveUp(errors.NO_MEMORY({ problem: 'the controller was reset' }));
    this.#underWay.clear();
  }

  /** Whether a pin failed because of that. */
  explains(cause: unknown): boolean {
    return this.current !== undefined && cause instanceof PinionError && cause.errno === 'EFAULT';
  }

  /** @throws NVME_NO_MEMORY (EFAULT), and what copying throws. */
  async read(address: bigint, count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count);
    await this.#copy((memory) => memory.read(address, bytes));
    return bytes;
  }

  /** @throws as `read`. */
  write(address: bigint, bytes: Uint8Array): Promise<void> {
    return this.#copy((memory) => memory.write(address, bytes));
  }

  /** The pieces of a command's data; each page of a list is copied once, as everywhere. @throws what copying throws. */
  async pieces(data: { prp1: bigint; prp2: bigint; length: number }): Promise<readonly Piece[] | Status> {
    const copies = new Map<bigint, Uint8Array>();
    for (;;) {
      const missing: { address: bigint; count: number }[] = [];
      const pieces = collectPieces(data, (address, count) => {
        const known = copies.get(address);
        if (known?.length === count) return known;
        missing.push({ address, count });
        return undefined;
      });
      const [next] = missing;
      if (next === undefined) return pieces;
      copies.set(next.address, await this.read(next.address, next.count));
    }
  }

  /** The bytes of pieces, one behind the other. @throws what copying throws. */
  async gather(pieces: readonly Piece[], length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (const { address, at, end } of runs(pieces)) {
      await this.#copy((memory) => memory.read(address, bytes.subarray(at, end)));
    }
    return bytes;
  }

  /** The other way. @throws what copying throws. */
  async scatter(pieces: readonly Piece[], bytes: Uint8Array): Promise<void> {
    for (const { address, at, end } of runs(pieces)) await this.write(address, bytes.subarray(at, end));
  }

  #copy(action: (memory: GuestMemory) => Promise<void>): Promise<void> {
    const { current } = this;
    if (current === undefined) return Promise.reject(errors.NO_MEMORY({ problem: 'nobody is there to do it' }));
    return new Promise((resolve, reject) => {
      this.#underWay.add(reject);
      action(current)
        .then(resolve, reject)
        .finally(() => this.#underWay.delete(reject));
    });
  }
}

/** What came of an attempt to reach guest memory: what cannot be reached is the guest's mistake; anything else is ours. */
export function statusOf(cause: unknown): Status {
  if (cause instanceof PinionError) return STATUS.DATA_TRANSFER_ERROR;
  throw cause;
}

interface Run {
  readonly address: bigint;
  /** Bytes of the data from `at` to `end`. */
  readonly at: number;
  end: number;
}

/** Pieces that go on where the one before ended are one copy. */
function runs(pieces: readonly Piece[]): readonly Run[] {
  const all: Run[] = [];
  let at = 0;
  for (const { address, length } of pieces) {
    const last = all.at(-1);
    if (last !== undefined && last.address + BigInt(at - last.at) === address) last.end += length;
    else all.push({ address, at, end: at + length });
    at += length;
  }
  return all;
}
