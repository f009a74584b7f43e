/** The upper level of a DmaMap: the first frame of each chunk. */
import { lastUpTo, slopeOf, WINDOW } from './dma-search.js';

/** First frames of the chunks, ascending, padded with Infinity. */
export class DmaHeads {
  private count = 0;
  private keys = new Float64Array(WINDOW).fill(Infinity);
  private slope = 0;

  /** Index of the last chunk that begins at or before `frame`; 0 if there is none. */
  find(frame: number): number {
    const index = lastUpTo(this.keys, this.slope, frame);
    return index < 0 ? 0 : index;
  }

  /** First frame of chunk `index`, or Infinity if there is no such chunk. */
  at(index: number): number {
    return index < this.count ? (this.keys[index] ?? Infinity) : Infinity;
  }

  insert(index: number, key: number): void {
    if (this.count === this.keys.length) this.resize(this.count * 2);
    this.keys.copyWithin(index + 1, index, this.count);
    this.count++;
    this.set(index, key);
  }

  /** The chunk begins elsewhere now, still between its neighbours. */
  set(index: number, key: number): void {
    this.keys[index] = key;
    this.slope = slopeOf(this.keys, this.count);
  }

  remove(index: number): void {
    this.keys.copyWithin(index, index + 1, this.count);
    this.count--;
    this.keys[this.count] = Infinity;
    if (this.count * 4 <= this.keys.length && this.keys.length > WINDOW) this.resize(this.keys.length / 2);
    this.slope = slopeOf(this.keys, this.count);
  }

  byteSize(): number {
    return this.keys.byteLength;
  }

  private resize(capacity: number): void {
    const keys = new Float64Array(capacity).fill(Infinity);
    keys.set(this.keys.subarray(0, this.count));
    this.keys = keys;
  }
}
