/** What a process can leak. */
export type ResourceKind = 'fd' | 'mapping' | 'watch';

/** Who hears of owners that were forgotten; see `Ledger.onForgotten`. */
export type ForgottenReporter = (kind: ResourceKind, label: string) => void;

/** One resource in the ledger. */
export interface LedgerEntry {
  readonly kind: ResourceKind;
  readonly label: string;
  /** The resource is gone. A second call does nothing. */
  settle(): void;
}

/**
 * The open resources of one `Sys`, with a label each: how a test proves that nothing is left. Counts what has an owner
 * object (`Fd`, `Mapping`, `Watch`), so a raw fd number that nobody adopted is not in it.
 */
export class Ledger {
  readonly #entries = new Set<Entry>();
  readonly #onSettle = (entry: Entry): void => this.#settle(entry);
  #forgotten: FinalizationRegistry<Entry> | undefined;

  /** Notes a resource of an owner. */
  open(kind: ResourceKind, label: string, owner: object): LedgerEntry {
    const entry = new Entry(kind, label, this.#onSettle);
    this.#entries.add(entry);
    this.#forgotten?.register(owner, entry, entry);
    return entry;
  }

  /** How many resources of a kind are open; of all kinds without an argument. */
  count(kind?: ResourceKind): number {
    return this.labels(kind).length;
  }

  /** The labels of what is open, oldest first. */
  labels(kind?: ResourceKind): string[] {
    return [...this.#entries].filter((entry) => kind === undefined || entry.kind === kind).map((entry) => entry.label);
  }

  /**
   * From now on tells of new resources whose owner was garbage-collected while open. A diagnosis, never a clean-up:
   * whoever forgot an fd may have passed its number on, and closing a stranger's number is worse than a leak. Costs about a
   * microsecond per resource, so it is off until asked for.
   */
  onForgotten(reporter: ForgottenReporter): void {
    this.#forgotten = new FinalizationRegistry((entry) => {
      if (this.#entries.has(entry)) reporter(entry.kind, entry.label);
    });
  }

  #settle(entry: Entry): void {
    this.#entries.delete(entry);
    this.#forgotten?.unregister(entry);
  }
}

class Entry implements LedgerEntry {
  readonly kind: ResourceKind;
  readonly label: string;
  readonly #onSettle: (entry: Entry) => void;

  constructor(kind: ResourceKind, label: string, onSettle: (entry: Entry) => void) {
    this.kind = kind;
    this.label = label;
    this.#onSettle = onSettle;
  }

  settle(): void {
    this.#onSettle(this);
  }
}
