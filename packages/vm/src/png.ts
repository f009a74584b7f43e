import { PNG } from 'pngjs';
import { vmErrors } from './errors.js';

/** A picture: `pixels` holds rows from the top without gaps, four bytes per pixel: red, green, blue, alpha. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/** The picture as a PNG file. @throws VM_BAD_PICTURE (EINVAL) if it is empty or its pixels are not width x height. */
export function encodePng({ width, height, pixels }: Picture): Uint8Array {
  if (pixels.length === 0 || pixels.length !== width * height * 4) {
    throw vmErrors.BAD_PICTURE({ problem: `${pixels.length} bytes are not ${width} x ${height} pixels` });
  }
  const png = new PNG({ width, height });
  png.data.set(pixels);
  return PNG.sync.write(png);
}

/** The picture in a PNG file. @throws VM_BAD_PICTURE (EINVAL). */
export function decodePng(file: Uint8Array): Picture {
  try {
    const { width, height, data } = PNG.sync.read(Buffer.from(file));
    return { width, height, pixels: new Uint8Array(data) };
  } catch (cause) {
    throw vmErrors.BAD_PICTURE({ problem: `${file.length} bytes are no PNG file` }, cause);
  }
}
