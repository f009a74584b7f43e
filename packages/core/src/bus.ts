import { EventEmitter } from 'eventemitter3';
import type { Prot } from './flags.js';
import type { Log } from './log.js';
import type { FrameRange, IovaFrame } from './units.js';

/** Facts, in the past tense. A listener can neither veto, delay nor break what happened. */
export interface MediatorEvents {
  'container:opened': [event: { container: string }];
  'container:released': [event: { container: string }];
  'iommu:set': [event: { container: string; backend: string; type: number }];
  'group:attached': [event: { container: string; group: string }];
  'group:detached': [event: { container: string; group: string }];
  'device:opened': [event: { device: string; driver: string }];
  'device:closed': [event: { device: string; driver: string }];
  'device:requested': [event: { device: string; driver: string; count: number }];
  'mdev:created': [event: { uuid: string; parent: string; type: string }];
  'mdev:removed': [event: { uuid: string; parent: string; type: string }];
  'parent:registered': [event: { parent: string; driver: string }];
  'parent:unregistered': [event: { parent: string; driver: string }];
  'dma:mapped': [event: { container: string; range: FrameRange; prot: Prot }];
  /** Comes after every `dmaUnmap` duty settled and the mapping is gone. */
  'dma:unmapped': [event: { container: string; range: FrameRange }];
  'pages:pinned': [event: { container: string; device: string; range: FrameRange; prot: Prot }];
  'pages:unpinned': [event: { container: string; device: string; range: FrameRange }];
  /** A driver closed its device (or its mapping went) with pins left. */
  'pages:leaked': [event: { container: string; device: string; driver: string; frames: readonly IovaFrame[] }];
  /** A device unpinned a page that it does not hold; `owner` holds it (absent: nobody does). */
  'pages:foreign-unpinned': [
    event: { container: string; device: string; driver: string; frame: IovaFrame; owner?: string; performed: boolean },
  ];
  /** A duty threw, rejected or did not settle in time. */
  'driver:failed': [event: { device: string; driver: string; duty: string; error: unknown }];
  /** What a kernel would WARN about. */
  'backend:warned': [event: { container: string; name: string; message: string }];
}

type Listener<K extends keyof MediatorEvents> = EventEmitter.EventListener<MediatorEvents, K>;

/** The one bus of a mediator. Observers subscribe with `on` or `once`, without a context; only core publishes. */
export class MediatorBus extends EventEmitter<MediatorEvents> {
  readonly #once = new Map<keyof MediatorEvents, Set<unknown>>();

  // why: `publish` calls listeners itself, so eventemitter3 never sees that a `once` listener had its turn.
  override once<K extends keyof MediatorEvents>(event: K, listener: Listener<K>): this {
    const listeners = this.#once.get(event) ?? new Set();
    this.#once.set(event, listeners.add(listener));
    return this.on(event, listener);
  }

  /** A listener's turn has come: one that came by `once` is taken off. */
  takeTurn<K extends keyof MediatorEvents>(event: K, listener: Listener<K>): void {
    if (this.#once.get(event)?.delete(listener) === true) this.off(event, listener);
  }
}

/**
 * Tells every observer, one after the other; one that throws (or whose promise rejects) is logged and skipped.
 * (eventemitter3's own emit would stop at the first throw, and observers must not be able to break the core.)
 */
export function publish<K extends keyof MediatorEvents>(
  bus: MediatorBus,
  log: Log,
  event: K,
  ...args: MediatorEvents[K]
): void {
  if (bus.listenerCount(event) === 0) return;
  const failed = (cause: unknown): void => log.warn(`an observer of ${event} threw`, cause);
  for (const listener of bus.listeners(event)) {
    bus.takeTurn(event, listener);
    try {
      // why: eventemitter3 types a listener by a conditional type over K, which TypeScript cannot resolve for a generic K.
      const answer = (listener as (...args: MediatorEvents[K]) => unknown)(...args);
      if (answer instanceof Promise) answer.catch(failed);
    } catch (cause) {
      failed(cause);
    }
  }
}
