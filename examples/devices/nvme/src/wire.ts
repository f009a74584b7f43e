import type { Status } from './registers.js';

/** A command, read out of its submission queue. Source: NVMe 1.4 section 4.2. */
export interface Command {
  readonly opcode: number;
  /** Fused operation and the choice of PRPs or SGLs: both must be 0 here. */
  readonly form: number;
  readonly id: number;
  readonly namespace: number;
  readonly prp1: bigint;
  readonly prp2: bigint;
  /** Command dwords 10 to 15. */
  readonly dwords: readonly [number, number, number, number, number, number];
}

/**
 * Takes the 64 bytes at `at` apart. They are the guest's and may change meanwhile, so each field is read exactly once: what is
 * validated is what is used.
 */
export function decodeCommand(view: DataView, at: number): Command {
  const dword = (index: number): number => view.getUint32(at + index * 4, true);
  const first = dword(0);
  return {
    opcode: first & 0xff,
    form: (first >>> 8) & 0xc3,
    id: first >>> 16,
    namespace: dword(1),
    prp1: view.getBigUint64(at + 24, true),
    prp2: view.getBigUint64(at + 32, true),
    dwords: [dword(10), dword(11), dword(12), dword(13), dword(14), dword(15)],
  };
}

/** What a command leads to: a status and the completion's dword 0. */
export interface Outcome {
  readonly status: Status;
  readonly result?: number | undefined;
}

/** An entry of a completion queue. Source: NVMe 1.4 section 4.6. */
export interface Completion extends Outcome {
  readonly queue: number;
  readonly head: number;
  readonly id: number;
}

/** Writes the 16 bytes at `at`. The half with the phase is written last: the host polls it. */
export function encodeCompletion(place: { view: DataView; at: number }, completion: Completion, phase: number): void {
  const { view, at } = place;
  view.setUint32(at, completion.result ?? 0, true);
  view.setUint32(at + 4, 0, true);
  view.setUint32(at + 8, (completion.head | (completion.queue << 16)) >>> 0, true);
  view.setUint32(at + 12, (completion.id | (phase << 16) | (completion.status << 17)) >>> 0, true);
}
