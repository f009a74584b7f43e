import { PAGE_SIZE } from '@pinion/core';
import { FENCE_BASE, FENCE_BYTES } from './fences.js';
import type { GraphicsAccess } from './graphics-access.js';
import type { RegisterFile } from './mmio.js';
import { Surface } from './surface.js';

/** A fence register: valid, Y tiles, first page; in the upper half the last page and the pitch. Source: Intel PRM (Skylake), FENCE_REG. */
const VALID = 1;
const Y_TILES = 2;
const PAGE_MASK = 0xfffff000;
const PITCH_MASK = 0x7ff;
const PITCH_UNIT = 128;

/** A tiled surface that the CPU is to see as rows. Graphics addresses, bytes; the range is closed. */
interface Fence {
  readonly first: number;
  readonly last: number;
  readonly pitch: number;
  readonly surface: Surface;
}

/** What the CPU sees of graphics memory: inside a fence the rows of a tiled surface one after the other, elsewhere memory as it lies. */
export class FencedMemory {
  readonly #memory: GraphicsAccess;
  readonly #registers: RegisterFile;
  readonly #count: number;

  /** `count`: how many fences the vGPU has. */
  constructor(memory: GraphicsAccess, registers: RegisterFile, count: number) {
    this.#memory = memory;
    this.#registers = registers;
    this.#count = count;
  }

  /** Fills `into` from the graphics address `address`. */
  read(address: number, into: Uint8Array): void {
    this.#inPieces(address, into, (memory, at, piece) => memory.read(at, piece));
  }

  write(address: number, from: Uint8Array): void {
    this.#inPieces(address, from, (memory, at, piece) => memory.write(at, piece));
  }

  #inPieces(
    address: number,
    bytes: Uint8Array,
    access: (memory: Pick<GraphicsAccess, 'read' | 'write'>, at: number, piece: Uint8Array) => void,
  ): void {
    const fences = this.#fences();
    for (let done = 0; done < bytes.length; ) {
      const at = address + done;
      const fence = fences.find(({ first, last }) => first <= at && at <= last);
      const end = fence === undefined ? nextFence(fences, at) : endOfRow(fence, at);
      const piece = bytes.subarray(done, Math.min(bytes.length, done + end - at));
      access(fence === undefined ? this.#memory : rowsOf(fence), at, piece);
      done += piece.length;
    }
  }

  /** The fences that are valid now. */
  #fences(): readonly Fence[] {
    const fences: Fence[] = [];
    for (let index = 0; index < this.#count; index++) {
      const low = this.#registers.get(FENCE_BASE + index * FENCE_BYTES);
      if ((low & VALID) !== 0)
        fences.push(this.#decode(low, this.#registers.get(FENCE_BASE + index * FENCE_BYTES + 4)));
    }
    return fences;
  }

  #decode(low: number, high: number): Fence {
    const first = (low & PAGE_MASK) >>> 0;
    const pitch = ((high & PITCH_MASK) + 1) * PITCH_UNIT;
    const tiling = (low & Y_TILES) === 0 ? 'x' : 'y';
    const surface = new Surface(this.#memory, { base: first, pitch, tiling });
    return { first, last: ((high & PAGE_MASK) >>> 0) + PAGE_SIZE - 1, pitch, surface };
  }
}

/** Where the first fence above `at` begins. */
const nextFence = (fences: readonly Fence[], at: number): number =>
  fences.reduce((nearest, { first }) => (first > at ? Math.min(nearest, first) : nearest), Number.POSITIVE_INFINITY);

const endOfRow = ({ first, last, pitch }: Fence, at: number): number =>
  Math.min(last + 1, at + pitch - ((at - first) % pitch));

/** A fence as memory whose pieces stay inside one row. */
function rowsOf({ first, pitch, surface }: Fence): Pick<GraphicsAccess, 'read' | 'write'> {
  const place = (at: number): readonly [x: number, y: number] => [
    (at - first) % pitch,
    Math.floor((at - first) / pitch),
  ];
  return {
    read: (at, into) => surface.readRow(...place(at), into),
    write: (at, from) => surface.writeRow(...place(at), from),
  };
}
