import { putText } from './vbt.js';

/** Bytes of a block. */
export const EDID_SIZE = 128;
const HEADER = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
/** Three letters of five bits each. */
const VENDOR = 'PIN';
const FIRST_LETTER = 0x40;
/** Digital, 8 bits per colour, DisplayPort; 52 by 32 cm; gamma 2.2; preferred timing is native, sRGB. */
const BASICS = [0xa5, 52, 32, 120, 0x06];
/** The primaries of sRGB. */
const CHROMATICITY = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
/** 640x480, 800x600 and 1024x768 at 60 Hz. */
const ESTABLISHED = [0x21, 0x08, 0x00];
const NO_TIMING = [0x01, 0x01];
/** Height of a standard timing by its code: 16:10, 4:3, 5:4, 16:9. */
const ASPECTS = [10 / 16, 3 / 4, 4 / 5, 9 / 16];

/** A mode of a monitor. Front porch and pulse of the synchronisation in pixels and lines; `clock` in 10 kHz. */
interface Mode {
  readonly clock: number;
  readonly across: { readonly active: number; readonly blank: number; readonly front: number; readonly sync: number };
  readonly down: { readonly active: number; readonly blank: number; readonly front: number; readonly sync: number };
  /** Polarities, as the block has them. */
  readonly flags: number;
  readonly others: readonly (readonly [width: number, height: number])[];
}

/** VESA timing 1024x768, and the reduced-blanking one 1920x1200, both at 60 Hz. */
const MODES: Readonly<Record<string, Mode>> = {
  '1024x768': {
    clock: 6500,
    across: { active: 1024, blank: 320, front: 24, sync: 136 },
    down: { active: 768, blank: 38, front: 3, sync: 6 },
    flags: 0x18,
    others: [],
  },
  '1920x1200': {
    clock: 15400,
    across: { active: 1920, blank: 160, front: 48, sync: 32 },
    down: { active: 1200, blank: 35, front: 3, sync: 6 },
    flags: 0x1a,
    others: [
      [1920, 1080],
      [1280, 720],
      [1280, 960],
      [1280, 1024],
      [1440, 900],
      [1600, 1200],
      [1680, 1050],
    ],
  },
};

/** The block of a monitor whose best mode is `width` by `height`, of which there are two: 1024 by 768, and otherwise 1920 by 1200. */
export function makeEdid(width: number, height: number): Uint8Array {
  const mode = MODES[`${width}x${height}`] ?? MODES['1920x1200'];
  const bytes = new Uint8Array(EDID_SIZE);
  if (mode === undefined) return bytes;
  const view = new DataView(bytes.buffer);
  bytes.set(HEADER, 0);
  view.setUint16(8, vendorId(), false);
  view.setUint16(10, mode.across.active, true);
  bytes.set([1, 30, 1, 4, ...BASICS, ...CHROMATICITY, ...ESTABLISHED], 16);
  for (let slot = 0; slot < 8; slot++) bytes.set(standardTiming(mode.others[slot]), 38 + slot * 2);
  bytes.set(detailedTiming(mode), 54);
  bytes.set([0, 0, 0, 0xfd, 0, 24, 60, 24, 80, 17, 0, 0x0a, ...new Array<number>(6).fill(0x20)], 72);
  bytes.set(textDescriptor(0xfc, 'Pinion vGPU'), 90);
  bytes.set(textDescriptor(0xff, `${mode.across.active}x${mode.down.active}`), 108);
  bytes[EDID_SIZE - 1] = -sum(bytes) & 0xff;
  return bytes;
}

/** What is wrong with a block; undefined if it is a valid one. Source: drm_edid_block_valid(). */
export function edidProblem(bytes: Uint8Array): string | undefined {
  if (bytes.length !== EDID_SIZE) return `it has ${bytes.length} bytes, not ${EDID_SIZE}`;
  if (HEADER.some((byte, at) => bytes[at] !== byte)) return 'its header is not that of an EDID';
  if ((sum(bytes) & 0xff) !== 0) return 'its checksum is wrong';
  return bytes[18] === 1 ? undefined : `its version is ${bytes[18]}, not 1`;
}

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total + byte, 0);

const vendorId = (): number => [...VENDOR].reduce((id, letter) => id * 32 + letter.charCodeAt(0) - FIRST_LETTER, 0);

function standardTiming(mode: readonly [number, number] | undefined): readonly number[] {
  if (mode === undefined) return NO_TIMING;
  const [width, height] = mode;
  const aspect = ASPECTS.findIndex((ratio) => Math.round(width * ratio) === height);
  return [width / 8 - 31, aspect << 6];
}

function detailedTiming({ clock, across, down, flags }: Mode): readonly number[] {
  const high = (one: number, other: number): number => ((one >> 8) << 4) | (other >> 8);
  return [
    clock & 0xff,
    clock >> 8,
    across.active & 0xff,
    across.blank & 0xff,
    high(across.active, across.blank),
    down.active & 0xff,
    down.blank & 0xff,
    high(down.active, down.blank),
    across.front,
    across.sync,
    (down.front << 4) | down.sync,
    0,
    520 & 0xff,
    320 & 0xff,
    high(520, 320),
    0,
    0,
    flags,
  ];
}

function textDescriptor(tag: number, text: string): Uint8Array {
  const bytes = new Uint8Array(18).fill(0x20, 5);
  bytes[3] = tag;
  putText(bytes, 5, `${text}\n`);
  return bytes;
}
