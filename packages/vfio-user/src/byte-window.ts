interface Waiting {
  readonly bytes: number;
  readonly go: () => void;
}

/** So many bytes may be under way at a time; who wants more waits, in order of arrival. */
export class ByteWindow {
  #free: number;
  readonly #waiting: Waiting[] = [];

  /** `size`: at least as much as anybody will take at once. */
  constructor(size: number) {
    this.#free = size;
  }

  /** @returns undefined if the bytes are there, else when they are. Each take is followed by one `give`. */
  take(bytes: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && bytes <= this.#free) {
      this.#free -= bytes;
      return undefined;
    }
    return new Promise((go) => {
      this.#waiting.push({ bytes, go });
    });
  }

  give(bytes: number): void {
    this.#free += bytes;
    for (let next = this.#waiting[0]; next !== undefined && next.bytes <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.go();
    }
  }
}
