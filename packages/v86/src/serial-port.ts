/** Registers of a 16550 by offset. Source: PC16550D data sheet. */
const REGISTER = {
  DATA: 0,
  INTERRUPT_ENABLE: 1,
  INTERRUPT_STATUS: 2,
  LINE_CONTROL: 3,
  LINE_STATUS: 5,
  MODEM_STATUS: 6,
} as const;
const DIVISOR_ACCESS = 0x80;
const ALWAYS_READY = 0x60;
const RECEIVED = 1;
const RECEIVE_INTERRUPT = 4;
const CONNECTED = 0xb0;
const NOTHING_PENDING = 1;
/** Characters kept of a line without end, and of everything. */
const LINE_LIMIT = 4096;
const OUTPUT_LIMIT = 256 * 1024;

/**
 * The first serial port of a PC, as far as a console needs it: everything is sent at once, what is typed waits until the guest takes it,
 * and interrupts while it waits.
 */
export class SerialPort {
  readonly #interrupt: (up: boolean) => void;
  readonly #registers = new Uint8Array(8);
  readonly #listeners = new Set<(line: string) => void>();
  readonly #lines: string[] = [];
  #kept = 0;
  #line = '';
  readonly #typed: number[] = [];
  #up = false;

  /** `interrupt`: the level of the port's interrupt line. */
  constructor(interrupt: (up: boolean) => void = () => {}) {
    this.#interrupt = interrupt;
  }

  /** What was printed so far; only the end of it when it is very much. */
  get output(): string {
    return [...this.#lines, this.#line].join('\n');
  }

  /** Calls `listener` with each line when it ends, without the line break. @returns the undo. */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Types on the console: the low 8 bits of each character. */
  type(text: string): void {
    for (const character of text) this.#typed.push((character.codePointAt(0) ?? 0) & 0xff);
    this.#updateInterrupt();
  }

  /** `offset`: 0 to 7. */
  read(offset: number): number {
    if (offset === REGISTER.LINE_STATUS) return ALWAYS_READY | (this.#typed.length > 0 ? RECEIVED : 0);
    if (offset === REGISTER.MODEM_STATUS) return CONNECTED;
    if (offset === REGISTER.INTERRUPT_STATUS) return this.#interrupts ? RECEIVE_INTERRUPT : NOTHING_PENDING;
    if (offset === REGISTER.DATA && !this.#divisor) return this.#receive();
    return this.#registers[offset] ?? 0;
  }

  write(offset: number, value: number): void {
    if (offset === REGISTER.DATA && !this.#divisor) this.#print(String.fromCharCode(value));
    else if (!this.#divisor || offset >= REGISTER.INTERRUPT_STATUS) this.#registers[offset] = value;
    this.#updateInterrupt();
  }

  /** Whether the first two registers are the divisor's at the moment. */
  get #divisor(): boolean {
    return ((this.#registers[REGISTER.LINE_CONTROL] ?? 0) & DIVISOR_ACCESS) !== 0;
  }

  get #interrupts(): boolean {
    return this.#typed.length > 0 && ((this.#registers[REGISTER.INTERRUPT_ENABLE] ?? 0) & RECEIVED) !== 0;
  }

  #receive(): number {
    const character = this.#typed.shift() ?? 0;
    this.#updateInterrupt();
    return character;
  }

  #updateInterrupt(): void {
    const up = this.#interrupts;
    if (up === this.#up) return;
    this.#up = up;
    this.#interrupt(up);
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
