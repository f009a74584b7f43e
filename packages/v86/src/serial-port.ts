/** Registers of a 16550 by offset. Source: PC16550D data sheet. */
const REGISTER = { DATA: 0, INTERRUPT_STATUS: 2, LINE_CONTROL: 3, LINE_STATUS: 5, MODEM_STATUS: 6 } as const;
const DIVISOR_ACCESS = 0x80;
const ALWAYS_READY = 0x60;
const CONNECTED = 0xb0;
const NOTHING_PENDING = 1;
/** Characters kept of a line without end, and of everything. */
const LINE_LIMIT = 4096;
const OUTPUT_LIMIT = 256 * 1024;

/** The first serial port of a PC, as far as writing to a console goes: everything is sent at once, nothing is ever received. */
export class SerialPort {
  readonly #registers = new Uint8Array(8);
  readonly #listeners = new Set<(line: string) => void>();
  readonly #lines: string[] = [];
  #kept = 0;
  #line = '';

  /** What was printed so far; only the end of it when it is very much. */
  get output(): string {
    return [...this.#lines, this.#line].join('\n');
  }

  /** Calls `listener` with each line when it ends, without the line break. @returns the undo. */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** `offset`: 0 to 7. */
  read(offset: number): number {
    if (offset === REGISTER.LINE_STATUS) return ALWAYS_READY;
    if (offset === REGISTER.MODEM_STATUS) return CONNECTED;
    if (offset === REGISTER.INTERRUPT_STATUS) return NOTHING_PENDING;
    if (offset === REGISTER.DATA) return 0;
    return this.#registers[offset] ?? 0;
  }

  write(offset: number, value: number): void {
    const divisor = ((this.#registers[REGISTER.LINE_CONTROL] ?? 0) & DIVISOR_ACCESS) !== 0;
    if (offset === REGISTER.DATA && !divisor) this.#print(String.fromCharCode(value));
    else if (!divisor || offset >= REGISTER.INTERRUPT_STATUS) this.#registers[offset] = value;
  }

  #print(character: string): void {
    if (character === '\r') return;
    if (character !== '\n') this.#line += character;
    if (character === '\n' || this.#line.length >= LINE_LIMIT) this.#endLine();
  }

  #endLine(): void {
    const line = this.#line;
    this.#line = '';
    this.#kept += line.length + 1;
    this.#lines.push(line);
    while (this.#kept > OUTPUT_LIMIT) this.#kept -= (this.#lines.shift()?.length ?? 0) + 1;
    for (const listener of this.#listeners) listener(line);
  }
}
