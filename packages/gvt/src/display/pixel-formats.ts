/** Turns a row of `from` into RGBA, 4 bytes per pixel, at byte `at` of `into`. Alpha becomes opaque unless the format says otherwise. */
export type RowConverter = (from: Uint8Array, into: Uint8Array, at: number) => void;

/** A pixel format of a plane. */
export interface PixelFormat {
  /** As in DRM: four characters, `XR24`. */
  readonly name: string;
  /** Bytes of a pixel. */
  readonly bytes: number;
  /** `palette`: 256 entries 0xRRGGBB, for indexed pixels. */
  readonly converter: (palette: Uint32Array) => RowConverter;
}

/** The name of a format as DRM's number. Source: drm_fourcc.h. */
export const fourcc = (name: string): number =>
  [...name.padEnd(4)].reduce((code, letter, index) => code + letter.charCodeAt(0) * 256 ** index, 0);

const format = (name: string, bytes: number, convert: RowConverter): PixelFormat =>
  Object.freeze({ name, bytes, converter: () => convert });

/** Whether words of four bytes have their lowest byte first, as pixels have. */
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;
const GREEN = 0xff00;
const OPAQUE = 0xff000000;

/** The bytes from `at` as words; undefined where they do not lie on a boundary of four. */
function words(bytes: Uint8Array, at: number, count: number): Uint32Array | undefined {
  const offset = bytes.byteOffset + at;
  return LITTLE_ENDIAN && offset % 4 === 0 ? new Uint32Array(bytes.buffer, offset, count) : undefined;
}

/** Four bytes with green in byte 1; `red` and `blue`: their bytes. Whole rows go word by word. */
const bytesInOrder =
  (red: number, blue: number): RowConverter =>
  (from, into, at) => {
    const count = from.length / 4;
    const [source, target] = [words(from, 0, count), words(into, at, count)];
    if (source === undefined || target === undefined) {
      byteByByte({ red, blue }, from, into, at);
      return;
    }
    const [redShift, blueShift] = [red * 8, blue * 8];
    for (let pixel = 0; pixel < count; pixel++) {
      const word = source[pixel] ?? 0;
      target[pixel] = OPAQUE | (word & GREEN) | ((word >>> redShift) & 0xff) | (((word >>> blueShift) & 0xff) << 16);
    }
  };

function byteByByte(place: { red: number; blue: number }, from: Uint8Array, into: Uint8Array, at: number): void {
  for (let byte = 0; byte < from.length; byte += 4) {
    into[at + byte] = from[byte + place.red] ?? 0;
    into[at + byte + 1] = from[byte + 1] ?? 0;
    into[at + byte + 2] = from[byte + place.blue] ?? 0;
    into[at + byte + 3] = 0xff;
  }
}

/** Ten bits per colour, of which the upper eight show; `red` and `blue`: their lowest bits. */
const tenBits =
  (red: number, blue: number): RowConverter =>
  (from, into, at) => {
    for (let byte = 0; byte < from.length; byte += 4) {
      const pixel =
        (from[byte] ?? 0) |
        ((from[byte + 1] ?? 0) << 8) |
        ((from[byte + 2] ?? 0) << 16) |
        ((from[byte + 3] ?? 0) << 24);
      into[at + byte] = pixel >>> (red + 2);
      into[at + byte + 1] = pixel >>> 12;
      into[at + byte + 2] = pixel >>> (blue + 2);
      into[at + byte + 3] = 0xff;
    }
  };

const rgb565: RowConverter = (from, into, at) => {
  for (let byte = 0; byte < from.length; byte += 2) {
    const pixel = (from[byte] ?? 0) | ((from[byte + 1] ?? 0) << 8);
    const out = at + byte * 2;
    into[out] = widen(pixel >> 11, 5);
    into[out + 1] = widen((pixel >> 5) & 0x3f, 6);
    into[out + 2] = widen(pixel & 0x1f, 5);
    into[out + 3] = 0xff;
  }
};

/** A colour of `bits` bits as 8 bits, so that all ones stay all ones. */
const widen = (value: number, bits: number): number => (value << (8 - bits)) | (value >> (2 * bits - 8));

const indexed =
  (palette: Uint32Array): RowConverter =>
  (from, into, at) => {
    for (const [index, entry] of from.entries()) {
      const color = palette[entry] ?? 0;
      into[at + index * 4] = color >>> 16;
      into[at + index * 4 + 1] = color >>> 8;
      into[at + index * 4 + 2] = color;
      into[at + index * 4 + 3] = 0xff;
    }
  };

/** Two pixels in four bytes with a common colour; BT.601, video range. The places of the first and second luma and of both chromas. */
const yuv422 =
  (y0: number, u: number, v: number): RowConverter =>
  (from, into, at) => {
    for (let byte = 0; byte < from.length; byte += 4) {
      const blue = (from[byte + u] ?? 128) - 128;
      const red = (from[byte + v] ?? 128) - 128;
      for (let pixel = 0; pixel < 2 && byte + pixel * 2 < from.length; pixel++) {
        const luma = 1.164 * ((from[byte + y0 + pixel * 2] ?? 16) - 16);
        const out = at + (byte / 2 + pixel) * 4;
        into[out] = clamp(luma + 1.596 * red);
        into[out + 1] = clamp(luma - 0.813 * red - 0.391 * blue);
        into[out + 2] = clamp(luma + 2.018 * blue);
        into[out + 3] = 0xff;
      }
    }
  };

const clamp = (value: number): number => Math.max(0, Math.min(255, Math.round(value)));

const YUV: readonly PixelFormat[] = [
  format('YUYV', 2, yuv422(0, 1, 3)),
  format('UYVY', 2, yuv422(1, 0, 2)),
  format('YVYU', 2, yuv422(0, 3, 1)),
  format('VYUY', 2, yuv422(1, 2, 0)),
];
const INDEXED: PixelFormat = Object.freeze({ name: 'C8', bytes: 1, converter: indexed });
const RGB565 = format('RG16', 2, rgb565);
const BLUE_LOWEST = bytesInOrder(2, 0);
const RED_LOWEST = bytesInOrder(0, 2);
const WIDE_BLUE_LOWEST = format('XR30', 4, tenBits(20, 0));
const WIDE_RED_LOWEST = format('XB30', 4, tenBits(0, 20));

/** PLANE_CTL, in one place: format 27:24, red lowest 20, order of YUV 17:16, alpha 5:4. */
const FORMAT_SHIFT = 24;
const RED_FIRST = 1 << 20;
const YUV_SHIFT = 16;
const ALPHA = 3 << 4;

/** The format that PLANE_CTL names; undefined for one that a vGPU's screen does not have. Source: i915 gvt fb_decoder.c. */
export function planeFormat(control: number): PixelFormat | undefined {
  const redFirst = (control & RED_FIRST) !== 0;
  switch ((control >>> FORMAT_SHIFT) & 0xf) {
    case 0:
      return YUV[(control >>> YUV_SHIFT) & 3];
    case 2:
      return redFirst ? WIDE_RED_LOWEST : WIDE_BLUE_LOWEST;
    case 4:
      return format(
        `${(control & ALPHA) === 0 ? 'X' : 'A'}${redFirst ? 'B' : 'R'}24`,
        4,
        redFirst ? RED_LOWEST : BLUE_LOWEST,
      );
    case 12:
      return INDEXED;
    case 14:
      return RGB565;
    default:
      return undefined;
  }
}

/** A cursor: blue lowest, alpha highest, colours multiplied by it already. It keeps its alpha. */
export const CURSOR_FORMAT: PixelFormat = format('AR24', 4, (from, into, at) => {
  BLUE_LOWEST(from, into, at);
  for (let byte = 3; byte < from.length; byte += 4) into[at + byte] = from[byte] ?? 0;
});
