import {
  type FrameRange,
  hex,
  type IrqInfo,
  type IrqSink,
  type PinningDeviceContext,
  type PinningDeviceOps,
} from '@pinion/core';
import { errors } from './errors.js';
import { type ApGuest, type ApInterrupt, QueueInterrupts } from './interrupts.js';
import type { ApMachine } from './machine.js';
import {
  ApMask,
  type ApMatrix,
  type Apqn,
  apqnsOf,
  EMPTY_MATRIX,
  formatApqn,
  hasApqn,
  intersect,
  sameMatrix,
} from './matrix.js';
import {
  type ApStatus,
  conditionCode,
  decodeAqic,
  decodePqap,
  NOT_AVAILABLE,
  PQAP_FUNCTION,
  queueInfo,
  statusWord,
} from './pqap.js';
import { ApQueue, type DqapResult } from './queue.js';
import type { ApQuirk } from './quirks.js';
import { encodeError, REPLY_CODE } from './type50.js';

/** Interrupt indices of the device towards the hypervisor; the guest's own interrupts go through `ApGuest`. */
export const AP_IRQ = { REQ: 0, CFG_CHG: 1 } as const;

const IRQS: readonly IrqInfo[] = [
  { index: AP_IRQ.REQ, name: 'req', count: 1 },
  { index: AP_IRQ.CFG_CHG, name: 'cfg-chg', count: 1 },
];

/** What PQAP leaves in the guest's registers. */
export interface PqapResult {
  readonly cc: 0 | 3;
  /** General register 1: the status word in the low half. */
  readonly gr1: bigint;
  readonly gr2: bigint;
}

/** Indices of a whole matrix, as a configuration names them. */
export interface MatrixIndices {
  readonly adapters?: readonly number[];
  readonly domains?: readonly number[];
  readonly controlDomains?: readonly number[];
}

type MaskName = keyof ApMatrix;
const LABEL = { adapters: 'adapter', domains: 'domain', controlDomains: 'control domain' } as const;
const FUNCTIONS: ReadonlySet<number> = new Set(Object.values(PQAP_FUNCTION));

/**
 * A mediated AP matrix. It is created with no queues, and its matrix may change at any time, also while the guest runs (hot plug).
 * While it is open, its guest reaches the queues through `pqap`, `nqap` and `dqap`. It pins nothing but notification pages.
 */
export class ApDevice implements PinningDeviceOps {
  readonly name: string;
  readonly irqs = IRQS;
  readonly #context: PinningDeviceContext;
  readonly #machine: ApMachine;
  readonly #quirks: ReadonlySet<ApQuirk>;
  readonly #interrupts: QueueInterrupts;
  /** The queues that the guest sees: none while the device is closed. */
  readonly #queues = new Map<Apqn, ApQueue>();
  #matrix = EMPTY_MATRIX;
  #state: 'closed' | 'open' | 'removed' = 'closed';
  #guest: ApGuest | undefined;
  #sink: IrqSink | undefined;

  /** Made by the driver; see `createApDriver`. */
  constructor(context: PinningDeviceContext, machine: ApMachine, quirks: ReadonlySet<ApQuirk>) {
    this.name = context.name;
    this.#context = context;
    this.#machine = machine;
    this.#quirks = quirks;
    this.#interrupts = new QueueInterrupts(context.pins, context.log);
  }

  // The matrix. Indices are checked against the machine's highest, not against what is plugged.

  /** What was assigned. */
  get matrix(): ApMatrix {
    return this.#matrix;
  }

  /** What the guest sees of it: only what the machine has, and nothing while the device is closed. */
  get guestMatrix(): ApMatrix {
    return this.#state === 'open' ? intersect(this.#matrix, this.#machine.matrix) : EMPTY_MATRIX;
  }

  /**
   * Adds an adapter, and so a queue for every assigned domain. Does nothing if it is assigned. All or nothing.
   * @throws AP_NOT_AN_INDEX (EINVAL), AP_NO_SUCH_INDEX (ENODEV), AP_RESERVED (EADDRNOTAVAIL), AP_IN_USE (EADDRINUSE),
   * AP_REMOVED (ENODEV), checked in this order. Source: assign_adapter_store().
   */
  assignAdapter(adapter: number): void {
    this.#assign('adapters', adapter);
  }

  /** Takes an adapter away after its queues were reset. Does nothing if it is not assigned. @throws AP_NOT_AN_INDEX, AP_NO_SUCH_INDEX. */
  unassignAdapter(adapter: number): void {
    this.#unassign('adapters', adapter);
  }

  /** As `assignAdapter`, for a usage domain. */
  assignDomain(domain: number): void {
    this.#assign('domains', domain);
  }

  unassignDomain(domain: number): void {
    this.#unassign('domains', domain);
  }

  /** As `assignAdapter`, for a control domain; these may be shared, so AP_RESERVED and AP_IN_USE do not occur. */
  assignControlDomain(domain: number): void {
    this.#assign('controlDomains', domain);
  }

  unassignControlDomain(domain: number): void {
    this.#unassign('controlDomains', domain);
  }

  /** Replaces all three masks at once, or none. @throws as `assignAdapter`. Source: ap_config_store(). */
  configure(indices: MatrixIndices): void {
    this.#adopt({
      adapters: this.#maskOf('adapters', indices.adapters),
      domains: this.#maskOf('domains', indices.domains),
      controlDomains: this.#maskOf('controlDomains', indices.controlDomains),
    });
  }

  // The guest.

  /**
   * Says whose instructions and interrupts these are; undefined disconnects. Needed before open.
   * @throws AP_OPEN (EBUSY). Source: vfio_device_set_kvm().
   */
  setGuest(guest: ApGuest | undefined): void {
    if (this.#state === 'open') throw errors.OPEN({ device: this.name });
    this.#guest = guest;
  }

  /** The queues that signal, with the pages they hold. */
  get interrupts(): readonly ApInterrupt[] {
    return this.#interrupts.list();
  }

  // The instructions. Whoever runs the guest has checked that it is not in problem state.

  /**
   * Process adjunct processor queue: TAPQ, RAPQ, ZAPQ and AQIC. Takes and returns the general registers.
   * @throws AP_OPERATION_EXCEPTION (EOPNOTSUPP), then AP_SPECIFICATION_EXCEPTION (EINVAL): the guest gets that program
   * interruption. Source: handle_pqap() in arch/s390/kvm and in vfio_ap_ops.c.
   */
  pqap(gr0: bigint, gr1: bigint, gr2: bigint): PqapResult {
    const { code, apqn, reserved } = decodePqap(gr0);
    if (!FUNCTIONS.has(code)) throw errors.OPERATION_EXCEPTION({ device: this.name, code });
    if (reserved || !this.#machine.addressable(apqn)) {
      throw errors.SPECIFICATION_EXCEPTION({ device: this.name, gr0: hex(gr0) });
    }
    const queue = this.#queues.get(apqn);
    if (queue === undefined) return registers(NOT_AVAILABLE, gr2);
    switch (code) {
      case PQAP_FUNCTION.TAPQ:
        return registers(queue.status(), queueInfo(this.#machine));
      case PQAP_FUNCTION.AQIC:
        return registers(this.#aqic(queue, gr1, gr2), gr2);
      default:
        return registers(this.#reset(queue), gr2); // RAPQ and ZAPQ: this card has no keys that only one of them would keep
    }
  }

  /**
   * Enqueues a copy of `message`; the reply comes later, never before this returns. `psmid`: 64 bits, returned with the reply.
   * Codes: QUEUE_NOT_AVAILABLE, MESSAGE_TOO_BIG, QUEUE_FULL, in this order. A message that makes no sense is answered, not refused.
   */
  nqap(apqn: Apqn, psmid: bigint, message: Uint8Array): ApStatus {
    return this.#queues.get(apqn)?.nqap(BigInt.asUintN(64, psmid), message) ?? NOT_AVAILABLE;
  }

  /**
   * Takes the oldest reply, at most `max` bytes of it; what did not fit comes with the next call.
   * Codes: QUEUE_NOT_AVAILABLE, NO_PENDING_REPLY. @throws AP_BAD_LENGTH (EINVAL).
   */
  dqap(apqn: Apqn, max: number): DqapResult {
    if (!Number.isInteger(max) || max < 0) throw errors.BAD_LENGTH({ device: this.name, max });
    const none = { status: NOT_AVAILABLE, psmid: 0n, message: new Uint8Array(0), remaining: 0 };
    return this.#queues.get(apqn)?.dqap(max) ?? none;
  }

  // The duties of a device.

  /** @throws AP_NO_GUEST (EINVAL), AP_GUEST_TAKEN (EPERM). Source: vfio_ap_mdev_open_device(). */
  open(): void {
    if (this.#guest === undefined) throw errors.NO_GUEST({ device: this.name });
    this.#machine.enter(this.#guest, this);
    this.#state = 'open';
    this.#plug();
  }

  /** Resets every queue, so nothing is pinned afterwards, and takes them from the guest. */
  close(): void {
    if (this.#guest !== undefined) this.#machine.leave(this.#guest);
    this.#state = 'closed';
    this.#plug();
  }

  /** VFIO_DEVICE_RESET: every queue is empty and silent, and nothing is pinned. */
  reset(): void {
    for (const queue of this.#queues.values()) this.#reset(queue);
  }

  request(): void {
    this.#sink?.(AP_IRQ.REQ, 0);
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** Turns the interrupts of every queue off whose notification page lies in the range, and then gives the page back. */
  dmaUnmap(range: FrameRange): void {
    if (this.#quirks.has('blind-unpin')) {
      this.#context.pins.unpin(range.first, 1);
      return;
    }
    for (const queue of this.#interrupts.queuesIn(range)) this.#interrupts.disable(queue);
  }

  /** The queues become free for other devices. */
  remove(): void {
    this.#state = 'removed';
    this.#machine.disclaim(this);
    this.#plug();
  }

  #assign(mask: MaskName, index: number): void {
    this.#check(mask, index);
    if (this.#matrix[mask].has(index)) return;
    this.#adopt({ ...this.#matrix, [mask]: this.#matrix[mask].with(index) });
  }

  #unassign(mask: MaskName, index: number): void {
    this.#check(mask, index);
    if (!this.#matrix[mask].has(index)) return;
    this.#adopt({ ...this.#matrix, [mask]: this.#matrix[mask].without(index) });
  }

  #maskOf(mask: MaskName, indices: readonly number[] = []): ApMask {
    for (const index of indices) this.#check(mask, index);
    return ApMask.of(indices);
  }

  #check(mask: MaskName, value: number): void {
    const max = mask === 'adapters' ? this.#machine.maxAdapter : this.#machine.maxDomain;
    if (!Number.isInteger(value) || value < 0) throw errors.NOT_AN_INDEX({ what: LABEL[mask], value });
    if (value > max) throw errors.NO_SUCH_INDEX({ what: LABEL[mask], value, max });
  }

  #adopt(wanted: ApMatrix): void {
    if (this.#state === 'removed') throw errors.REMOVED({ device: this.name });
    const before = this.guestMatrix;
    this.#machine.claim(this, wanted);
    this.#matrix = wanted;
    this.#plug();
    if (!sameMatrix(before, this.guestMatrix)) this.#sink?.(AP_IRQ.CFG_CHG, 0);
  }

  /** Makes the guest's queues those of its matrix: what goes is reset first, what comes is empty and silent. */
  #plug(): void {
    const visible = this.guestMatrix;
    for (const [apqn, queue] of this.#queues) {
      if (hasApqn(visible, apqn)) continue;
      this.#reset(queue);
      this.#queues.delete(apqn);
    }
    for (const apqn of apqnsOf(visible)) {
      if (!this.#queues.has(apqn)) this.#queues.set(apqn, this.#makeQueue(apqn));
    }
  }

  #makeQueue(apqn: Apqn): ApQueue {
    const { depth, maxMessage } = this.#machine;
    return new ApQueue(apqn, {
      clock: this.#context.clock,
      depth,
      maxMessage,
      answer: (message) => this.#answer(apqn, message),
    });
  }

  #answer(apqn: Apqn, message: Uint8Array): Uint8Array {
    try {
      return this.#machine.card(message);
    } catch (cause) {
      this.#context.log.warn(`queue ${formatApqn(apqn)}: the card failed`, cause);
      return encodeError(REPLY_CODE.MACHINE_FAILURE);
    }
  }

  #aqic(queue: ApQueue, gr1: bigint, nib: bigint): ApStatus {
    const { enable, isc } = decodeAqic(gr1);
    if (!enable) return this.#interrupts.disable(queue);
    return this.#guest === undefined ? NOT_AVAILABLE : this.#interrupts.enable(queue, { guest: this.#guest, isc, nib });
  }

  /** The queue is silent before its page is given back. */
  #reset(queue: ApQueue): ApStatus {
    const status = queue.reset();
    this.#interrupts.forget(queue);
    return status;
  }
}

const registers = (status: ApStatus, gr2: bigint): PqapResult => ({
  cc: conditionCode(status),
  gr1: BigInt(statusWord(status)),
  gr2,
});
