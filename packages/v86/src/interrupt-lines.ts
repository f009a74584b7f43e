/** Interrupt lines that the slots of a bus share: a line is up as long as anybody holds it. Source: PCI 3.0 section 2.2.6 (wired or). */
export class InterruptLines {
  readonly #setIrq: (line: number, up: boolean) => void;
  readonly #holders = new Map<number, Set<object>>();

  constructor(setIrq: (line: number, up: boolean) => void) {
    this.#setIrq = setIrq;
  }

  /** `holder` pulls a line or lets it go. Doing it twice changes nothing. */
  set(line: number, holder: object, up: boolean): void {
    const holders = this.#holders.get(line) ?? new Set();
    this.#holders.set(line, holders);
    const before = holders.size;
    if (up) holders.add(holder);
    else holders.delete(holder);
    if (before === 0 || holders.size === 0) {
      if (before !== holders.size) this.#setIrq(line, up);
    }
  }
}
