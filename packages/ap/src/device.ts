import type { FrameRange, IrqInfo, IrqSink, PinningDeviceContext, PinningDeviceOps } from '@pinion/core';
import { type MatrixIndices, matrixOf, withBit, withoutBit } from './assignment.js';
import { errors } from './errors.js';
import { guestMatrixOf } from './filter.js';
import type { ApGuest } from './guest.js';
import { GuestInstructions, type GuestView, type PqapResult } from './instructions.js';
import { type ApInterrupt, QueueInterrupts } from './interrupts.js';
import type { ApMachine, MatrixDevice } from './machine.js';
import { type ApMatrix, type Apqn, apqnsOf, EMPTY_MATRIX, formatApqn, hasApqn, sameMatrix } from './matrix.js';
import type { ApStatus } from './pqap.js';
import type { DqapResult } from './queue.js';
import type { ApQuirk } from './quirks.js';
import { type BoundQueue, isUsable, QueueResets } from './resets.js';
import { QueueSilencer } from './silencer.js';

/** Interrupt indices of the device towards the hypervisor; the guest's own interrupts go through `ApGuest`. */
export const AP_IRQ = { REQ: 0, CFG_CHG: 1 } as const;

const IRQS: readonly IrqInfo[] = [
  { index: AP_IRQ.REQ, name: 'req', count: 1 },
  { index: AP_IRQ.CFG_CHG, name: 'cfg-chg', count: 1 },
];

/**
 * A mediated AP matrix. It is created with no queues, and its matrix may change at any time, also while the guest runs (hot plug).
 * While it is open, its guest reaches the queues through `pqap`, `nqap` and `dqap`. It pins nothing but notification pages.
 *
 * Changes take effect at once; only resets may take time, and go on by themselves: `settled()` waits for them. Until then their pages are
 * held, and their queues are given to nobody.
 */
export class ApDevice implements PinningDeviceOps, MatrixDevice {
  readonly name: string;
  readonly irqs = IRQS;
  /** The host that all devices of a driver share: its masks, cards and domains. */
  readonly machine: ApMachine;
  readonly #context: PinningDeviceContext;
  readonly #quirks: ReadonlySet<ApQuirk>;
  readonly #interrupts: QueueInterrupts;
  readonly #silencer: QueueSilencer;
  readonly #resets: QueueResets;
  readonly #instructions: GuestInstructions;
  /** The queues that the guest reaches: none while the device is closed. */
  readonly #queues = new Map<Apqn, BoundQueue>();
  #matrix = EMPTY_MATRIX;
  #guestMatrix = EMPTY_MATRIX;
  #state: 'closed' | 'open' | 'removed' = 'closed';
  #guest: ApGuest | undefined;
  #sink: IrqSink | undefined;

  /** Made by the driver; see `createApDriver`. */
  constructor(context: PinningDeviceContext, machine: ApMachine, quirks: ReadonlySet<ApQuirk>) {
    const { name, clock, log, pins } = context;
    this.name = name;
    this.machine = machine;
    this.#context = context;
    this.#quirks = quirks;
    this.#interrupts = new QueueInterrupts({ pins, log, quirks });
    this.#silencer = new QueueSilencer(this.#interrupts, { clock, log });
    const [interrupts, silencer] = [this.#interrupts, this.#silencer];
    this.#resets = new QueueResets({
      interrupts,
      silencer,
      clock,
      log,
      quirks,
      ended: (bound) => this.#wasReset(bound),
    });
    this.#instructions = new GuestInstructions(context, { machine, interrupts, silencer, quirks });
    machine.attach(this, { clock, log });
  }

  // The matrix. Indices are checked against the machine's highest, not against what is plugged.

  /** What was assigned. */
  get matrix(): ApMatrix {
    return this.#matrix;
  }

  /** What a guest sees of it: only what the machine has, and only whole adapters. */
  get guestMatrix(): ApMatrix {
    return this.#guestMatrix;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /**
   * Adds an adapter, and so a queue for every assigned domain. Does nothing if it is assigned. All or nothing.
   * @throws AP_NOT_AN_INDEX (EINVAL), AP_NO_SUCH_INDEX (ENODEV), AP_RESERVED (EADDRNOTAVAIL), AP_IN_USE (EADDRINUSE),
   * AP_REMOVED (ENODEV), checked in this order. Source: assign_adapter_store().
   */
  assignAdapter(adapter: number): void {
    this.#adopt(withBit(this.#matrix, ['adapters', adapter], this.machine.hardware));
  }

  /** Takes an adapter away and resets its queues. Does nothing if it is not assigned. @throws AP_NOT_AN_INDEX, AP_NO_SUCH_INDEX. */
  unassignAdapter(adapter: number): void {
    this.#adopt(withoutBit(this.#matrix, ['adapters', adapter], this.machine.hardware));
  }

  /** As `assignAdapter`, for a usage domain. */
  assignDomain(domain: number): void {
    this.#adopt(withBit(this.#matrix, ['domains', domain], this.machine.hardware));
  }

  unassignDomain(domain: number): void {
    this.#adopt(withoutBit(this.#matrix, ['domains', domain], this.machine.hardware));
  }

  /** As `assignAdapter`, for a control domain; these may be shared, so AP_RESERVED and AP_IN_USE do not occur. */
  assignControlDomain(domain: number): void {
    this.#adopt(withBit(this.#matrix, ['controlDomains', domain], this.machine.hardware));
  }

  unassignControlDomain(domain: number): void {
    this.#adopt(withoutBit(this.#matrix, ['controlDomains', domain], this.machine.hardware));
  }

  /** Replaces all three masks at once, or none. @throws as `assignAdapter`. Source: ap_config_store(). */
  configure(indices: MatrixIndices): void {
    this.#adopt(matrixOf(indices, this.machine.hardware));
  }

  /** Settles when no reset and no silencing of a queue goes on any more. */
  async settled(): Promise<void> {
    await this.#resets.settled();
    await this.#silencer.settled();
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

  // The instructions.

  /**
   * Process adjunct processor queue: TAPQ, RAPQ, ZAPQ, AQIC, QCI, and a refusal of QACT, BAPQ and AAPQ. Takes and returns the general
   * registers. AQIC that turns interrupts off answers BUSY when the queue is; the driver carries on by itself (`settled`).
   * @throws AP_OPERATION_EXCEPTION (EOPNOTSUPP), AP_PRIVILEGED_OPERATION (EPERM), AP_SPECIFICATION_EXCEPTION (EINVAL), in this order, and
   * QCI AP_ADDRESSING_EXCEPTION (EFAULT): the guest gets that program interruption.
   */
  pqap(gr0: bigint, gr1: bigint, gr2: bigint): PqapResult {
    return this.#instructions.pqap(this.#view, { gr0, gr1, gr2 });
  }

  /**
   * Enqueues a copy of `message`; the reply comes later, never before this returns. `psmid`: 64 bits, returned with the reply.
   * Codes: QUEUE_NOT_AVAILABLE, the card's condition, MESSAGE_TOO_BIG, QUEUE_FULL, in this order. A message that makes no sense is
   * answered, not refused. @throws AP_PRIVILEGED_OPERATION (EPERM).
   */
  nqap(apqn: Apqn, psmid: bigint, message: Uint8Array): ApStatus {
    return this.#instructions.nqap(this.#view, apqn, { psmid, message });
  }

  /**
   * Takes the oldest reply, at most `max` bytes of it; what did not fit comes with the next call.
   * Codes: QUEUE_NOT_AVAILABLE, the card's condition, NO_PENDING_REPLY. @throws AP_PRIVILEGED_OPERATION (EPERM), AP_BAD_LENGTH (EINVAL).
   */
  dqap(apqn: Apqn, max: number): DqapResult {
    return this.#instructions.dqap(this.#view, apqn, max);
  }

  // The duties of a device.

  /** @throws AP_NO_GUEST (EINVAL), AP_GUEST_TAKEN (EPERM). Source: vfio_ap_mdev_open_device(). */
  open(): void {
    if (this.#guest === undefined) throw errors.NO_GUEST({ device: this.name });
    this.machine.enter(this.#guest, this);
    this.refilter(); // a queue whose last reset failed may still have what the former guest left in it
    this.#state = 'open';
    this.#plug();
  }

  /** Resets every queue, so nothing is pinned afterwards, and takes them from the guest. A queue that cannot be reset is silenced and reported. */
  async close(): Promise<void> {
    this.#state = 'closed';
    this.#plug();
    await this.settled();
    if (this.#guest !== undefined) await this.machine.leave(this.#guest);
  }

  /**
   * VFIO_DEVICE_RESET: every queue is empty and silent, and nothing is pinned. Waits for all of them, at most about a second.
   * @throws AP_RESET_FAILED (EIO) naming the queues that could not be reset; these are silent too.
   */
  async reset(): Promise<void> {
    const queues = [...this.#queues.values()];
    await Promise.all(queues.map((bound) => this.#resets.start(bound)));
    const failed = queues.filter((bound) => !isUsable(bound)).map(({ queue }) => formatApqn(queue.apqn));
    if (failed.length > 0) throw errors.RESET_FAILED({ device: this.name, queues: failed.join(', ') });
  }

  request(): void {
    this.#sink?.(AP_IRQ.REQ, 0);
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** Turns the interrupts of every queue off whose notification page lies in the range, and then gives the page back. */
  async dmaUnmap(range: FrameRange): Promise<void> {
    if (this.#quirks.has('blind-unpin')) {
      this.#context.pins.unpin(range.first, 1);
      return;
    }
    const queues = this.#interrupts.queuesIn(range);
    const some = this.#quirks.has('first-queue-only') ? queues.slice(0, 1) : queues;
    if (this.#quirks.has('zero-sentinel') && range.first === 0) this.#silenceSilent();
    await Promise.all(some.map((queue) => this.#silencer.release(queue)));
  }

  /** The queues become free for other devices. */
  async remove(): Promise<void> {
    this.#state = 'removed';
    this.#plug();
    this.machine.detach(this);
    await this.settled();
  }

  /** The machine changed: what the guest may see is looked at again, and it is told if that is something else. */
  refilter(): void {
    const { machine } = this;
    const rules = { usable: (apqn: Apqn) => machine.isUsable(apqn), partial: this.#quirks.has('partial-adapters') };
    const next = guestMatrixOf(this.#matrix, machine.shown, rules);
    const changed = !sameMatrix(next, this.#guestMatrix);
    this.#guestMatrix = next;
    this.#plug();
    if (changed && this.isOpen) this.#sink?.(AP_IRQ.CFG_CHG, 0);
  }

  get #view(): GuestView {
    return { guest: this.#guest, isOpen: this.isOpen, matrix: this.#guestMatrix, queues: this.#queues };
  }

  #adopt(wanted: ApMatrix): void {
    if (wanted === this.#matrix) return;
    if (this.#state === 'removed') throw errors.REMOVED({ device: this.name });
    this.machine.checkClaim(this, wanted);
    this.#matrix = wanted;
    this.refilter();
  }

  /** Makes the guest's queues those of its matrix: what goes is reset, what comes is empty and silent. */
  #plug(): void {
    const visible = this.isOpen ? this.#guestMatrix : EMPTY_MATRIX;
    for (const [apqn, bound] of this.#queues) {
      if (hasApqn(visible, apqn) && this.machine.bound(apqn) === bound) continue;
      this.#queues.delete(apqn);
      this.#giveUp(bound);
    }
    for (const apqn of apqnsOf(visible)) {
      const bound = this.machine.bound(apqn);
      if (bound !== undefined) this.#queues.set(apqn, bound);
    }
  }

  /** A queue leaves the guest. One that is not there any more cannot signal, so its page can go as it is. */
  #giveUp(bound: BoundQueue): void {
    const gone = bound.queue.condition === 'gone' && !this.#quirks.has('reset-unconfigured');
    if (gone) this.#interrupts.forget(bound.queue);
    else this.#resets.start(bound);
  }

  /** A queue that left is ready again: whoever it is assigned to may have it. */
  #wasReset(bound: BoundQueue): void {
    const here = this.#queues.get(bound.queue.apqn) === bound;
    if (!here && isUsable(bound)) this.machine.refilterAll();
  }

  #silenceSilent(): void {
    for (const { queue } of this.#queues.values()) if (!this.#interrupts.holds(queue)) queue.aqic(null);
  }
}
