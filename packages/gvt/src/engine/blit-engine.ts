import {
  type BlitSetup,
  type Decoded,
  type DrawSetup,
  decodeColorBlt,
  decodeFastCopyBlt,
  decodeImmediatePatternBlt,
  decodeMonoPatternBlt,
  decodePatternBlt,
  decodePixelBlt,
  decodeRect,
  decodeScanlinesBlt,
  decodeSetup,
  decodeSrcCopyBlt,
  NO_SETUP,
} from '../blit-commands.js';
import { carryOut } from '../blitter.js';
import { type Rect, XY } from '../commands.js';
import type { Tiling } from '../surface.js';
import type { Step } from './engine-job.js';
import { BCS_SWCTRL, SWCTRL } from './engines.js';
import type { CommandRun } from './streamer-types.js';

const NO_CLIP: Rect = Object.freeze({ x1: 0, y1: 0, x2: 0, y2: 0 });

interface Drawing {
  /** Dwords; undefined: the decoder looks. */
  readonly length?: number;
  decode(run: CommandRun, setup: BlitSetup, draw: DrawSetup): Decoded;
}

/** By opcode. Text and monochrome sources are not supported. */
const DRAWINGS: ReadonlyMap<number, Drawing> = new Map([
  [XY.COLOR, { length: 7, decode: ({ words }, setup) => decodeColorBlt(words, setup) }],
  [XY.SRC_COPY, { length: 10, decode: ({ words }, setup) => decodeSrcCopyBlt(words, setup) }],
  [XY.FAST_COPY, { length: 10, decode: ({ words }) => decodeFastCopyBlt(words) }],
  [XY.PATTERN, { length: 8, decode: ({ words }, setup) => decodePatternBlt(words, setup) }],
  [XY.MONO_PATTERN, { length: 10, decode: ({ words }, setup) => decodeMonoPatternBlt(words, setup) }],
  [XY.PATTERN_IMMEDIATE, { decode: ({ words, length }, setup) => decodeImmediatePatternBlt(words, length, setup) }],
  [XY.PIXEL, { length: 2, decode: ({ words }, setup, draw) => decodePixelBlt(words, draw, setup) }],
  [XY.SCANLINES, { length: 3, decode: ({ words }, setup, draw) => decodeScanlinesBlt(words, draw, setup) }],
] satisfies readonly (readonly [number, Drawing])[]);

/** Decodes and carries out the blitter's commands, and keeps what they set up for those that follow. */
export class BlitEngine {
  #clip: Rect = NO_CLIP;
  #draw: DrawSetup = NO_SETUP;

  /** Yields and returns bytes touched. @throws PinionError GVT_BAD_COMMAND (EBADRQC), GVT_BLIT_TOO_BIG, GVT_BAD_ADDRESS (EFAULT). */
  *execute(opcode: number, run: CommandRun): Generator<Step, number> {
    const drawing = DRAWINGS.get(opcode);
    if (drawing === undefined) return this.#setUp(opcode, run);
    if (drawing.length !== undefined) expectLength(run, drawing.length);
    const blit = drawing.decode(run, this.#setup(run), this.#draw);
    if ('refused' in blit) throw run.refuse(blit.refused);
    const memory = run.memory(false);
    return memory === undefined ? 0 : yield* carryOut(blit, memory);
  }

  #setUp(opcode: number, run: CommandRun): number {
    if (opcode !== XY.SETUP && opcode !== XY.SETUP_CLIP) throw run.refuse('the blitter has no such command');
    expectLength(run, opcode === XY.SETUP ? 10 : 3);
    this.#clip = decodeRect(run.words, opcode === XY.SETUP ? 2 : 1);
    if (opcode === XY.SETUP) this.#draw = decodeSetup(run.words);
    return 0;
  }

  #setup({ file }: CommandRun): BlitSetup {
    const control = file.get(BCS_SWCTRL);
    const tiles = (bit: number): Tiling => ((control & bit) === 0 ? 'x' : 'y');
    return { clip: this.#clip, targetTiles: tiles(SWCTRL.TARGET_Y), sourceTiles: tiles(SWCTRL.SOURCE_Y) };
  }
}

function expectLength(run: CommandRun, wanted: number): void {
  if (run.length !== wanted) throw run.refuse(`its length is ${run.length} dwords, not ${wanted}`);
}
