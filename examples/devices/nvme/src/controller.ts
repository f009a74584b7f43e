import type { FrameRange, Log, PinningDeviceContext } from '@pinion/core';
import type { PciDevice } from '@pinion/pci';
import { AdminCommands } from './admin-commands.js';
import { Events } from './events.js';
import { FarMemory } from './far-memory.js';
import { Features } from './features.js';
import { type Execution, GuestData, type InFlight } from './guest-data.js';
import type { Identification } from './identify.js';
import { IoCommands } from './io-commands.js';
import { Logs } from './logs.js';
import { QueueTable } from './queue-table.js';
import type { CompletionQueue, SubmissionQueue } from './queues.js';
import { CC, CSTS, ENTRY, EVENT, LIMIT, LOG, REGISTER, STATUS, VERSION } from './registers.js';
import type { Completion, Outcome } from './wire.js';

/** A command under way and the queue it came from. */
interface Running {
  readonly queue: SubmissionQueue;
  readonly work: InFlight;
  readonly ended: Promise<void>;
}

/** Commands that one turn takes, and commands that may be under way: a guest cannot keep us for ever, nor pin everything. */
const TURN = 256;
const UNDER_WAY = 256;
const TIMEOUT_HALF_SECONDS = 20;
const CAP_LOW = (((LIMIT.ENTRIES - 1) | 0x1_0000) + TIMEOUT_HALF_SECONDS * 0x100_0000) >>> 0;
const CAP_HIGH = 0x20;
const CC_WRITABLE = CC.EN | CC.CSS | CC.MPS | CC.SHN | CC.IOSQES | CC.IOCQES | 0x3800;
const NO_COMMAND = 0xffff;

/**
 * An NVMe controller with one namespace. The guest's doorbells make it fetch, execute and complete; stores may take their time. Guest
 * memory is pinned for a queue as long as it exists and for a command as long as it runs. Source: NVMe 1.4 sections 3, 4 and 7.
 */
export class Controller {
  /** Guest memory that cannot be pinned. */
  readonly far = new FarMemory();
  readonly #context: PinningDeviceContext;
  readonly #log: Log;
  readonly #pci: () => PciDevice;
  readonly #queues: QueueTable;
  readonly #features: Features;
  readonly #logs: Logs;
  readonly #events: Events;
  readonly #admin: AdminCommands;
  readonly #io: IoCommands;
  readonly #running = new Set<Running>();
  readonly #rung = new Set<CompletionQueue>();
  readonly #registers = new Map<number, number>();
  #status = 0;
  #masked = 0;
  #paused = 0;
  #scheduled: (() => void) | undefined;

  constructor(context: PinningDeviceContext, about: { who: Identification; vectors: number; pci: () => PciDevice }) {
    const { who, vectors, pci } = about;
    const { pins, dma, log } = context;
    this.#context = context;
    this.#log = log;
    this.#pci = pci;
    const { far } = this;
    const data = new GuestData({ pins, dma, far, log });
    this.#queues = new QueueTable(pins, far, () => (pci().interrupts.mode === 'msix' ? vectors : 1));
    this.#features = new Features({ vectors, queuesExist: () => this.#queues.hasIoQueues });
    this.#logs = new Logs(who.firmware);
    this.#events = new Events((id, outcome) => this.#completeEvent(id, outcome));
    const shared = { who, data, features: this.#features, logs: this.#logs };
    const idle = (queue: SubmissionQueue): Promise<void> | undefined => this.#settled((one) => one.queue === queue);
    this.#admin = new AdminCommands({ ...shared, queues: this.#queues, events: this.#events, idle });
    this.#io = new IoCommands({ ...shared, log });
  }

  /** Whether it holds nothing of its guest's and does nothing for it. */
  get idle(): boolean {
    return this.#queues.rings.length === 0 && this.#running.size === 0;
  }

  read(offset: number): number {
    if (offset === REGISTER.CAP_LOW) return CAP_LOW;
    if (offset === REGISTER.CAP_HIGH) return CAP_HIGH;
    if (offset === REGISTER.VS) return VERSION;
    if (offset === REGISTER.INTMS || offset === REGISTER.INTMC) return this.#masked;
    if (offset === REGISTER.CSTS) return this.#status;
    return this.#registers.get(offset) ?? 0;
  }

  write(offset: number, value: number): void {
    if (offset >= REGISTER.DOORBELLS) this.#doorbell(offset, value);
    else if (offset === REGISTER.CC) this.#configure(value & CC_WRITABLE);
    else if (offset === REGISTER.INTMS) this.#mask((this.#masked | value) >>> 0);
    else if (offset === REGISTER.INTMC) this.#mask((this.#masked & ~value) >>> 0);
    else if (offset === REGISTER.AQA) this.#registers.set(offset, value & 0x0fff_0fff);
    else if (offset === REGISTER.ASQ_LOW || offset === REGISTER.ACQ_LOW) this.#registers.set(offset, value & ~0xfff);
    else if (offset === REGISTER.ASQ_HIGH || offset === REGISTER.ACQ_HIGH) this.#registers.set(offset, value);
  }

  /** Bus mastering may have come: commands may wait. */
  kick(): void {
    this.#process();
  }

  /**
   * Commands that touch the range, or whose completions do, come to their end first; meanwhile no new ones are taken. Then queues in
   * the range let go of their memory: it is pinned anew if the guest rings again.
   */
  dmaUnmap(range: FrameRange): void | Promise<void> {
    const rings = this.#queues.rings.filter((ring) => ring.touches(range));
    const release = (): void => {
      for (const ring of rings) ring.release();
    };
    const touches = ({ work, queue }: Running): boolean =>
      work.far !== true && (work.buffer?.touches(range) === true || queue.completions.ring.touches(range));
    const settled = this.#settled(touches);
    if (settled === undefined) {
      release();
      return undefined;
    }
    this.#paused += 1;
    return settled.then(() => {
      this.#paused -= 1;
      release();
      this.#later();
    });
  }

  /** As at power-on. Settles when no command is under way. */
  async reset(): Promise<void> {
    this.#disable();
    await this.#settled(() => true);
    this.#registers.clear();
    this.#features.reset();
    this.#masked = 0;
    this.#status = 0;
  }

  get #ready(): boolean {
    return (this.#status & (CSTS.RDY | CSTS.CFS)) === CSTS.RDY && this.#queues.submissions.size > 0;
  }

  #configure(value: number): void {
    const old = this.#registers.get(REGISTER.CC) ?? 0;
    this.#registers.set(REGISTER.CC, value);
    const [was, is] = [(old & CC.EN) !== 0, (value & CC.EN) !== 0];
    if (is && !was && (this.#status & CSTS.RDY) === 0) this.#enable(value);
    if (was && !is) this.#stop();
    if ((value & CC.SHN) !== 0 && (this.#status & CSTS.SHST) === 0) this.#shutDown();
  }

  #enable(value: number): void {
    const sizes = this.read(REGISTER.AQA);
    const place = {
      submission: this.#address(REGISTER.ASQ_LOW),
      completion: this.#address(REGISTER.ACQ_LOW),
      submissionEntries: (sizes & 0xfff) + 1,
      completionEntries: (sizes >>> 16) + 1,
    };
    const exponents = [(value & CC.IOSQES) >>> 16, (value & CC.IOCQES) >>> 20];
    const wrong = [
      [(value & (CC.CSS | CC.MPS)) !== 0, 'command set or page size is not offered'],
      [place.submissionEntries < 2 || place.completionEntries < 2, 'an admin queue of one entry'],
      [exponents[0] !== 0 && exponents[0] !== ENTRY.IOSQES, 'submission entries are 64 bytes'],
      [exponents[1] !== 0 && exponents[1] !== ENTRY.IOCQES, 'completion entries are 16 bytes'],
    ].find(([is]) => is === true);
    if (wrong !== undefined) {
      this.#fail(`${wrong[1]}`);
      return;
    }
    try {
      this.#queues.createAdmin(place);
    } catch (cause) {
      this.#fail('the admin queues cannot be reached', cause);
      return;
    }
    this.#status = CSTS.RDY;
  }

  /** CC.EN went to 0: queues and requests are gone at once; ready goes to 0 when no command is under way. */
  #stop(): void {
    this.#disable();
    const stopped = (): void => {
      this.#status = 0;
      const configuration = this.read(REGISTER.CC);
      if ((configuration & CC.EN) !== 0) this.#enable(configuration);
    };
    const settled = this.#settled(() => true);
    if (settled === undefined) stopped();
    else void settled.then(stopped);
  }

  #disable(): void {
    this.#scheduled?.();
    this.#scheduled = undefined;
    this.far.abandon();
    this.#queues.clear();
    this.#events.reset();
    this.#rung.clear();
    this.#updatePin();
  }

  #shutDown(): void {
    this.#status |= CSTS.SHUTTING_DOWN;
    const done = (): void => {
      this.#status = (this.#status & ~CSTS.SHST) | CSTS.SHUT_DOWN;
    };
    const flushed = this.#io.flush();
    if (flushed !== undefined && 'outcome' in flushed) void flushed.outcome.then(done);
    else done();
  }

  /** The controller cannot go on: the host sees CSTS.CFS and has to reset it. */
  #fail(problem: string, cause?: unknown): void {
    this.#status |= CSTS.CFS;
    this.#log.warn(`nvme ${this.#context.name}: fatal: ${problem}`, cause);
  }

  #address(low: number): bigint {
    return (BigInt(this.read(low + 4)) << 32n) | BigInt(this.read(low) >>> 0);
  }

  #doorbell(offset: number, value: number): void {
    if (!this.#ready) return;
    const index = (offset - REGISTER.DOORBELLS) / 4;
    const id = index >> 1;
    if (index % 2 === 0) this.#ringTail(this.#queues.submissions.get(id), value);
    else this.#ringHead(this.#queues.completions.get(id), value);
  }

  #ringTail(queue: SubmissionQueue | undefined, tail: number): void {
    if (queue === undefined) this.#badDoorbell(EVENT.INVALID_DOORBELL, 0);
    else if (tail >= queue.ring.entries) this.#badDoorbell(EVENT.INVALID_DOORBELL_VALUE, queue.id);
    else {
      queue.tail = tail;
      this.#process();
    }
  }

  #ringHead(queue: CompletionQueue | undefined, head: number): void {
    if (queue === undefined) this.#badDoorbell(EVENT.INVALID_DOORBELL, 0);
    else if (!queue.accepts(head)) this.#badDoorbell(EVENT.INVALID_DOORBELL_VALUE, queue.id);
    else {
      queue.head = head;
      this.#putWaiting(queue);
      this.#updatePin();
      this.#process();
    }
  }

  #putWaiting(queue: CompletionQueue): void {
    while (!queue.full && this.#ready) {
      const waiting = queue.waiting.shift();
      if (waiting === undefined) return;
      this.#put(queue, waiting);
    }
  }

  /** A doorbell that does not exist or a value it cannot have: an asynchronous event, and a line in the error log. */
  #badDoorbell(info: number, queue: number): void {
    this.#logs.addError({ queue, id: NO_COMMAND, status: STATUS.INVALID_FIELD, namespace: 0 });
    this.#events.happened({ type: EVENT.TYPE_ERROR, info, page: LOG.ERRORS });
    this.#interrupt();
  }

  /** Takes commands from all queues in turn, until there are none or it is somebody else's turn. */
  #process(): void {
    let taken = 0;
    for (let before = -1; before !== taken && this.#mayTake(taken); ) {
      before = taken;
      for (const queue of this.#queues.submissions.values()) {
        if (queue.empty || queue.fetching || queue.completions.waiting.length > 0 || !this.#mayTake(taken)) continue;
        taken += 1;
        this.#take(queue);
      }
    }
    this.#interrupt();
    if (taken >= TURN) this.#later();
  }

  #mayTake(taken: number): boolean {
    return taken < TURN && this.#ready && this.#paused === 0 && this.#running.size < UNDER_WAY && this.#pci().busMaster;
  }

  /** Goes on in a later turn of the event loop. */
  #later(): void {
    this.#scheduled ??= this.#context.clock.after(0, () => {
      this.#scheduled = undefined;
      this.#process();
    });
  }

  #take(queue: SubmissionQueue): void {
    let execution: Execution;
    let id = NO_COMMAND;
    let namespace = 0;
    try {
      const command = queue.take();
      if (command === undefined) {
        this.#fetch(queue);
        return;
      }
      ({ id, namespace } = command);
      execution = (queue.id === 0 ? this.#admin : this.#io).execute(command);
    } catch (cause) {
      this.#fail(`submission queue ${queue.id} cannot be reached`, cause);
      return;
    }
    if (execution === undefined) return;
    if ('outcome' in execution) this.#track(queue, { id, namespace }, execution);
    else this.#complete(queue, { id, namespace }, execution);
  }

  /** Begun later: whoever rings may be waiting for an answer, and copies nothing until it has it. */
  #fetch(queue: SubmissionQueue): void {
    queue.fetching = true;
    const there = (): boolean => this.#queues.submissions.get(queue.id) === queue;
    void Promise.resolve()
      .then(() => queue.fetch())
      .then(
        () => there() && this.#process(),
        (cause: unknown) => there() && this.#fail(`submission queue ${queue.id} cannot be copied`, cause),
      );
  }

  #track(queue: SubmissionQueue, command: { id: number; namespace: number }, work: InFlight): void {
    const ended = work.outcome.then((outcome) => {
      this.#running.delete(running);
      if (this.#queues.submissions.get(queue.id) !== queue) return;
      this.#complete(queue, command, outcome);
      this.#process();
    });
    const running: Running = { queue, work, ended };
    this.#running.add(running);
  }

  #complete(queue: SubmissionQueue, { id, namespace }: { id: number; namespace: number }, outcome: Outcome): void {
    if (outcome.status !== STATUS.SUCCESS)
      this.#logs.addError({ queue: queue.id, id, status: outcome.status, namespace });
    const { completions, head } = queue;
    const completion = { status: outcome.status, result: outcome.result, queue: queue.id, head, id };
    if (completions.full || completions.waiting.length > 0) completions.waiting.push(completion);
    else this.#put(completions, completion);
  }

  #put(completions: CompletionQueue, completion: Completion): void {
    try {
      const written = completions.put(completion);
      if (written !== undefined) this.#putFar(completions, written);
      else this.#rung.add(completions);
    } catch (cause) {
      this.#fail(`completion queue ${completions.id} cannot be reached`, cause);
    }
  }

  /** The host is told of an entry when it is there. */
  #putFar(completions: CompletionQueue, written: Promise<void>): void {
    const there = (): boolean => this.#queues.completions.get(completions.id) === completions;
    void written.then(
      () => {
        if (!there()) return;
        this.#rung.add(completions);
        this.#interrupt();
      },
      (cause: unknown) => there() && this.#fail(`completion queue ${completions.id} cannot be copied`, cause),
    );
  }

  #completeEvent(id: number, outcome: Outcome): void {
    const queue = this.#queues.submissions.get(0);
    if (queue === undefined) return;
    this.#complete(queue, { id, namespace: 0 }, outcome);
  }

  /** One interrupt for each queue that got entries. */
  #interrupt(): void {
    if (this.#rung.size === 0) return;
    for (const { vector } of this.#rung) if (vector !== undefined) this.#pci().signal(vector);
    this.#rung.clear();
    this.#updatePin();
  }

  #mask(mask: number): void {
    this.#masked = mask;
    this.#updatePin();
  }

  /** The pin is up while a queue that interrupts has entries the host did not take. Source: NVMe 1.4 section 7.5.1. */
  #updatePin(): void {
    const { interrupts } = this.#pci();
    if (interrupts.mode !== 'intx') {
      this.#pci().setIntx(false);
      return;
    }
    const due = [...this.#queues.completions.values()].some(
      ({ empty, vector }) => !empty && vector !== undefined && (this.#masked & (1 << vector)) === 0,
    );
    this.#pci().setIntx(due);
  }

  /** Settles when every running command of this kind has ended; undefined if there is none. */
  #settled(which: (running: Running) => boolean): Promise<void> | undefined {
    const ends = [...this.#running].filter(which).map(({ ended }) => ended);
    return ends.length === 0 ? undefined : Promise.all(ends).then(() => {});
  }
}
