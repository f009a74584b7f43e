/** Makes lines of pieces of text. */
export class LineSplitter {
  readonly #line: (line: string) => void;
  #rest = '';

  /** `line` gets each line without its end. */
  constructor(line: (line: string) => void) {
    this.#line = line;
  }

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line.endsWith('\r') ? line.slice(0, -1) : line);
  }
}
