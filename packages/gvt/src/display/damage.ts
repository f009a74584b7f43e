/** A rectangle of the screen; `x2` and `y2` are outside. */
export interface Damage {
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

export const NO_DAMAGE: Damage = Object.freeze({ x1: 0, y1: 0, x2: 0, y2: 0 });

export const isEmpty = ({ x1, y1, x2, y2 }: Damage): boolean => x1 >= x2 || y1 >= y2;

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

/** The part of it that lies on a screen of this size. */
export const within = ({ x1, y1, x2, y2 }: Damage, width: number, height: number): Damage => ({
  x1: Math.max(0, x1),
  y1: Math.max(0, y1),
  x2: Math.min(width, x2),
  y2: Math.min(height, y2),
});
