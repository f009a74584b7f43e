/** Search in sorted frame numbers that are padded with Infinity. */

/** Keys that a guess compares at once. Arrays have at least so many slots. */
export const WINDOW = 8;

/** Keys per frame: what `lastUpTo` guesses with. A slope that is out of date costs time, not answers. */
export const slopeOf = (keys: Float64Array, count: number): number =>
  count < 2 ? 0 : (count - 1) / ((keys[count - 1] ?? 0) - (keys[0] ?? 0));

/**
 * Index of the last key at or before `frame`, or -1. `keys`: ascending, all different, then Infinity to the array's end.
 * A guess by the key's share of the span is right within a few places when keys are evenly spread, and then costs no
 * branch that a processor could mispredict; any other span costs a binary search more.
 */
export function lastUpTo(keys: Float64Array, slope: number, frame: number): number {
  const most = keys.length - WINDOW;
  const guess = ((((frame - (keys[0] ?? 0)) * slope) | 0) - 3) | 0;
  const from = guess < 0 ? 0 : guess > most ? most : guess;
  const before =
    +((keys[from] ?? 0) <= frame) +
    +((keys[from + 1] ?? 0) <= frame) +
    +((keys[from + 2] ?? 0) <= frame) +
    +((keys[from + 3] ?? 0) <= frame) +
    +((keys[from + 4] ?? 0) <= frame) +
    +((keys[from + 5] ?? 0) <= frame) +
    +((keys[from + 6] ?? 0) <= frame) +
    +((keys[from + 7] ?? 0) <= frame);
  if (before === WINDOW && from < most) return gallopUp(keys, from + WINDOW - 1, frame);
  if (before === 0 && from > 0) return gallopDown(keys, from, frame);
  return from + before - 1;
}

/** keys[from] <= frame: strides of growing length until one goes too far, then halves. */
function gallopUp(keys: Float64Array, from: number, frame: number): number {
  let below = from;
  let above = from + WINDOW;
  while (above < keys.length && (keys[above] ?? 0) <= frame) {
    below = above;
    above += (above - from) << 1;
  }
  return halve(keys, { below, above: Math.min(above, keys.length) }, frame);
}

/** keys[from] > frame. */
function gallopDown(keys: Float64Array, from: number, frame: number): number {
  let above = from;
  let below = from - WINDOW;
  while (below >= 0 && (keys[below] ?? 0) > frame) {
    above = below;
    below -= (from - below) << 1;
  }
  return halve(keys, { below: Math.max(below, -1), above }, frame);
}

/** The key at `below` (if there is one) is at or before `frame`, that at `above` is not. */
function halve(keys: Float64Array, bounds: { below: number; above: number }, frame: number): number {
  let { below, above } = bounds;
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if ((keys[middle] ?? 0) <= frame) below = middle;
    else above = middle;
  }
  return below;
}
