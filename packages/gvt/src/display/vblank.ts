import type { Clock } from '@pinion/core';
import type { Interrupts } from '../interrupts.js';
import type { RegisterFile } from '../mmio.js';
import { DISPLAY, PIPE_ENABLE } from '../regs.js';
import { PIPE, PIPE_ACTIVE } from './display-regs.js';

/** Milliseconds between two frames: 60 Hz. */
export const FRAME_PERIOD = 1000 / 60;
/** Lines of a frame that are not shown, in parts of those that are. */
const BLANK = 0.03;

/** What the vertical blank works with. */
export interface VblankParts {
  readonly clock: Clock;
  readonly registers: RegisterFile;
  readonly interrupts: Pick<Interrupts, 'raise' | 'passes' | 'onMaskChange'>;
}

/**
 * The rhythm of pipe A. While the pipe runs frames count, on the clock; a timer fires for each of them only while somebody would
 * notice: the guest does not mask the interrupt, or that of a plane's flip, or `watch` has listeners. Source: i915 gvt display.c, emulate_vblank().
 */
export class Vblank {
  readonly #parts: VblankParts;
  readonly #watchers = new Set<() => void>();
  /** When the pipe was switched on; undefined while it is off. */
  #since: number | undefined;
  #counted = 0;
  /** The plane was given another surface, which shows from the next frame on. */
  #flipped = false;
  #cancel: (() => void) | undefined;

  constructor(parts: VblankParts) {
    const { registers, interrupts } = parts;
    this.#parts = parts;
    registers.define(DISPLAY.TRANSCONF, { write: (value) => this.#configure(value) });
    registers.define(PIPE.FRAME_COUNT, { read: () => this.frames, write: () => {} });
    registers.define(PIPE.SCANLINE, { read: () => this.#scanline(), write: () => {} });
    registers.define(DISPLAY.PLANE_SURF, { write: (value) => this.#flip(value) });
    interrupts.onMaskChange = () => this.#arrange();
  }

  /** Frames since the last reset, modulo 2^32. */
  get frames(): number {
    return (this.#counted + this.#elapsed()) >>> 0;
  }

  /** Whether the timer is set. */
  get ticking(): boolean {
    return this.#cancel !== undefined;
  }

  /** Calls `onFrame` at each frame, and when the pipe is switched off. @returns the undo. */
  watch(onFrame: () => void): () => void {
    const watcher = (): void => onFrame(); // why: the same function may watch twice
    this.#watchers.add(watcher);
    this.#arrange();
    return () => {
      this.#watchers.delete(watcher);
      this.#arrange();
    };
  }

  /** The pipe is off and nothing counted, as after power-on. Watchers stay and hear of it. */
  reset(): void {
    this.#since = undefined;
    this.#counted = 0;
    this.#flipped = false;
    this.#arrange();
    this.#tell();
  }

  #configure(value: number): void {
    const on = (value & PIPE_ENABLE) !== 0;
    const { registers, clock } = this.#parts;
    registers.set(DISPLAY.TRANSCONF, on ? value | PIPE_ACTIVE : value & ~PIPE_ACTIVE);
    if (on === (this.#since !== undefined)) return;
    this.#counted += this.#elapsed();
    this.#since = on ? clock.now() : undefined;
    this.#arrange();
    if (!on) this.#tell();
  }

  #flip(surface: number): void {
    this.#parts.registers.set(DISPLAY.PLANE_SURF, surface);
    this.#flipped = true;
    this.#arrange();
  }

  /** Whether anybody would notice the next frame. */
  #isAwaited(): boolean {
    const { interrupts } = this.#parts;
    if (this.#watchers.size > 0 || interrupts.passes('pipe-a-vblank')) return true;
    return this.#flipped && interrupts.passes('pipe-a-primary-flip');
  }

  #elapsed(): number {
    return this.#since === undefined ? 0 : Math.floor((this.#parts.clock.now() - this.#since) / FRAME_PERIOD + 1e-6);
  }

  #scanline(): number {
    if (this.#since === undefined) return 0;
    const lines = (this.#parts.registers.get(DISPLAY.PIPESRC) & 0x1fff) + 1;
    const part = ((this.#parts.clock.now() - this.#since) / FRAME_PERIOD) % 1;
    return Math.floor(part * lines * (1 + BLANK));
  }

  /** Sets or cancels the timer. */
  #arrange(): void {
    const wanted = this.#since !== undefined && this.#isAwaited();
    if (wanted === this.ticking) return;
    this.#cancel?.();
    this.#cancel = wanted ? this.#schedule() : undefined;
  }

  #schedule(): () => void {
    const { clock } = this.#parts;
    const since = this.#since ?? clock.now();
    const due = since + (this.#elapsed() + 1) * FRAME_PERIOD;
    return clock.after(Math.max(0, due - clock.now()), () => this.#tick());
  }

  #tick(): void {
    this.#cancel = undefined;
    const flip = this.#flipped ? (['pipe-a-primary-flip'] as const) : [];
    this.#flipped = false;
    this.#parts.interrupts.raise('pipe-a-vblank', ...flip);
    this.#tell();
    this.#arrange();
  }

  #tell(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
