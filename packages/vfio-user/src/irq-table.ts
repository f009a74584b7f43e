import type { IrqInfo } from '@pinion/core';
import { EventFd, type Fd, SysError, type Watch } from '@pinion/sys';
import { IRQ_FLAG, PCI_IRQ } from './commands.js';
import { discard } from './discard.js';
import { vfioUserErrors } from './errors.js';
import type { IrqRequest } from './irq-messages.js';

/** One vector of one index. */
interface Vector {
  /** What the client wants to be signalled by. */
  line: EventFd | undefined;
  masked: boolean;
  /** Raised while it was masked. */
  pending: boolean;
}

/** An eventfd of the client's that masks or unmasks a vector when it is signalled: KVM's resample fd. */
interface Knob {
  readonly event: EventFd;
  readonly watch: Watch;
}

interface Index {
  readonly vectors: readonly Vector[];
  /** By action and vector. */
  readonly knobs: Map<string, Knob>;
}

/** The indices of a PCI device that have one signal and no mask. */
const isPlain = (index: number, pci: boolean): boolean => pci && (index === PCI_IRQ.ERR || index === PCI_IRQ.REQ);
const isLine = (index: number, pci: boolean): boolean => pci && index === PCI_IRQ.INTX;

/**
 * The interrupts of a device as one client has set them up: a table per index, so that what happens to INTx never touches MSI-X.
 * INTx masks itself when it fires and waits for an unmask, as with the kernel. A masked vector that is raised fires when it is unmasked.
 */
export class IrqTable {
  readonly #indices: readonly Index[];
  readonly #pci: boolean;

  /** `irqs`: what the device has; indices that it does not name have no vectors. */
  constructor(irqs: readonly IrqInfo[], pci: boolean) {
    this.#pci = pci;
    const count = Math.max(pci ? PCI_IRQ.COUNT : 0, ...irqs.map(({ index }) => index + 1));
    this.#indices = Array.from({ length: count }, (_, index) => newIndex(this.#vectorsOf(irqs, index)));
  }

  /** Number of indices. */
  get count(): number {
    return this.#indices.length;
  }

  /** What DEVICE_GET_IRQ_INFO says. @throws VFIOUSER_BAD_INDEX (EINVAL). */
  info(index: number): { readonly index: number; readonly flags: number; readonly count: number } {
    const { length: count } = this.#index(index).vectors;
    const masks = isPlain(index, this.#pci) ? IRQ_FLAG.NORESIZE : IRQ_FLAG.MASKABLE;
    const flags = IRQ_FLAG.EVENTFD | masks | (isLine(index, this.#pci) ? IRQ_FLAG.AUTOMASKED : 0);
    return { index, flags: count === 0 ? 0 : flags, count };
  }

  /**
   * DEVICE_SET_IRQS. `fds` become the table's when this returns; when it throws they stay the caller's and nothing has changed.
   * @throws VFIOUSER_BAD_INDEX, VFIOUSER_BAD_IRQS, SYS_NOT_EVENTFD (EINVAL).
   */
  set(request: IrqRequest, fds: readonly Fd[]): void {
    const index = this.#index(request.index);
    this.#check(request, index.vectors.length, fds.length);
    if (request.data === 'eventfd') {
      const events = fds.map((fd) => EventFd.adopt(fd));
      if (request.action === 'trigger') connect(index, request, events);
      else this.#connectKnobs(index, request, events);
    } else if (request.count === 0) {
      disable(index);
    } else {
      this.#act(index, request);
    }
  }

  /** A device raises a vector. @returns false when nobody is told: no such vector, or no line. */
  raise(index: number, vector: number): boolean {
    const found = this.#indices[index]?.vectors[vector];
    if (found === undefined || (found.line === undefined && !found.masked)) return false;
    if (found.masked) {
      found.pending = true;
      return true;
    }
    found.masked = isLine(index, this.#pci);
    found.line?.signal();
    return true;
  }

  /** Whether a vector was raised while it was masked. */
  pending(index: number, vector: number): boolean {
    return this.#indices[index]?.vectors[vector]?.pending ?? false;
  }

  masked(index: number, vector: number): boolean {
    return this.#indices[index]?.vectors[vector]?.masked ?? false;
  }

  /** Closes every descriptor and forgets masks and pending interrupts. */
  close(): void {
    for (const index of this.#indices) disable(index);
  }

  #vectorsOf(irqs: readonly IrqInfo[], index: number): number {
    return irqs.find((irq) => irq.index === index)?.count ?? (isPlain(index, this.#pci) ? 1 : 0);
  }

  #index(index: number): Index {
    const found = this.#indices[index];
    if (found === undefined) throw vfioUserErrors.BAD_INDEX({ what: 'interrupt', index, count: this.#indices.length });
    return found;
  }

  #check(request: IrqRequest, vectors: number, fds: number): void {
    const { index, start, count, data, action } = request;
    const bad = (problem: string): unknown => vfioUserErrors.BAD_IRQS({ index, problem });
    if (count === 0 && !(data === 'none' && action === 'trigger' && start === 0)) throw bad('no vectors');
    if (start + count > vectors) throw bad(`vectors ${start} to ${start + count - 1} of ${vectors}`);
    if (isPlain(index, this.#pci) && action !== 'trigger') throw bad('it can only be triggered');
    if (data !== 'eventfd' && fds > 0) throw bad(`${fds} descriptors without need`);
    if (data === 'eventfd' && fds !== 0 && fds !== count) throw bad(`${fds} descriptors for ${count} vectors`);
  }

  #act({ vectors }: Index, { index, start, count, data, action, selected }: IrqRequest): void {
    for (let n = 0; n < count; n += 1) {
      const vector = vectors[start + n];
      if (vector === undefined || (data === 'bool' && selected[n] === 0)) continue;
      if (action === 'trigger') vector.line?.signal();
      else if (action === 'mask') vector.masked = true;
      else this.#unmask(index, start + n);
    }
  }

  #unmask(index: number, vector: number): void {
    const found = this.#indices[index]?.vectors[vector];
    if (found === undefined) return;
    found.masked = false;
    const { pending } = found;
    found.pending = false;
    if (pending) this.raise(index, vector);
  }

  #connectKnobs(index: Index, request: IrqRequest, events: readonly EventFd[]): void {
    const { action, start, count } = request;
    const knobs = this.#knobs(request, events);
    for (let n = 0; n < count; n += 1) {
      const key = `${action} ${start + n}`;
      closeKnob(index.knobs.get(key));
      index.knobs.delete(key);
      const knob = knobs[n];
      if (knob !== undefined) index.knobs.set(key, knob);
    }
  }

  /** All of them or none. */
  #knobs(request: IrqRequest, events: readonly EventFd[]): readonly Knob[] {
    const knobs: Knob[] = [];
    try {
      events.forEach((event, n) => {
        knobs.push(this.#knob(event, request, request.start + n));
      });
      return knobs;
    } catch (cause) {
      for (const { watch } of knobs) watch.stop();
      throw cause;
    }
  }

  #knob(event: EventFd, { index, action }: IrqRequest, vector: number): Knob {
    const turn = (): void => {
      if (!wasSignalled(event)) return;
      if (action === 'unmask') this.#unmask(index, vector);
      else {
        const found = this.#indices[index]?.vectors[vector];
        if (found !== undefined) found.masked = true;
      }
    };
    return { event, watch: event.fd.sys.watch(event.fd.number, { readable: true }, turn) };
  }
}

const newIndex = (count: number): Index => ({
  vectors: Array.from({ length: count }, () => ({ line: undefined, masked: false, pending: false })),
  knobs: new Map(),
});

/** Lines for the vectors of a request; no events: they lose theirs. */
function connect(index: Index, { start, count }: IrqRequest, events: readonly EventFd[]): void {
  for (let n = 0; n < count; n += 1) {
    const vector = index.vectors[start + n];
    if (vector === undefined) continue;
    if (vector.line !== undefined) discard([vector.line]);
    vector.line = events[n];
  }
}

function disable(index: Index): void {
  discard(index.vectors.flatMap(({ line }) => (line === undefined ? [] : [line.fd])));
  for (const vector of index.vectors) {
    vector.line = undefined;
    vector.masked = false;
    vector.pending = false;
  }
  for (const knob of index.knobs.values()) closeKnob(knob);
  index.knobs.clear();
}

function closeKnob(knob: Knob | undefined): void {
  if (knob === undefined) return;
  knob.watch.stop();
  discard([knob.event]);
}

/** Takes the signals of an eventfd. A descriptor that cannot be read says nothing. */
function wasSignalled(event: EventFd): boolean {
  try {
    return event.drain() > 0n;
  } catch (failure) {
    if (failure instanceof SysError) return false;
    throw failure;
  }
}
