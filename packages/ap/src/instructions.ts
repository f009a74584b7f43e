import { hex, PinionError, type PinningDeviceContext } from '@pinion/core';
import { errors } from './errors.js';
import type { ApGuest } from './guest.js';
import type { QueueInterrupts } from './interrupts.js';
import type { ApMachine } from './machine.js';
import type { ApMatrix, Apqn } from './matrix.js';
import {
  type ApStatus,
  conditionCode,
  decodeAqic,
  decodePqap,
  NOT_AVAILABLE,
  PQAP_FUNCTION,
  type PqapRegister0,
  RESPONSE,
  statusWord,
} from './pqap.js';
import type { ApQueue, DqapResult } from './queue.js';
import { configInfo, queueInfo } from './queue-info.js';
import type { ApQuirk } from './quirks.js';
import type { BoundQueue } from './resets.js';
import type { QueueSilencer } from './silencer.js';

/** What PQAP leaves in the guest's registers. */
export interface PqapResult {
  readonly cc: 0 | 3;
  /** General register 1: the status word in the low half. */
  readonly gr1: bigint;
  readonly gr2: bigint;
}

const FUNCTIONS: ReadonlySet<number> = new Set(Object.values(PQAP_FUNCTION));

interface Parts {
  readonly machine: ApMachine;
  readonly interrupts: QueueInterrupts;
  readonly silencer: QueueSilencer;
  readonly quirks: ReadonlySet<ApQuirk>;
}

/** General registers 0 to 2, as PQAP takes them. */
export interface PqapRegisters {
  readonly gr0: bigint;
  readonly gr1: bigint;
  readonly gr2: bigint;
}

/** Who executes, and what that guest has: no queues while its device is closed. */
export interface GuestView {
  readonly guest: ApGuest | undefined;
  readonly isOpen: boolean;
  readonly matrix: ApMatrix;
  readonly queues: ReadonlyMap<Apqn, BoundQueue>;
}

/**
 * The AP instructions of one guest. Programs that do wrong get the interruption that the architecture names, as an error; everything
 * else gets a code. Source: handle_pqap() in arch/s390/kvm and in vfio_ap_ops.c; reference C.3.
 */
export class GuestInstructions {
  readonly #context: PinningDeviceContext;
  readonly #parts: Parts;
  #lastCc: 0 | 3 = 0;

  constructor(context: PinningDeviceContext, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  /**
   * Process adjunct processor queue. Takes and returns the general registers. The order of checks: instructions installed, function known,
   * privilege, reserved bits and queue number and facilities, an open matrix, and for AQIC delivery; then the queue.
   */
  pqap(view: GuestView, registers: PqapRegisters): PqapResult {
    const { gr0, gr2 } = registers;
    const request = decodePqap(gr0);
    this.#checkFunction(request, view.guest);
    this.#checkPrivilege(view.guest);
    this.#checkSpecification(request, view.guest, gr0);
    if (!view.isOpen) return this.#answer(NOT_AVAILABLE, gr2, request);
    if (request.code === PQAP_FUNCTION.QCI) return this.#qci(view, gr2);
    const undeliverable = view.guest?.facilities?.delivery === false;
    if (request.code === PQAP_FUNCTION.AQIC && undeliverable) throw this.#notInstalled(request);
    const queue = view.queues.get(request.apqn)?.queue;
    if (queue === undefined) return this.#answer(NOT_AVAILABLE, gr2, request);
    const status = this.#execute(queue, request.code, { ...registers, guest: view.guest });
    return this.#answer(status, request.code === PQAP_FUNCTION.TAPQ ? this.#info(queue) : gr2, request);
  }

  nqap(view: GuestView, apqn: Apqn, request: { readonly psmid: bigint; readonly message: Uint8Array }): ApStatus {
    this.#checkPrivilege(view.guest);
    const queue = view.queues.get(apqn)?.queue;
    return queue?.nqap(BigInt.asUintN(64, request.psmid), request.message) ?? NOT_AVAILABLE;
  }

  dqap(view: GuestView, apqn: Apqn, max: number): DqapResult {
    this.#checkPrivilege(view.guest);
    if (!Number.isInteger(max) || max < 0) throw errors.BAD_LENGTH({ device: this.#context.name, max });
    const none = { status: NOT_AVAILABLE, psmid: 0n, message: new Uint8Array(0), remaining: 0 };
    return view.queues.get(apqn)?.queue.dqap(max) ?? none;
  }

  #execute(queue: ApQueue, code: number, registers: PqapRegisters & Pick<GuestView, 'guest'>): ApStatus {
    switch (code) {
      case PQAP_FUNCTION.TAPQ:
        return queue.tapq();
      case PQAP_FUNCTION.AQIC:
        return this.#aqic(queue, registers);
      case PQAP_FUNCTION.RAPQ:
        return this.#reset(queue, 'RAPQ');
      case PQAP_FUNCTION.ZAPQ:
        return this.#reset(queue, 'ZAPQ');
      default:
        return queue.status(RESPONSE.FACILITY_MISSING); // QACT, BAPQ, AAPQ: no card has compatible types or can be bound
    }
  }

  #aqic(queue: ApQueue, { guest, gr1, gr2 }: PqapRegisters & Pick<GuestView, 'guest'>): ApStatus {
    const { enable, isc } = decodeAqic(gr1);
    const { silencer, interrupts } = this.#parts;
    if (!enable) return silencer.begin(queue);
    if (guest === undefined) return NOT_AVAILABLE;
    if (silencer.isRunning(queue)) return queue.status(RESPONSE.BUSY);
    return interrupts.enable(queue, { guest, isc, nib: gr2 });
  }

  /** The guest resets its own queue, and the hardware turns signals off with it. */
  #reset(queue: ApQueue, instruction: 'RAPQ' | 'ZAPQ'): ApStatus {
    const status = queue.reset(instruction);
    if (status.code === RESPONSE.NORMAL) this.#parts.interrupts.forget(queue);
    return status;
  }

  /** Stores the guest's masks at its address `at`. */
  #qci(view: GuestView, at: bigint): PqapResult {
    try {
      this.#context.dma.write(at, configInfo(view.matrix, this.#parts.machine.hardware));
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      throw errors.ADDRESSING_EXCEPTION({ device: this.#context.name, at: hex(at) }, cause);
    }
    return { cc: 0, gr1: 0n, gr2: at };
  }

  #info(queue: ApQueue): bigint {
    return queueInfo(queue.card, this.#parts.machine.hardware);
  }

  #answer(status: ApStatus, gr2: bigint, request: PqapRegister0): PqapResult {
    const made = conditionCode(status);
    const stale = request.code === PQAP_FUNCTION.AQIC && made === 0 && this.#parts.quirks.has('stale-condition-code');
    const cc = stale ? this.#lastCc : made;
    this.#lastCc = cc;
    return { cc, gr1: BigInt(statusWord(status)), gr2 };
  }

  #checkFunction(request: PqapRegister0, guest: ApGuest | undefined): void {
    if (guest?.facilities?.instructions === false || !FUNCTIONS.has(request.code)) throw this.#notInstalled(request);
  }

  #checkPrivilege(guest: ApGuest | undefined): void {
    if (guest?.problemState?.() === true) throw errors.PRIVILEGED_OPERATION({ device: this.#context.name });
  }

  #checkSpecification({ code, apqn, reserved, test }: PqapRegister0, guest: ApGuest | undefined, gr0: bigint): void {
    const { hardware } = this.#parts.machine;
    const { test: hasTest = true, queueInterrupts = true } = guest?.facilities ?? {};
    const allowed =
      !reserved &&
      (hasTest || !test) &&
      (code === PQAP_FUNCTION.QCI || hardware.addressable(apqn)) &&
      (queueInterrupts || code !== PQAP_FUNCTION.AQIC);
    if (!allowed) throw errors.SPECIFICATION_EXCEPTION({ device: this.#context.name, gr0: hex(gr0) });
  }

  #notInstalled({ code }: PqapRegister0): unknown {
    return errors.OPERATION_EXCEPTION({ device: this.#context.name, code });
  }
}
