/** What a process can leak. */
export type ResourceKind = 'fd' | 'mapping' | 'watch';

/** Who collects reports of owners that were forgotten; see `Ledger.onForgotten`. */
export type ForgottenReporter = (kind: ResourceKind, label: string) => void;

/** One resource in the ledger; `settle` it exactly when the resource is gone. */
export interface LedgerEntry {
  settle(): void;
}

/**
 * The open resources of one `Sys`, with a label each: how a test proves that nothing is left. Counts what has an owner
 * object (`Fd`, `Mapping`, `Watch`), so a raw fd number that nobody adopted is not in it.
 */
export class Ledger {
  readonly #entries = new Map<LedgerEntry, { readonly kind: ResourceKind; readonly label: string }>();
  readonly #forgotten = new FinalizationRegistry<LedgerEntry>((entry) => this.#report(entry));
  #reporter: ForgottenReporter | undefined;

  /**
   * Notes a resource. When `owner` is collected before the entry is settled, the reporter hears of it; nothing is
   * closed then: whoever forgot an fd may have passed its number on, and closing a stranger's number is worse than a leak.
   */
  open(kind: ResourceKind, label: string, owner: object): LedgerEntry {
    const entry: LedgerEntry = {
      settle: () => {
        if (this.#entries.delete(entry)) this.#forgotten.unregister(entry);
      },
    };
    this.#entries.set(entry, { kind, label });
    this.#forgotten.register(owner, entry, entry);
    return entry;
  }

  /** How many resources of a kind are open; of all kinds without an argument. */
  count(kind?: ResourceKind): number {
    return this.labels(kind).length;
  }

  /** The labels of what is open, oldest first. */
  labels(kind?: ResourceKind): string[] {
    return [...this.#entries.values()].filter((entry) => kind === undefined || entry.kind === kind).map((e) => e.label);
  }

  /** Sets who hears of resources whose owner was garbage-collected while open: a diagnosis, never a clean-up. */
  onForgotten(reporter: ForgottenReporter): void {
    this.#reporter = reporter;
  }

  #report(entry: LedgerEntry): void {
    const known = this.#entries.get(entry);
    if (known !== undefined) this.#reporter?.(known.kind, known.label);
  }
}
