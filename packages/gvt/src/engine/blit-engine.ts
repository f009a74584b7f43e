import { type Decoded, decodeColorBlt, decodeRect, decodeSrcCopyBlt, type Words } from '../blit-commands.js';
import { carryOut } from '../blitter.js';
import { type Rect, XY } from '../commands.js';
import type { Step } from './engine-job.js';
import type { CommandRun } from './streamer-types.js';

const NO_CLIP: Rect = Object.freeze({ x1: 0, y1: 0, x2: 0, y2: 0 });

/** Decodes and carries out the blitter's commands, and keeps what they set up for those that follow. */
export class BlitEngine {
  #clip: Rect = NO_CLIP;

  /** Yields and returns bytes touched. @throws PinionError GVT_BAD_COMMAND (EBADRQC), GVT_BLIT_TOO_BIG, GVT_BAD_ADDRESS (EFAULT). */
  *execute(opcode: number, run: CommandRun): Generator<Step, number> {
    if (opcode === XY.COLOR) return yield* this.#blit(decodeColorBlt(expect(run, 7), this.#clip), run);
    if (opcode === XY.SRC_COPY) return yield* this.#blit(decodeSrcCopyBlt(expect(run, 10), this.#clip), run);
    if (opcode !== XY.SETUP_CLIP) throw run.refuse('the blitter has no such command');
    this.#clip = decodeRect(expect(run, 3), 1);
    return 0;
  }

  *#blit(blit: Decoded, run: CommandRun): Generator<Step, number> {
    if ('refused' in blit) throw run.refuse(blit.refused);
    const memory = run.memory(false);
    return memory === undefined ? 0 : yield* carryOut(blit, memory);
  }
}

function expect(run: CommandRun, wanted: number): Words {
  if (run.length !== wanted) throw run.refuse(`its length is ${run.length} dwords, not ${wanted}`);
  return run.words;
}
