import { type Damage, NO_DAMAGE } from './damage.js';
import type { Plane } from './plane.js';
import type { PlaneReader } from './screen.js';

/** What a plane's memory held when it was last looked at, and the picture that was made of it. */
export class KeptPicture {
  /** RGBA. */
  readonly pixels: Uint8Array;
  /** Memory in its own order, in words; what is left of the last word is zero. */
  readonly #raw: Uint32Array;
  /** One row as it lies in memory, and as RGBA; the latter and the picture word by word. */
  readonly #row: Uint8Array;
  readonly #line: Uint8Array;
  readonly #lineWords: Uint32Array;
  readonly #pixelWords: Uint32Array;

  constructor({ info }: Plane, reader: PlaneReader) {
    this.#pixelWords = new Uint32Array(info.width * info.height);
    this.#lineWords = new Uint32Array(info.width);
    this.#raw = new Uint32Array(Math.ceil(info.size / 4));
    this.#row = new Uint8Array(reader.rowBytes);
    this.#line = new Uint8Array(this.#lineWords.buffer);
    this.pixels = new Uint8Array(this.#pixelWords.buffer);
  }

  /** Takes over what memory holds now. @returns a 1 for each row of the picture that may look different. */
  compare({ info, offset, tileRows }: Plane, reader: PlaneReader): Uint8Array {
    const rows = new Uint8Array(info.height);
    const rowOf = (at: number): number => Math.floor(at / (info.stride * tileRows)) * tileRows - offset.y;
    reader.eachPage((at, page) => {
      if (!this.#take(at, page)) return;
      const end = rowOf(at + page.length - 1) + tileRows;
      if (end > 0) rows.fill(1, Math.max(0, rowOf(at)), end);
    });
    return rows;
  }

  /** Draws a row anew. @returns what has changed of it. */
  draw(y: number, reader: PlaneReader): Damage {
    reader.readRow(y, this.#row);
    reader.convertRow(this.#row, this.#line, 0);
    const width = this.#lineWords.length;
    const old = this.#pixelWords.subarray(y * width, (y + 1) * width);
    let [x1, x2] = [0, width];
    while (x1 < width && this.#lineWords[x1] === old[x1]) x1 += 1;
    if (x1 === width) return NO_DAMAGE;
    while (this.#lineWords[x2 - 1] === old[x2 - 1]) x2 -= 1;
    old.set(this.#lineWords);
    return { x1, y1: y, x2, y2: y + 1 };
  }

  /** @returns whether the page, `at` bytes into the surface, differs from what was there. */
  #take(at: number, page: Uint8Array): boolean {
    const count = Math.floor(page.length / 4);
    const words = new Uint32Array(page.buffer, 0, count);
    const first = at / 4;
    for (let word = 0; word < count; word++) {
      if (words[word] === this.#raw[first + word]) continue;
      this.#raw.set(words, first);
      return true;
    }
    return false;
  }
}
