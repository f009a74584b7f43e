/** A handful of pins in one plain array: the first stage of the adaptive table, because most mappings never have more. */
import { MAX_REFERENCES, pinTableErrors } from './pin-table.js';

const STRIDE = 3;
/** Most pages the array takes. */
export const MAX_FEW = 8;

/** Triples of page, frame, references, in no order. Nothing is allocated before the first pin. */
export class FewPins {
  lost = -1;
  private cells: number[] | undefined = undefined;

  get live(): number {
    return this.cells === undefined ? 0 : this.cells.length / STRIDE;
  }

  acquire(page: number): number {
    const at = this.find(page);
    if (at < 0) return -1;
    const references = this.cell(at + 2);
    if (references === MAX_REFERENCES) throw pinTableErrors.PIN_OVERFLOW({ page });
    this.set(at + 2, references + 1);
    return this.cell(at + 1);
  }

  /** @throws PinionError TYPE1_PIN_EXISTS. */
  insert(page: number, pfn: number, references: number): void {
    if (this.find(page) >= 0) throw pinTableErrors.PIN_EXISTS({ page });
    if (this.cells === undefined) this.cells = [page, pfn, references];
    else this.cells.push(page, pfn, references);
  }

  /** As PinHash.release. */
  release(page: number): number {
    const at = this.find(page);
    if (at < 0) return -1;
    const left = this.cell(at + 2) - 1;
    if (left > 0) this.set(at + 2, left);
    else this.drop(at);
    return left;
  }

  pfn(page: number): number {
    const at = this.find(page);
    return at < 0 ? -1 : this.cell(at + 1);
  }

  references(page: number): number {
    const at = this.find(page);
    return at < 0 ? 0 : this.cell(at + 2);
  }

  /** The page of entry 0..live-1. */
  pageAt(entry: number): number {
    return this.cell(entry * STRIDE);
  }

  clear(): void {
    this.cells = undefined;
  }

  byteSize(): number {
    return (this.cells?.length ?? 0) * 8;
  }

  private find(page: number): number {
    const { cells } = this;
    if (cells === undefined) return -1;
    for (let at = 0; at < cells.length; at += STRIDE) {
      if (cells[at] === page) return at;
    }
    return -1;
  }

  private cell(at: number): number {
    return this.cells?.[at] ?? 0;
  }

  private set(at: number, value: number): void {
    if (this.cells !== undefined) this.cells[at] = value;
  }

  /** The last entry fills the gap. */
  private drop(at: number): void {
    const { cells } = this;
    if (cells === undefined) return;
    this.lost = this.cell(at + 1);
    const end = cells.length - STRIDE;
    if (end === 0) this.cells = undefined;
    for (let i = 0; i < STRIDE; i++) cells[at + i] = cells[end + i] ?? 0;
    cells.length = end;
  }
}
