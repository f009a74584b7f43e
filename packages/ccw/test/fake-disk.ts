import { type ControlUnit, DEVICE_STATUS, type DiskImage, FbaDisk, memoryImage } from '@pinion/ccw';

/** An image of `blocks` blocks in memory, byte i of block b being (b * 7 + i) mod 251. */
export function patternImage(
  blocks: number,
  options: { readOnly?: boolean } = {},
): { image: DiskImage; bytes: Uint8Array } {
  const bytes = Uint8Array.from({ length: blocks * 512 }, (_, at) => (Math.floor(at / 512) * 7 + (at % 512)) % 251);
  return { image: memoryImage(bytes, { name: 'pattern', ...options }), bytes };
}

export const patternDisk = (blocks: number): ControlUnit => new FbaDisk(patternImage(blocks).image);

/** An image whose reads and writes wait for `release` before they touch memory, as a slow disk does. */
export class GatedImage implements DiskImage {
  readonly name = 'gated';
  readonly size: number;
  readonly readOnly = false;
  /** Transfers that have begun and not ended. */
  inFlight = 0;
  readonly #bytes: Uint8Array;
  #open: () => void = () => {};
  #gate: Promise<void> = Promise.resolve();
  #began: () => void = () => {};
  /** Settles when a transfer has begun since the gate was shut. */
  began: Promise<void> = Promise.resolve();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.size = bytes.length;
    this.shut();
  }

  /** The next transfers wait. */
  shut(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
    this.began = new Promise((resolve) => {
      this.#began = resolve;
    });
  }

  release(): void {
    this.#open();
  }

  async read(position: number, pieces: readonly Uint8Array[]): Promise<void> {
    await this.#wait();
    await memoryImage(this.#bytes).read(position, pieces);
    this.inFlight -= 1;
  }

  async write(position: number, pieces: readonly Uint8Array[]): Promise<void> {
    await this.#wait();
    await memoryImage(this.#bytes).write(position, pieces);
    this.inFlight -= 1;
  }

  async close(): Promise<void> {}

  async #wait(): Promise<void> {
    this.inFlight += 1;
    this.#began();
    await this.#gate;
  }
}

/** A unit that takes or gives as many bytes as it is told, and answers with the status it is told. */
export class ScriptedUnit implements ControlUnit {
  readonly name = 'scripted';
  readonly sense = Uint8Array.of(0x40, ...new Uint8Array(31));
  readonly commands: number[] = [];
  /** Bytes each command that is no control command wants to store, and its status. */
  wants = 0;
  /** Control commands want bytes too. */
  greedy = false;
  status: number = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
  /** Answers of the next commands, before `status` is used. */
  next: number[] = [];
  resets = 0;

  reset(): void {
    this.resets += 1;
  }

  begin(): void {}

  execute(command: number, data: { take(length: number, direction: 'to-guest'): readonly Uint8Array[] }): number {
    this.commands.push(command);
    const moves = this.greedy || (command & 0x03) !== 0x03;
    if (moves && this.wants > 0) for (const piece of data.take(this.wants, 'to-guest')) piece.fill(0x5a);
    return this.next.shift() ?? this.status;
  }
}
