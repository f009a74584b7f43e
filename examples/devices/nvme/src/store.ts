/** What a namespace keeps its blocks in. Offsets and lengths in bytes, whole blocks. A throw or rejection is a media error. */
export interface NamespaceStore {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Fills the views in order. They are live guest memory, valid until this settles. */
  read(offset: number, into: readonly Uint8Array[]): void | Promise<void>;
  write(offset: number, from: readonly Uint8Array[]): void | Promise<void>;
  zero(offset: number, length: number): void | Promise<void>;
  /** What was written is safe when this settles. */
  flush(): void | Promise<void>;
  close(): void | Promise<void>;
}

/** Blocks in memory. */
export class MemoryStore implements NamespaceStore {
  readonly bytes: Uint8Array;
  readonly readOnly: boolean;

  /** `content`: a size in bytes, or the bytes themselves (not copied). */
  constructor(content: number | Uint8Array, about: { readonly readOnly?: boolean } = {}) {
    this.bytes = typeof content === 'number' ? new Uint8Array(content) : content;
    this.readOnly = about.readOnly ?? false;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, into: readonly Uint8Array[]): void {
    let at = offset;
    for (const view of into) {
      view.set(this.bytes.subarray(at, at + view.length));
      at += view.length;
    }
  }

  write(offset: number, from: readonly Uint8Array[]): void {
    let at = offset;
    for (const view of from) {
      this.bytes.set(view, at);
      at += view.length;
    }
  }

  zero(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }

  flush(): void {}
  close(): void {}
}
