import { PinionError } from '@pinion/core';
import { type Damage, isEmpty, NO_DAMAGE, unite, within } from './damage.js';
import { KeptPicture } from './kept-picture.js';
import type { Plane, Planes } from './plane.js';
import { blend, type Frame, type PlaneReader, type Screen } from './screen.js';

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

/**
 * Finds out what has changed on the screen: the guest's CPU may draw as well as its engine, so memory is compared page by page with
 * what it held before, and only rows of pages that differ are drawn anew.
 */
export class ScreenTracker {
  readonly #planes: Planes;
  readonly #screen: Screen;
  #picture: { readonly key: string; readonly kept: KeptPicture } | undefined;
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
    this.#picture = undefined;
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
    this.#picture = undefined;
    return { frame: OFF, damage: NO_DAMAGE, problem };
  }

  #compare(plane: Plane): ScreenUpdate | undefined {
    const reader = this.#screen.reader(plane);
    const { width, height } = plane.info;
    const key = this.#keyOf(plane);
    const isNew = this.#picture?.key !== key;
    const kept = isNew ? new KeptPicture(plane, reader) : (this.#picture?.kept ?? new KeptPicture(plane, reader));
    this.#picture = { key, kept };
    const drawn = drawRows(kept, reader, isNew ? kept.compare(plane, reader).fill(1) : kept.compare(plane, reader));
    const cursor = this.#moveCursor();
    const damage = isNew ? { x1: 0, y1: 0, x2: width, y2: height } : within(unite(drawn, cursor), width, height);
    if (isEmpty(damage)) return undefined;
    const frame = { width, height, pixels: kept.pixels.slice() };
    this.#drawCursor(frame);
    return { frame, damage, problem: undefined };
  }

  /** What a kept picture depends on besides memory. */
  #keyOf({ info, format, offset, tileRows }: Plane): string {
    const palette = format.name === 'C8' ? this.#screen.palette().join() : '';
    const { width, height, stride, size } = info;
    return [width, height, stride, size, tileRows, offset.x, offset.y, format.name, palette].join(' ');
  }

  /** @returns where the cursor was and is, if that or its picture has changed. */
  #moveCursor(): Damage {
    const before = this.#cursor;
    const plane = this.#screen.cursor();
    const pixels = plane === undefined ? new Uint8Array(0) : this.#screen.reader(plane).pixels();
    const place = plane === undefined ? NO_DAMAGE : placeOf(plane);
    const key = Object.values(place).join();
    if (key === before.key && pixels.every((byte, at) => byte === before.pixels[at])) return NO_DAMAGE;
    this.#cursor = { key, pixels, place };
    return unite(before.place, place);
  }

  #drawCursor(frame: Frame): void {
    const { place, pixels } = this.#cursor;
    if (isEmpty(place)) return;
    const { x1, y1, x2, y2 } = place;
    blend(frame, { xPos: x1, yPos: y1, width: x2 - x1, height: y2 - y1 }, pixels);
  }
}

/** Draws the rows that have a 1. @returns where the picture differs. */
function drawRows(kept: KeptPicture, reader: PlaneReader, rows: Uint8Array): Damage {
  let damage = NO_DAMAGE;
  for (const [y, wanted] of rows.entries()) if (wanted === 1) damage = unite(damage, kept.draw(y, reader));
  return damage;
}

const placeOf = ({ info: { xPos, yPos, width, height } }: Plane): Damage => ({
  x1: xPos,
  y1: yPos,
  x2: xPos + width,
  y2: yPos + height,
});

/** A picture that is wholly new, whatever was there before. */
export const asNew = (update: ScreenUpdate): ScreenUpdate => ({
  ...update,
  damage: { x1: 0, y1: 0, x2: update.frame.width, y2: update.frame.height },
});
