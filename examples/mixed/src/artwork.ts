import type { VgpuDriver } from '@pinion/vm';
import { type Bitmap, Canvas, type Point } from './canvas.js';
import { GLYPH, textWidth } from './font.js';

export const FRAME = { width: 1280, height: 720 } as const;
const FACTOR = 4;

const INK = 0xf4ecd8;
const MUTED = 0xa49cc4;
const GOLD = 0xffb454;
const NIGHT = 0x0d1030;
const PLUM = 0x2c1a48;

/** Where the picture stands in the frame. */
export const PICTURE_AT: Point = { x: 48, y: 152 };
const GALLERY_AT: Point = { x: 736, y: 152 };
const GALLERY_STEP: Point = { x: 168, y: 135 };

/** What the gallery shows: the same small picture through nine raster operations of the blitter, over a coloured ground. */
const OPERATIONS: readonly (readonly [name: string, rop: number, ground: number])[] = [
  ['S', 0xcc, 0x000000],
  ['NOT S', 0x33, 0x000000],
  ['S AND D', 0x88, 0xffb050],
  ['S OR D', 0xee, 0x102060],
  ['S XOR D', 0x66, 0xff40a0],
  ['S AND NOT D', 0x44, 0x30c0a0],
  ['NOT S OR D', 0xbb, 0x203070],
  ['NOT S AND D', 0x22, 0x70e0ff],
  ['NOT S XOR D', 0x99, 0x40a0ff],
];

/** The way the data takes, one box each. */
const STATIONS: readonly (readonly [title: string, line: string, color: number])[] = [
  ['DASD', 'CHANNEL PROGRAMS', 0x7a5cc8],
  ['VGPU', 'GVT BLITTER, GGTT', 0xd0587c],
  ['CRYPTO', 'AP QUEUE 05.0047', 0xe08848],
  ['DISK', 'PASSTHROUGH, IOMMU', 0x3c9c94],
];

/** Draws the whole frame with the blitter: the picture, a gallery of raster operations, and a caption. */
export async function drawFrame(gpu: VgpuDriver, frame: Bitmap, picture: Bitmap): Promise<void> {
  const small = await shrink(gpu, picture);
  const canvas = new Canvas(frame);
  drawGround(canvas);
  drawTitle(canvas);
  drawPicture(canvas, picture);
  drawGallery(canvas, small);
  drawStations(canvas);
  await gpu.run(canvas.commands);
  gpu.release(small.buffer);
}

async function shrink(gpu: VgpuDriver, picture: Bitmap): Promise<Bitmap> {
  const width = picture.width / FACTOR;
  const height = picture.height / FACTOR;
  const narrow = { buffer: gpu.allocate(width * picture.height * 4), width, height: picture.height };
  const small = { buffer: gpu.allocate(width * height * 4), width, height };
  await gpu.run(Canvas.shrink(picture, narrow, small, FACTOR));
  gpu.release(narrow.buffer);
  return small;
}

function drawGround(canvas: Canvas): void {
  canvas.gradient({ x1: 0, y1: 0, x2: FRAME.width, y2: FRAME.height }, [NIGHT, PLUM], 90);
  canvas.fill({ x1: 0, y1: 0, x2: FRAME.width, y2: 6 }, GOLD);
}

function drawTitle(canvas: Canvas): void {
  canvas.text({ x: 52, y: 46 }, 'PINION', { scale: 10, color: 0x05061a });
  canvas.text({ x: 48, y: 42 }, 'PINION', { scale: 10, color: INK });
  canvas.text({ x: 440, y: 54 }, 'ONE VM, ONE CONTAINER:', { scale: 3, color: GOLD });
  canvas.text({ x: 440, y: 88 }, 'A PASSTHROUGH FUNCTION AND THREE MEDIATED DEVICES', { scale: 2, color: MUTED });
}

function drawPicture(canvas: Canvas, picture: Bitmap): void {
  const { x, y } = PICTURE_AT;
  const rect = { x1: x, y1: y, x2: x + picture.width, y2: y + picture.height };
  canvas.fill({ x1: x + 10, y1: y + 10, x2: rect.x2 + 14, y2: rect.y2 + 14 }, 0x070818);
  canvas.frame(rect, 4, INK);
  canvas.copy(picture, PICTURE_AT);
}

function drawGallery(canvas: Canvas, small: Bitmap): void {
  for (const [index, [name, rop, ground]] of OPERATIONS.entries()) {
    const x = GALLERY_AT.x + (index % 3) * GALLERY_STEP.x;
    const y = GALLERY_AT.y + Math.floor(index / 3) * GALLERY_STEP.y;
    const rect = { x1: x, y1: y, x2: x + small.width, y2: y + small.height };
    canvas.frame(rect, 1, MUTED);
    canvas.fill(rect, ground);
    canvas.copy(small, { x, y }, rop);
    canvas.text({ x, y: rect.y2 + 8 }, name, { scale: 2, color: MUTED });
  }
}

function drawStations(canvas: Canvas): void {
  const width = 260;
  const gap = 48;
  const top = 572;
  const bottom = 668;
  for (const [index, [title, line, color]] of STATIONS.entries()) {
    const x1 = 48 + index * (width + gap);
    const box = { x1, y1: top, x2: x1 + width, y2: bottom };
    canvas.fill(box, 0x171640);
    canvas.fill({ ...box, y2: top + 6 }, color);
    canvas.frame(box, 1, color);
    canvas.text({ x: x1 + 16, y: top + 24 }, title, { scale: 4, color: INK });
    canvas.text({ x: x1 + 16, y: bottom - 28 }, line, { scale: 2, color: MUTED });
    if (index < STATIONS.length - 1) drawArrow(canvas, { x: x1 + width, y: (top + bottom) / 2 }, gap);
  }
  const footer = 'EVERY PIXEL DRAWN BY BLITTER COMMANDS OUT OF PINNED PAGES';
  const left = Math.round((canvas.width - textWidth(footer) * 2) / 2);
  canvas.text({ x: left, y: bottom + 20 }, footer, { scale: 2, color: 0x6c6494 });
}

function drawArrow(canvas: Canvas, { x, y }: Point, length: number): void {
  const head = GLYPH.height;
  canvas.fill({ x1: x + 8, y1: y - 1, x2: x + length - 10, y2: y + 2 }, GOLD);
  for (let step = 0; step < head; step++) {
    const tip = x + length - 8 - step;
    canvas.fill({ x1: tip - 2, y1: y - step, x2: tip, y2: y + step + 1 }, GOLD);
  }
}
