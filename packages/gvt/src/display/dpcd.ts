/** Bytes of a DisplayPort sink's registers that are kept. Source: i915 gvt display.h, DPCD_SIZE. */
export const DPCD_SIZE = 0x700;

/** Revision 1.2, 5.4 Gbit/s, four lanes. */
const CAPABILITIES = [0x12, 0x14, 0x84];
const SINK_COUNT = 0x200;
const TRAINING_PATTERN = 0x102;
const PATTERN_MASK = 3;
const LANES_01 = 0x202;
const LANES_23 = 0x203;
const ALIGNED = 0x204;
const SINK_STATUS = 0x205;
/** Of each of two lanes: clock recovered; channel equalised and symbols locked. */
const CLOCK_RECOVERED = 0x11;
const EQUALISED = 0x66;
const ALIGN_DONE = 1;
const IN_SYNC = 3;

/** The registers of the sink behind a DisplayPort: DPCD. Link training succeeds at once. Source: DisplayPort 1.2; i915 gvt. */
export class Dpcd {
  readonly #bytes = new Uint8Array(DPCD_SIZE);

  constructor() {
    this.reset();
  }

  reset(): void {
    this.#bytes.fill(0);
    this.#bytes.set(CAPABILITIES);
    this.#bytes[SINK_COUNT] = 1;
  }

  /** Whether the bytes `first`..`first + length - 1` are kept. */
  holds(first: number, length: number): boolean {
    return first + length <= DPCD_SIZE;
  }

  /** A copy of `length` bytes that `holds`. */
  read(first: number, length: number): Uint8Array {
    return this.#bytes.slice(first, first + length);
  }

  /** `holds` was asked before. */
  write(first: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, first);
    const pattern = bytes[TRAINING_PATTERN - first];
    if (pattern !== undefined) this.#train(pattern & PATTERN_MASK);
  }

  #train(pattern: number): void {
    if (pattern === 1) for (const lanes of [LANES_01, LANES_23]) this.#set(lanes, CLOCK_RECOVERED);
    else if (pattern === 2) {
      for (const lanes of [LANES_01, LANES_23]) this.#set(lanes, EQUALISED);
      this.#set(ALIGNED, ALIGN_DONE);
    } else if (pattern === 0) this.#set(SINK_STATUS, IN_SYNC);
  }

  #set(address: number, bits: number): void {
    this.#bytes[address] = (this.#bytes[address] ?? 0) | bits;
  }
}
