import type { PinionError } from '@pinion/core';
import type { EngineName } from '../faults.js';
import { FewWarnings } from '../few-warnings.js';
import type { EngineJob } from './engine-job.js';
import { type EngineOwner, type EngineState, EngineSubmission } from './engine-submission.js';
import { ENGINES, type Engine } from './engines.js';
import type { EngineClient, HostGpu } from './host-gpu.js';
import type { AllEnginesParts } from './submission-parts.js';

/** Bits of GDRST (and of the masks below) that name engines, or all of them. */
export const ALL_ENGINES = ENGINES.reduce((mask, { resetBit }) => mask | (1 << resetBit), 0);

/** What a vGPU gives to the engines of its GPU. Masks are bits of GDRST. */
export class Submission implements EngineClient, EngineOwner {
  readonly weight: number;
  readonly #gpu: HostGpu;
  readonly #warnings: FewWarnings;
  readonly #engines: ReadonlyMap<EngineName, EngineSubmission>;

  constructor(parts: AllEnginesParts) {
    this.weight = parts.weight;
    this.#gpu = parts.gpu;
    this.#warnings = new FewWarnings(parts.log);
    const warnings = this.#warnings;
    this.#engines = new Map(
      ENGINES.map((engine) => [
        engine.name,
        new EngineSubmission(engine, { ...parts, warnings, memory: parts.memoryOf(engine.name) }, this),
      ]),
    );
  }

  /** Whether nothing of this vGPU runs or waits. */
  get idle(): boolean {
    return !this.busy;
  }

  get busy(): boolean {
    return this.#all.some(({ state }) => state === 'running');
  }

  /** Milliseconds for which this vGPU had the engines since it last started to submit. */
  get engineTime(): number {
    return this.#gpu.used(this);
  }

  state(name: EngineName): EngineState {
    return this.#engines.get(name)?.state ?? 'idle';
  }

  /** Why an engine halted; of the first that did, if none is named. */
  error(name?: EngineName): PinionError | undefined {
    if (name !== undefined) return this.#engines.get(name)?.error;
    return this.#all.find(({ error }) => error !== undefined)?.error;
  }

  /**
   * Takes all work away, from where it is; nothing is executed afterwards, and nothing is held. Registers stay. With all engines stopped the
   * vGPU has no share of their time until it submits again.
   */
  stop(mask: number = ALL_ENGINES): void {
    for (const engine of this.#all) if (isNamed(engine, mask)) engine.stop();
    if ((mask & ALL_ENGINES) !== ALL_ENGINES) return;
    this.#gpu.leave(this);
    this.#warnings.reset();
  }

  /** As `stop`, and the engines' registers start anew; their modes and status pages stay. */
  reset(mask: number = ALL_ENGINES): void {
    for (const engine of this.#all) if (isNamed(engine, mask)) engine.reset();
  }

  /** As after power-on: no work, no mode. The vGPU keeps its share of the engines' time, and its debts. */
  powerOn(): void {
    for (const engine of this.#all) engine.powerOn();
  }

  first(engine: Engine): EngineJob | undefined {
    return this.#engines.get(engine.name)?.first;
  }

  ended(engine: Engine, job: EngineJob, failed: boolean): void {
    this.#engines.get(engine.name)?.ended(job, failed);
  }

  started(): void {
    this.#gpu.join(this);
  }

  submitted(): void {
    this.#gpu.submitted();
  }

  cancel(engine: Engine): void {
    this.#gpu.cancel(this, engine);
  }

  get #all(): readonly EngineSubmission[] {
    return [...this.#engines.values()];
  }
}

const isNamed = ({ engine }: EngineSubmission, mask: number): boolean => ((mask >>> engine.resetBit) & 1) !== 0;
