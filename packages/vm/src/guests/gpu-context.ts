import { PAGE_SIZE } from '@pinion/core';
import type { GuestMachine } from '../guest-machine.js';
import type { GpuAddressSpace } from './gpu-address-space.js';
import type { GpuShare, GraphicsBuffer } from './gpu-share.js';

const RING_PAGES = 4;
const RING_BYTES = RING_PAGES * PAGE_SIZE;
/** The status page of the process, and the register state. */
const STATE_PAGE = PAGE_SIZE;
/** Dwords of the register state that a driver writes. Source: Intel PRM, "Register state context". */
const STATE = { CTX_CTL: 2, HEAD: 4, TAIL: 6, START: 8, CTL: 10, PDP3_HIGH: 36 } as const;
/** Registers of an engine that the state names. */
const RING = { TAIL: 0x30, HEAD: 0x34, START: 0x38, CTL: 0x3c, CTX_CTL: 0x244, PDP: 0x270 } as const;
const PDPS = 4;
/** CTX_CTL: a context that was never run is not restored; synchronous switch. */
const INHIBIT_RESTORE = 0x0009_0009;
const RING_ENABLE = 1;
/** Descriptor: valid, four levels, per-process address space. */
const DESCRIPTOR = 1 | (3 << 3) | (1 << 8);

/** The dwords of a context for the submit port. */
export interface Descriptor {
  readonly low: number;
  readonly high: number;
}

/** The image of a context of one engine, and the ring that it executes. */
export class GpuContext {
  readonly id: number;
  readonly #machine: GuestMachine;
  readonly #image: GraphicsBuffer;
  readonly #ring: GraphicsBuffer;
  readonly #base: number;
  #tail = 0;

  /** `base`: the engine's registers; `pages`: of its context image. @throws VM_GUEST_MEMORY_FULL (ENOMEM). */
  constructor(
    machine: GuestMachine,
    parts: { share: GpuShare; space: GpuAddressSpace; id: number; base: number; pages: number },
  ) {
    this.#machine = machine;
    this.id = parts.id;
    this.#base = parts.base;
    this.#image = parts.share.allocate(parts.pages * PAGE_SIZE);
    try {
      this.#ring = parts.share.allocate(RING_BYTES);
    } catch (cause) {
      parts.share.release(this.#image);
      throw cause;
    }
    this.#writeState(parts.space.root);
  }

  get descriptor(): Descriptor {
    return { low: (this.#image.address | DESCRIPTOR) >>> 0, high: this.id };
  }

  /** Appends commands to the ring; the next submission executes them. At most a quarter of the ring. */
  append(words: readonly number[]): void {
    const even = words.length % 2 === 0 ? words : [...words, 0]; // the tail counts in 8 bytes; 0 is a no-op
    const bytes = new Uint8Array(Uint32Array.from(even).buffer);
    const first = Math.min(bytes.length, RING_BYTES - this.#tail);
    const { memory } = this.#machine;
    memory.write(this.#ring.at + BigInt(this.#tail), bytes.subarray(0, first));
    if (first < bytes.length) memory.write(this.#ring.at, bytes.subarray(first));
    this.#tail = (this.#tail + bytes.length) % RING_BYTES;
    this.#write(STATE.TAIL + 1, this.#tail);
  }

  /** What the engine had not executed is forgotten: after its reset. */
  rewind(): void {
    this.#write(STATE.HEAD + 1, this.#tail);
  }

  release(share: GpuShare): void {
    share.release(this.#ring);
    share.release(this.#image);
  }

  #writeState(root: bigint): void {
    const pairs: readonly (readonly [index: number, register: number, value: number])[] = [
      [STATE.CTX_CTL, RING.CTX_CTL, INHIBIT_RESTORE],
      [STATE.HEAD, RING.HEAD, 0],
      [STATE.TAIL, RING.TAIL, 0],
      [STATE.START, RING.START, this.#ring.address],
      [STATE.CTL, RING.CTL, ((RING_PAGES - 1) << 12) | RING_ENABLE],
      ...Array.from({ length: PDPS * 2 }, (_, half): [number, number, number] => {
        const pdp = PDPS - 1 - (half >> 1);
        const high = half % 2 === 0;
        const value = pdp === 0 ? Number(high ? root >> 32n : root & 0xffff_ffffn) : 0;
        return [STATE.PDP3_HIGH + half * 2, RING.PDP + pdp * 8 + (high ? 4 : 0), value];
      }),
    ];
    for (const [index, register, value] of pairs) {
      this.#write(index, this.#base + register);
      this.#write(index + 1, value);
    }
  }

  #write(dword: number, value: number): void {
    const bytes = new Uint8Array(Uint32Array.of(value).buffer);
    this.#machine.memory.write(this.#image.at + BigInt(STATE_PAGE + dword * 4), bytes);
  }
}
