import { PinionError } from '@pinion/core';
import type { Plane, Planes } from './plane.js';
import { blend, type Frame, type PlaneReader, type Screen } from './screen.js';

/** A rectangle of the screen; `x2` and `y2` are outside. */
export interface Damage {
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

/** The screen after it has changed. */
export interface ScreenUpdate {
  /** 0 by 0 while the screen is off or cannot be shown. */
  readonly frame: Frame;
  /** What differs from the update before; the whole screen for the first one and after a change of its size or format. */
  readonly damage: Damage;
  /** Why the screen cannot be shown. */
  readonly problem: PinionError | undefined;
}

const OFF: Frame = Object.freeze({ width: 0, height: 0, pixels: new Uint8Array(0) });

interface CursorPicture {
  readonly key: string;
  readonly pixels: Uint8Array;
  readonly place: Damage;
}

/** The smallest rectangle around both; one of no size counts for nothing. */
export function unite(a: Damage, b: Damage): Damage {
  if (isEmpty(a)) return b;
  if (isEmpty(b)) return a;
  return {
    x1: Math.min(a.x1, b.x1),
    y1: Math.min(a.y1, b.y1),
    x2: Math.max(a.x2, b.x2),
    y2: Math.max(a.y2, b.y2),
  };
}

export const NO_DAMAGE: Damage = Object.freeze({ x1: 0, y1: 0, x2: 0, y2: 0 });
const isEmpty = ({ x1, y1, x2, y2 }: Damage): boolean => x1 >= x2 || y1 >= y2;
const wholeOf = ({ width, height }: Frame): Damage => ({ x1: 0, y1: 0, x2: width, y2: height });

/**
 * Finds out what has changed on the screen: the guest's CPU may draw as well as its engine, so memory is compared row by row with
 * what it held before, and only rows that differ are converted.
 */
export class ScreenTracker {
  readonly #planes: Planes;
  readonly #screen: Screen;
  /** What the picture was made from; a change of it makes everything new. */
  #key = '';
  #raw = new Uint8Array(0);
  #row = new Uint8Array(0);
  #pixels = new Uint8Array(0);
  #cursor: CursorPicture = { key: '', pixels: new Uint8Array(0), place: NO_DAMAGE };
  #last: ScreenUpdate | undefined;

  constructor(planes: Planes, screen: Screen) {
    this.#planes = planes;
    this.#screen = screen;
  }

  /** The update that was found last. */
  get last(): ScreenUpdate | undefined {
    return this.#last;
  }

  /** Forgets everything: the next look finds the whole screen new. */
  forget(): void {
    this.#key = '';
    this.#last = undefined;
  }

  /** Looks. @returns what has changed; undefined if nothing has. */
  look(): ScreenUpdate | undefined {
    const found = this.#examine();
    if (found !== undefined) this.#last = found;
    return found;
  }

  #examine(): ScreenUpdate | undefined {
    try {
      const plane = this.#planes.decode('primary');
      return plane === undefined ? this.#dark(undefined) : this.#compare(plane);
    } catch (cause) {
      if (cause instanceof PinionError) return this.#dark(cause);
      throw cause;
    }
  }

  #dark(problem: PinionError | undefined): ScreenUpdate | undefined {
    const { last } = this;
    if (last !== undefined && last.frame.width === 0 && last.problem?.name === problem?.name) return undefined;
    this.#key = '';
    return { frame: OFF, damage: NO_DAMAGE, problem };
  }

  #compare(plane: Plane): ScreenUpdate | undefined {
    const reader = this.#screen.reader(plane);
    const { width, height } = plane.info;
    const fresh = this.#prepare(plane, reader);
    const drawn = this.#readRows(plane, reader, fresh);
    const cursor = this.#moveCursor();
    const damage = fresh ? { x1: 0, y1: 0, x2: width, y2: height } : clip(unite(drawn, cursor), width, height);
    if (isEmpty(damage)) return undefined;
    const frame = { width, height, pixels: this.#pixels.slice() };
    if (!isEmpty(this.#cursor.place)) {
      const { x1, y1, x2, y2 } = this.#cursor.place;
      blend(frame, { xPos: x1, yPos: y1, width: x2 - x1, height: y2 - y1 }, this.#cursor.pixels);
    }
    return { frame, damage, problem: undefined };
  }

  /** @returns whether this is another picture than before. */
  #prepare({ info, format }: Plane, reader: PlaneReader): boolean {
    const palette = format.name === 'C8' ? this.#screen.palette().join() : '';
    const key = `${info.width} ${info.height} ${info.drmFormat} ${palette}`;
    if (key === this.#key) return false;
    this.#key = key;
    this.#row = new Uint8Array(reader.rowBytes);
    this.#raw = new Uint8Array(reader.rowBytes * info.height);
    this.#pixels = new Uint8Array(info.width * info.height * 4);
    return true;
  }

  #readRows({ info, format }: Plane, reader: PlaneReader, fresh: boolean): Damage {
    let damage = NO_DAMAGE;
    const row = this.#row;
    for (let y = 0; y < info.height; y++) {
      reader.readRow(y, row);
      const old = this.#raw.subarray(y * row.length, (y + 1) * row.length);
      const first = fresh ? 0 : firstDifference(row, old);
      if (first < 0) continue;
      const x2 = Math.ceil((lastDifference(row, old) + 1) / format.bytes);
      damage = unite(damage, { x1: Math.floor(first / format.bytes), y1: y, x2, y2: y + 1 });
      old.set(row);
      reader.convertRow(row, this.#pixels, y * info.width * 4);
    }
    return damage;
  }

  /** @returns where the cursor was and is, if that or its picture has changed. */
  #moveCursor(): Damage {
    const before = this.#cursor;
    const plane = this.#screen.cursor();
    const pixels = plane === undefined ? new Uint8Array(0) : this.#screen.reader(plane).pixels();
    const place = plane === undefined ? NO_DAMAGE : placeOf(plane);
    const key = Object.values(place).join();
    if (key === before.key && firstDifference(pixels, before.pixels) < 0) return NO_DAMAGE;
    this.#cursor = { key, pixels, place };
    return unite(before.place, place);
  }
}

const placeOf = ({ info: { xPos, yPos, width, height } }: Plane): Damage => ({
  x1: xPos,
  y1: yPos,
  x2: xPos + width,
  y2: yPos + height,
});

const clip = ({ x1, y1, x2, y2 }: Damage, width: number, height: number): Damage => ({
  x1: Math.max(0, x1),
  y1: Math.max(0, y1),
  x2: Math.min(width, x2),
  y2: Math.min(height, y2),
});

/** Place of the first byte that differs; -1 for none. Both are equally long. */
function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return 0;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return at;
  return -1;
}

function lastDifference(a: Uint8Array, b: Uint8Array): number {
  for (let at = a.length - 1; at > 0; at--) if (a[at] !== b[at]) return at;
  return 0;
}

/** A picture that is wholly new, whatever was there before. */
export const asNew = (update: ScreenUpdate): ScreenUpdate => ({ ...update, damage: wholeOf(update.frame) });
