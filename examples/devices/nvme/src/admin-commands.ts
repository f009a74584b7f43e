import { PROT_WRITE } from '@pinion/core';
import type { Events } from './events.js';
import type { Features } from './features.js';
import { scatter } from './guest-buffer.js';
import type { Execution, GuestData } from './guest-data.js';
import {
  activeNamespaces,
  type Identification,
  identifyController,
  identifyNamespace,
  namespaceDescriptors,
} from './identify.js';
import type { Logs } from './logs.js';
import type { QueueTable } from './queue-table.js';
import type { SubmissionQueue } from './queues.js';
import { ADMIN, ALL_NAMESPACES, IDENTIFY, LOG, MAX_TRANSFER, NAMESPACE, STATUS, type Status } from './registers.js';
import type { Command, Outcome } from './wire.js';

/** What admin commands work on. */
export interface AdminParts {
  readonly who: Identification;
  readonly data: GuestData;
  readonly queues: QueueTable;
  readonly features: Features;
  readonly logs: Logs;
  readonly events: Events;
  /** Settles when no command of this queue is under way; undefined if none is. */
  idle(queue: SubmissionQueue): Promise<void> | undefined;
}

const NOT_ABORTED = 1;
const RETAIN_EVENT = 0x8000;

/** The admin command set. Source: NVMe 1.4 section 5. */
export class AdminCommands {
  readonly #parts: AdminParts;
  readonly #table: ReadonlyMap<number, (command: Command) => Execution>;

  constructor(parts: AdminParts) {
    this.#parts = parts;
    const { queues, features, events } = parts;
    this.#table = new Map<number, (command: Command) => Execution>([
      [ADMIN.DELETE_SQ, (command) => this.#deleteSubmission(command)],
      [ADMIN.CREATE_SQ, (command) => ({ status: queues.createSubmission(command) })],
      [ADMIN.GET_LOG_PAGE, (command) => this.#logPage(command)],
      [ADMIN.DELETE_CQ, ({ dwords }) => ({ status: queues.deleteCompletion(dwords[0] & 0xffff) })],
      [ADMIN.CREATE_CQ, (command) => ({ status: queues.createCompletion(command) })],
      [ADMIN.IDENTIFY, (command) => this.#identify(command)],
      [ADMIN.ABORT, (command) => this.#abort(command)],
      [ADMIN.SET_FEATURES, (command) => features.set(command)],
      [ADMIN.GET_FEATURES, (command) => features.get(command)],
      [ADMIN.ASYNC_EVENT, ({ id }) => events.request(id)],
    ]);
  }

  execute(command: Command): Execution {
    if (command.form !== 0) return { status: STATUS.INVALID_FIELD };
    const run = this.#table.get(command.opcode);
    return run === undefined ? { status: STATUS.INVALID_OPCODE } : run(command);
  }

  #identify(command: Command): Execution {
    const { who } = this.#parts;
    const { namespace } = command;
    const subject = command.dwords[0] & 0xff;
    if (subject === IDENTIFY.CONTROLLER) return this.#give(command, identifyController(who));
    if (subject === IDENTIFY.ACTIVE) {
      if (namespace >= ALL_NAMESPACES - 1) return { status: STATUS.INVALID_NAMESPACE };
      return this.#give(command, activeNamespaces(namespace));
    }
    if (subject > IDENTIFY.DESCRIPTORS) return { status: STATUS.INVALID_FIELD };
    if (namespace !== NAMESPACE) return { status: STATUS.INVALID_NAMESPACE };
    return this.#give(command, subject === IDENTIFY.NAMESPACE ? identifyNamespace(who) : namespaceDescriptors(who));
  }

  #logPage(command: Command): Execution {
    const [dword10, dword11, offsetLow, offsetHigh] = command.dwords;
    const id = dword10 & 0xff;
    const page = this.#parts.logs.page(id);
    if (page === undefined) return { status: STATUS.INVALID_LOG_PAGE };
    const length = ((dword11 & 0xffff) * 0x1_0000 + (dword10 >>> 16) + 1) * 4;
    if (length > MAX_TRANSFER || offsetHigh !== 0 || offsetLow > page.length || (offsetLow & 3) !== 0)
      return { status: STATUS.INVALID_FIELD };
    const bytes = new Uint8Array(length);
    bytes.set(page.subarray(offsetLow, offsetLow + length));
    return this.#give(command, bytes, () => {
      if ((dword10 & RETAIN_EVENT) === 0 && id === LOG.ERRORS) this.#parts.events.acknowledge(id);
    });
  }

  /** `given` is called when the bytes are there. */
  #give(command: Command, bytes: Uint8Array, given: () => void = () => {}): Execution {
    const { data } = this.#parts;
    const ended = (status: Status): Outcome => {
      if (status === STATUS.SUCCESS) given();
      return { status };
    };
    const buffer = data.pin(command, bytes.length, PROT_WRITE);
    if (typeof buffer === 'number') {
      if (!data.mayCopy(buffer)) return ended(buffer);
      const about = { length: bytes.length, prot: PROT_WRITE };
      return {
        buffer: undefined,
        far: true,
        outcome: data.copy(command, about, (views) => scatter(bytes, views)).then(ended),
      };
    }
    scatter(bytes, buffer.views);
    buffer.release();
    return ended(STATUS.SUCCESS);
  }

  #deleteSubmission({ dwords }: Command): Execution {
    const queue = this.#parts.queues.deleteSubmission(dwords[0] & 0xffff);
    if (typeof queue === 'number') return { status: queue };
    const outcome = { status: STATUS.SUCCESS };
    const idle = this.#parts.idle(queue);
    return idle === undefined ? outcome : { buffer: undefined, outcome: idle.then(() => outcome) };
  }

  /** Only event requests can be called back; I/O is left to end by itself. */
  #abort({ dwords: [dword10] }: Command): Outcome {
    const aborted = (dword10 & 0xffff) === 0 && this.#parts.events.abort(dword10 >>> 16);
    return { status: STATUS.SUCCESS, result: aborted ? 0 : NOT_ABORTED };
  }
}
