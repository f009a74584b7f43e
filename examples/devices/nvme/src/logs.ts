import { ADMIN, IO, LIMIT, LOG, type Status } from './registers.js';

/** A command or doorbell that went wrong. `id` is ffff when no command is to blame. */
export interface ErrorEntry {
  readonly queue: number;
  readonly id: number;
  readonly status: Status;
  readonly namespace: number;
}

const ENTRY_SIZE = 64;
const HEALTH_SIZE = 512;
const DATA_UNIT = 512_000;
const SUPPORTED = 1;
const CHANGES_BLOCKS = 2;

const fill = (size: number, write: (view: DataView, bytes: Uint8Array) => void): Uint8Array => {
  const bytes = new Uint8Array(size);
  write(new DataView(bytes.buffer), bytes);
  return bytes;
};

/** What the controller writes down. Source: NVMe 1.4 section 5.14.1. */
export class Logs {
  readonly #firmware: string;
  readonly #errors: { readonly entry: ErrorEntry; readonly number: bigint }[] = [];
  #errorCount = 0n;
  readonly #moved = { read: 0, written: 0, reads: 0, writes: 0, mediaErrors: 0 };

  constructor(firmware: string) {
    this.#firmware = firmware;
  }

  /** Errors are kept until a reset of the whole device, newest first. */
  addError(entry: ErrorEntry): void {
    this.#errorCount += 1n;
    this.#errors.unshift({ entry, number: this.#errorCount });
    this.#errors.length = Math.min(this.#errors.length, LIMIT.ERRORS);
  }

  countRead(bytes: number): void {
    this.#moved.read += bytes;
    this.#moved.reads += 1;
  }

  countWrite(bytes: number): void {
    this.#moved.written += bytes;
    this.#moved.writes += 1;
  }

  countMediaError(): void {
    this.#moved.mediaErrors += 1;
  }

  /** A whole page; undefined if there is none of that number. */
  page(id: number): Uint8Array | undefined {
    if (id === LOG.ERRORS) return this.#errorPage();
    if (id === LOG.HEALTH) return this.#healthPage();
    if (id === LOG.FIRMWARE) return this.#firmwarePage();
    if (id === LOG.CHANGED) return new Uint8Array(4096);
    return id === LOG.EFFECTS ? effectsPage() : undefined;
  }

  #errorPage(): Uint8Array {
    return fill(LIMIT.ERRORS * ENTRY_SIZE, (view) => {
      for (const [index, { entry, number }] of this.#errors.entries()) {
        const at = index * ENTRY_SIZE;
        view.setBigUint64(at, number, true);
        view.setUint16(at + 8, entry.queue, true);
        view.setUint16(at + 10, entry.id, true);
        view.setUint16(at + 12, (entry.status << 1) & 0xffff, true);
        view.setUint32(at + 24, entry.namespace, true);
      }
    });
  }

  #healthPage(): Uint8Array {
    const { read, written, reads, writes, mediaErrors } = this.#moved;
    return fill(HEALTH_SIZE, (view) => {
      view.setUint16(1, 300, true); // kelvin
      view.setUint8(3, 100); // percent of spare blocks, and the threshold
      view.setUint8(4, 10);
      view.setBigUint64(32, BigInt(Math.ceil(read / DATA_UNIT)), true);
      view.setBigUint64(48, BigInt(Math.ceil(written / DATA_UNIT)), true);
      view.setBigUint64(64, BigInt(reads), true);
      view.setBigUint64(80, BigInt(writes), true);
      view.setBigUint64(160, BigInt(mediaErrors), true);
      view.setBigUint64(176, this.#errorCount, true);
    });
  }

  #firmwarePage(): Uint8Array {
    return fill(HEALTH_SIZE, (view, bytes) => {
      view.setUint8(0, 1);
      bytes.set(Buffer.from(this.#firmware.padEnd(8).slice(0, 8), 'latin1'), 8);
    });
  }
}

/** Commands that exist, and those that change blocks. */
const effectsPage = (): Uint8Array =>
  fill(4096, (view) => {
    for (const opcode of Object.values(ADMIN)) view.setUint32(opcode * 4, SUPPORTED, true);
    for (const opcode of Object.values(IO)) {
      const changes = opcode === IO.WRITE || opcode === IO.WRITE_ZEROES ? CHANGES_BLOCKS : 0;
      view.setUint32(1024 + opcode * 4, SUPPORTED | changes, true);
    }
  });
