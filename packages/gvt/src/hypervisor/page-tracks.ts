import type { Gfn } from '@pinion/core';
import type { GuestWriteHandler, WriteTraps } from './backend.js';

/** The guest pages whose writes a backend reports: at most one trap per page, however often it was asked for. */
export class PageTracks {
  readonly #undo = new Map<Gfn, () => void>();

  get count(): number {
    return this.#undo.size;
  }

  enable(traps: WriteTraps, gfn: Gfn, onWrite: GuestWriteHandler): void {
    if (!this.#undo.has(gfn)) this.#undo.set(gfn, traps.watchWrites(gfn, onWrite));
  }

  disable(gfn: Gfn): void {
    const undo = this.#undo.get(gfn);
    this.#undo.delete(gfn);
    undo?.();
  }

  clear(): void {
    for (const gfn of [...this.#undo.keys()]) this.disable(gfn);
  }
}
