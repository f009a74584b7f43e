import { decodeCcw0, ECKD_COMMAND, type TrackAddress } from '@pinion/ccw';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { EckdDriver } from './eckd-driver.js';

/** What an IPL brings into memory. `psw`: the 8 bytes that a processor would load; `at`, `size`: the program. */
export interface Loaded {
  readonly psw: Uint8Array;
  readonly at: bigint;
  readonly size: number;
}

const PSW_SIZE = 8;
const IPL_SIZE = 24;
/** Where the program stands on the disk: behind the IPL record. */
const PROGRAM = { cylinder: 0, head: 0, record: 2 } as const;

/**
 * Initial program load: READ IPL brings a PSW and two format-0 CCWs to address 0; the first of them reads the program. A
 * host that copies programs before they run cannot chain from the one into the other, so the loader starts anew and
 * finds the second record by seek and search, as QEMU's loader does. @throws VM_NO_IPL (EINVAL), and as `EckdDriver.read`.
 */
export async function ipl(machine: GuestMachine, disk: EckdDriver): Promise<Loaded> {
  await disk.readIpl(0n);
  const record = machine.memory.read(0n, IPL_SIZE);
  const ccw = decodeCcw0(record.subarray(PSW_SIZE));
  if (ccw.command !== ECKD_COMMAND.READ_DATA || ccw.count === 0)
    throw vmErrors.NO_IPL({ command: ccw.command, count: ccw.count });
  await disk.readBySearch(PROGRAM, { at: BigInt(ccw.address), size: ccw.count });
  return { psw: record.slice(0, PSW_SIZE), at: BigInt(ccw.address), size: ccw.count };
}

/** The program of a disk that copies a dataset: 24 bytes, big-endian. */
export interface CopyProgram {
  readonly from: TrackAddress;
  readonly first: number;
  readonly count: number;
  readonly size: number;
  readonly block: number;
}

const MAGIC = 0xc3d6_d7e8; // COPY

export function encodeCopyProgram(program: CopyProgram): Uint8Array {
  const { from, first, count, size, block } = program;
  const view = new DataView(new ArrayBuffer(IPL_SIZE));
  for (const [index, word] of [MAGIC, (from.cylinder << 16) | from.head, first, count, size, block].entries())
    view.setUint32(index * 4, word);
  return new Uint8Array(view.buffer);
}

/** @throws VM_NO_IPL (EINVAL) for bytes that are no such program. */
export function decodeCopyProgram(bytes: Uint8Array): CopyProgram {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < IPL_SIZE || view.getUint32(0) !== MAGIC)
    throw vmErrors.NO_IPL({ command: bytes[0] ?? 0, count: bytes.length });
  const from = { cylinder: view.getUint16(4), head: view.getUint16(6) };
  const [first, count, size, block] = [8, 12, 16, 20].map((at) => view.getUint32(at));
  return { from, first: first ?? 0, count: count ?? 0, size: size ?? 0, block: block ?? 0 };
}
