import { type Log, PROT_READ, PROT_WRITE } from '@pinion/core';
import type { Features } from './features.js';
import type { GuestBuffer } from './guest-buffer.js';
import type { Execution, GuestData } from './guest-data.js';
import type { Identification } from './identify.js';
import type { Logs } from './logs.js';
import { ALL_NAMESPACES, FORCE_UNIT_ACCESS, IO, MAX_TRANSFER, NAMESPACE, STATUS, type Status } from './registers.js';
import type { Command, Outcome } from './wire.js';

/** Bytes of the namespace. */
interface Extent {
  readonly offset: number;
  readonly length: number;
}

const BLOCKS_MASK = 0xffff;

/** The NVM command set. Source: NVMe 1.4 section 6. */
export class IoCommands {
  readonly #who: Identification;
  readonly #data: GuestData;
  readonly #features: Features;
  readonly #logs: Logs;
  readonly #log: Log;

  constructor(about: { who: Identification; data: GuestData; features: Features; logs: Logs; log: Log }) {
    this.#who = about.who;
    this.#data = about.data;
    this.#features = about.features;
    this.#logs = about.logs;
    this.#log = about.log;
  }

  execute(command: Command): Execution {
    if (command.form !== 0) return { status: STATUS.INVALID_FIELD };
    const { opcode, namespace } = command;
    if (opcode === IO.FLUSH && namespace === ALL_NAMESPACES) return this.flush();
    if (opcode > IO.READ && opcode !== IO.WRITE_ZEROES) return { status: STATUS.INVALID_OPCODE };
    if (namespace !== NAMESPACE) return { status: STATUS.INVALID_NAMESPACE };
    if (opcode === IO.FLUSH) return this.flush();
    return opcode === IO.WRITE_ZEROES ? this.#zero(command) : this.#transfer(command);
  }

  /** Everything written before is safe when this is over. */
  flush(): Execution {
    return this.#run(undefined, () => this.#who.store.flush(), STATUS.WRITE_FAULT);
  }

  #transfer(command: Command): Execution {
    const { store } = this.#who;
    const write = command.opcode === IO.WRITE;
    const extent = this.#extent(command, write);
    if (typeof extent === 'number') return { status: extent };
    const { offset, length } = extent;
    if (length > MAX_TRANSFER) return { status: STATUS.INVALID_FIELD };
    const prot = write ? PROT_READ : PROT_WRITE;
    const move = (views: readonly Uint8Array[]): void | Promise<void> =>
      write ? this.#safely(command, () => store.write(offset, views)) : store.read(offset, views);
    const failure = write ? STATUS.WRITE_FAULT : STATUS.READ_ERROR;
    const buffer = this.#data.pin(command, length, prot);
    if (typeof buffer === 'number' && !this.#data.mayCopy(buffer)) return { status: buffer };
    if (write) this.#logs.countWrite(length);
    else this.#logs.countRead(length);
    if (typeof buffer !== 'number') return this.#run(buffer, () => move(buffer.views), failure);
    const outcome = this.#data.copy(command, { length, prot }, move).then(
      (status) => ({ status }),
      (cause: unknown) => this.#failed(failure, cause),
    );
    return { buffer: undefined, far: true, outcome };
  }

  #zero(command: Command): Execution {
    const extent = this.#extent(command, true);
    if (typeof extent === 'number') return { status: extent };
    const zero = () => this.#who.store.zero(extent.offset, extent.length);
    return this.#run(undefined, () => this.#safely(command, zero), STATUS.WRITE_FAULT);
  }

  /** A write that must be safe before it completes is followed by a flush. */
  #safely({ dwords }: Command, write: () => void | Promise<void>): void | Promise<void> {
    const written = write();
    if ((dwords[2] & FORCE_UNIT_ACCESS) === 0 && !this.#features.writeThrough) return written;
    const { store } = this.#who;
    return written === undefined ? store.flush() : written.then(() => store.flush());
  }

  #extent({ dwords: [low, high, dword12] }: Command, write: boolean): Extent | Status {
    const { store, blockSize } = this.#who;
    const first = (BigInt(high) << 32n) | BigInt(low);
    const count = (dword12 & BLOCKS_MASK) + 1;
    if (first + BigInt(count) > BigInt(store.size / blockSize)) return STATUS.LBA_OUT_OF_RANGE;
    if (write && store.readOnly) return STATUS.READ_ONLY;
    return { offset: Number(first) * blockSize, length: count * blockSize };
  }

  #failed(status: Status, cause: unknown): Outcome {
    this.#logs.countMediaError();
    this.#log.warn('nvme: the store failed', cause);
    return { status };
  }

  #run(buffer: GuestBuffer | undefined, action: () => void | Promise<void>, failure: Status): Execution {
    const end = (status: Status): Outcome => {
      buffer?.release();
      return { status };
    };
    const failed = (cause: unknown): Outcome => {
      buffer?.release();
      return this.#failed(failure, cause);
    };
    try {
      const work = action();
      if (work === undefined) return end(STATUS.SUCCESS);
      return { buffer, outcome: work.then(() => end(STATUS.SUCCESS), failed) };
    } catch (cause) {
      return failed(cause);
    }
  }
}
