import { ENTRY, type Status } from './registers.js';

/** A command, copied out of its submission queue. Source: NVMe 1.4 section 4.2. */
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

/** Takes 64 bytes apart. */
export function decodeCommand(entry: Uint8Array): Command {
  const view = new DataView(entry.buffer, entry.byteOffset, ENTRY.SUBMISSION);
  const dword = (index: number): number => view.getUint32(index * 4, true);
  return {
    opcode: view.getUint8(0),
    form: view.getUint8(1) & 0xc3,
    id: view.getUint16(2, true),
    namespace: dword(1),
    prp1: view.getBigUint64(24, true),
    prp2: view.getBigUint64(32, true),
    dwords: [dword(10), dword(11), dword(12), dword(13), dword(14), dword(15)],
  };
}

/** What a command leads to: a status and the completion's dword 0. */
export interface Outcome {
  readonly status: Status;
  readonly result?: number;
}

/** An entry of a completion queue. Source: NVMe 1.4 section 4.6. */
export interface Completion extends Outcome {
  readonly queue: number;
  readonly head: number;
  readonly id: number;
}

/** Writes 16 bytes. The half with the phase is written last: the host polls it. */
export function encodeCompletion(entry: Uint8Array, completion: Completion, phase: number): void {
  const view = new DataView(entry.buffer, entry.byteOffset, ENTRY.COMPLETION);
  view.setUint32(0, completion.result ?? 0, true);
  view.setUint32(4, 0, true);
  view.setUint32(8, (completion.head | (completion.queue << 16)) >>> 0, true);
  view.setUint32(12, (completion.id | (phase << 16) | (completion.status << 17)) >>> 0, true);
}
