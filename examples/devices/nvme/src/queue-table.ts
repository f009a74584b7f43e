import { type PinApi, PROT_READ, PROT_WRITE, pageOffset } from '@pinion/core';
import type { FarMemory } from './far-memory.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';
import { ENTRY, LIMIT, STATUS, type Status } from './registers.js';
import { Ring } from './ring.js';
import type { Command } from './wire.js';

/** The admin queues' registers: addresses in bytes, sizes in entries. */
export interface AdminPlace {
  readonly submission: bigint;
  readonly completion: bigint;
  readonly submissionEntries: number;
  readonly completionEntries: number;
}

const CONTIGUOUS = 1;
const INTERRUPTS = 2;

/** The queues of a controller by number; 0 are the admin queues. Source: NVMe 1.4 sections 5.3, 5.4. */
export class QueueTable {
  readonly submissions = new Map<number, SubmissionQueue>();
  readonly completions = new Map<number, CompletionQueue>();
  readonly #pins: PinApi;
  readonly #far: FarMemory;
  readonly #vectors: () => number;

  /** `vectors`: how many interrupt vectors a queue may choose from now. */
  constructor(pins: PinApi, far: FarMemory, vectors: () => number) {
    this.#pins = pins;
    this.#far = far;
    this.#vectors = vectors;
  }

  get hasIoQueues(): boolean {
    return this.completions.size > 1 || this.submissions.size > 1;
  }

  /** @throws what pinning throws; no queue exists then. */
  createAdmin(place: AdminPlace): void {
    const completion = this.#completionRing(place.completion, place.completionEntries);
    const submission = this.#submissionRing(place.submission, place.submissionEntries);
    const queue = new CompletionQueue(0, completion, 0);
    completion.pin();
    try {
      submission.pin();
    } catch (cause) {
      completion.release();
      throw cause;
    }
    this.completions.set(0, queue);
    this.submissions.set(0, new SubmissionQueue(0, submission, queue));
  }

  createCompletion(command: Command): Status {
    const [dword10, dword11] = command.dwords;
    const { id, entries } = shapeOf(dword10);
    const vector = dword11 >>> 16;
    const problem = this.#problem(command, this.completions.has(id));
    if (problem !== undefined) return problem;
    if (vector >= this.#vectors()) return STATUS.INVALID_VECTOR;
    const ring = this.#completionRing(command.prp1, entries);
    return this.#pinned(ring, () => {
      this.completions.set(id, new CompletionQueue(id, ring, (dword11 & INTERRUPTS) === 0 ? undefined : vector));
    });
  }

  createSubmission(command: Command): Status {
    const [dword10, dword11] = command.dwords;
    const { id, entries } = shapeOf(dword10);
    const completions = this.completions.get(dword11 >>> 16);
    if (completions === undefined || completions.id === 0) return STATUS.CQ_INVALID;
    const problem = this.#problem(command, this.submissions.has(id));
    if (problem !== undefined) return problem;
    const ring = this.#submissionRing(command.prp1, entries);
    return this.#pinned(ring, () => this.submissions.set(id, new SubmissionQueue(id, ring, completions)));
  }

  /** @returns the queue that is gone, or the status that refuses. */
  deleteSubmission(id: number): SubmissionQueue | Status {
    const queue = this.submissions.get(id);
    if (queue === undefined || id === 0) return STATUS.INVALID_QUEUE_ID;
    queue.ring.release();
    this.submissions.delete(id);
    return queue;
  }

  deleteCompletion(id: number): Status {
    const queue = this.completions.get(id);
    if (queue === undefined || id === 0) return STATUS.INVALID_QUEUE_ID;
    for (const { completions } of this.submissions.values())
      if (completions === queue) return STATUS.INVALID_QUEUE_DELETION;
    queue.ring.release();
    this.completions.delete(id);
    return STATUS.SUCCESS;
  }

  get rings(): readonly Ring[] {
    return [...this.submissions.values(), ...this.completions.values()].map(({ ring }) => ring);
  }

  /** All queues are gone, and nothing of them is pinned. */
  clear(): void {
    for (const ring of this.rings) ring.release();
    this.submissions.clear();
    this.completions.clear();
  }

  /** In the order: number, size, memory. */
  #problem(command: Command, exists: boolean): Status | undefined {
    const [dword10, dword11] = command.dwords;
    const { id, entries } = shapeOf(dword10);
    if (id === 0 || id > LIMIT.QUEUES || exists) return STATUS.INVALID_QUEUE_ID;
    if (entries < 2 || entries > LIMIT.ENTRIES) return STATUS.INVALID_QUEUE_SIZE;
    if ((dword11 & CONTIGUOUS) === 0) return STATUS.INVALID_FIELD;
    return pageOffset(command.prp1) === 0 ? undefined : STATUS.INVALID_PRP_OFFSET;
  }

  #pinned(ring: Ring, create: () => void): Status {
    try {
      ring.pin();
    } catch {
      return STATUS.DATA_TRANSFER_ERROR; // why: memory the guest cannot give is the guest's error, told in NVMe's words
    }
    create();
    return STATUS.SUCCESS;
  }

  #completionRing(address: bigint, entries: number): Ring {
    return new Ring(this.#pins, this.#far, { address, entries, entrySize: ENTRY.COMPLETION, prot: PROT_WRITE });
  }

  #submissionRing(address: bigint, entries: number): Ring {
    return new Ring(this.#pins, this.#far, { address, entries, entrySize: ENTRY.SUBMISSION, prot: PROT_READ });
  }
}

const shapeOf = (dword10: number): { id: number; entries: number } => ({
  id: dword10 & 0xffff,
  entries: (dword10 >>> 16) + 1,
});
