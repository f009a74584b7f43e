import type { Picture } from '@pinion/vm';

const MARGIN = 24;
const FRAME = [0x2a, 0x2d, 0x4a, 0xff] as const;

/** Two pictures side by side on a dark ground. */
export function sideBySide(left: Picture, right: Picture): Picture {
  const width = left.width + right.width + 3 * MARGIN;
  const height = Math.max(left.height, right.height) + 2 * MARGIN;
  const pixels = new Uint8Array(width * height * 4);
  for (let at = 0; at < pixels.length; at += 4) pixels.set(FRAME, at);
  const put = (picture: Picture, x: number): void => {
    for (let y = 0; y < picture.height; y += 1) {
      const row = picture.pixels.subarray(y * picture.width * 4, (y + 1) * picture.width * 4);
      pixels.set(row, ((y + MARGIN) * width + x) * 4);
    }
  };
  put(left, MARGIN);
  put(right, left.width + 2 * MARGIN);
  return { width, height, pixels };
}
