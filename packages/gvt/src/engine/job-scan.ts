import { BIT } from '../commands.js';
import { gvtErrors } from '../errors.js';
import type { GraphicsAccess } from '../graphics-access.js';
import { type AuditedCommand, type AuditScope, auditCommand } from './command-audit.js';
import { type CommandInfo, findCommand, lengthOf } from './command-table.js';
import { type Engine, RING } from './engines.js';
import type { ShadowRing } from './ring-source.js';
import { checkLevel, MAX_COMMAND, MAX_JOB_DWORDS } from './streamer.js';
import type { ShadowBatch } from './streamer-types.js';

const PAGE = 4096;
const REGISTER = 0x7ffffc;
const PDP_DWORDS = 8;
/** Batches of the second level have keys above all graphics addresses. */
const LEVEL_UNIT = 2 ** 48;

/** The most global batches of one submission. */
export const MAX_BATCHES = 1024;

interface FoundBatch {
  readonly address: number;
  readonly level: number;
}

export interface ScanParts {
  readonly engine: Engine;
  /** Global graphics memory. */
  readonly memory: GraphicsAccess;
  /** Whether a guest page stands behind an address of it. */
  readonly isBacked: (address: number) => boolean;
  /** A ring command loads these roots (PDP 0 to 3, bytes). */
  readonly onRoots: (pdps: readonly number[]) => void;
}

/**
 * Audits a submission before any of it runs: every command of the ring's copy, and of a copy of each global batch that can be reached from
 * there. Guest memory is read once; what is judged is what will run. Batches in the context's own address space are not looked at. Source:
 * perform_bb_shadow and command_scan of i915 gvt, which read a batch twice and know no limit.
 */
export class JobScan {
  readonly #parts: ScanParts;
  readonly #scope: AuditScope;
  readonly #batches = new Map<number, ShadowBatch>();
  readonly #roots = new Uint32Array(PDP_DWORDS);
  #found: FoundBatch[] = [];
  #left = MAX_JOB_DWORDS;

  constructor(parts: ScanParts) {
    const { engine, memory } = parts;
    this.#parts = parts;
    this.#scope = { engine, hasPpgtt: true, ownsGlobal: (first, last) => memory.owns(first, last) };
  }

  /** The copy of a batch that was found at this address and level. */
  batch(address: number, level: number): ShadowBatch | undefined {
    return this.#batches.get(address + level * LEVEL_UNIT);
  }

  /**
   * @throws PinionError GVT_BAD_COMMAND (EBADRQC), GVT_BAD_ADDRESS, GVT_BAD_REGISTER, GVT_BAD_BATCH, GVT_BATCH_TOO_DEEP (EFAULT),
   * GVT_REGISTER_PROTECTED (EPERM), GVT_JOB_TOO_LONG, GVT_TOO_MANY_BATCHES (E2BIG); whatever `onRoots` throws.
   */
  scanRing(ring: ShadowRing): void {
    for (let at = 0; at < ring.words.length; ) {
      const address = ring.addressOf(at);
      const command = this.#take(ring.words, at, address);
      if (command.info.kind === 'batch-end')
        throw gvtErrors.BAD_COMMAND({ header: command.words[0] ?? 0, address, what: 'a ring has no batch end' });
      this.#judge(command, 0);
      at += command.length;
    }
    this.#drain();
  }

  #take(words: Uint32Array, at: number, address: number): AuditedCommand {
    const header = words[at] ?? 0;
    const info = this.#find(header, address);
    const length = lengthOf(info, header);
    if (length > words.length - at)
      throw gvtErrors.BAD_COMMAND({ header, address, what: 'it is cut off by the end of the ring' });
    this.#spend(length);
    return { info, words: words.subarray(at, at + length), length, address };
  }

  #find(header: number, address: number): CommandInfo {
    const info = findCommand(this.#parts.engine, header);
    if (info === undefined) throw gvtErrors.BAD_COMMAND({ header, address, what: 'this engine has no such command' });
    if (lengthOf(info, header) > MAX_COMMAND) throw gvtErrors.BAD_COMMAND({ header, address, what: 'it is too long' });
    return info;
  }

  #spend(dwords: number): void {
    this.#left -= dwords;
    if (this.#left < 0) throw gvtErrors.JOB_TOO_LONG({ most: MAX_JOB_DWORDS });
  }

  /** @returns whether the command ends the batch it stands in. */
  #judge(command: AuditedCommand, depth: number): boolean {
    auditCommand(command, this.#scope);
    if (command.info.kind === 'load-register-imm') this.#noteRoots(command);
    if (command.info.kind === 'batch-end') return true;
    if (command.info.kind !== 'batch-start') return false;
    const [header = 0, low = 0, high = 0] = command.words;
    const address = low - (low & 3) + (high & 0xffff) * 2 ** 32;
    const called = (header & BIT.SECOND_LEVEL) !== 0;
    const level = checkLevel(depth, called, { address, restricted: false });
    if ((header & BIT.START_PPGTT) === 0) this.#found.push({ address, level });
    return depth > 0 && !called;
  }

  /** Copies and audits the batches that were found, and those found in them. */
  #drain(): void {
    for (let found = this.#found.pop(); found !== undefined; found = this.#found.pop()) {
      const key = found.address + found.level * LEVEL_UNIT;
      if (this.#batches.has(key)) continue;
      if (this.#batches.size === MAX_BATCHES) throw gvtErrors.TOO_MANY_BATCHES({ most: MAX_BATCHES });
      this.#batches.set(key, this.#copy(found));
    }
  }

  #copy({ address, level }: FoundBatch): ShadowBatch {
    const copy = new BatchCopy(this.#parts, address);
    let at = 0;
    for (let ended = false; !ended; ) {
      const here = address + at * 4;
      const header = copy.dword(at);
      if (header === 0) {
        this.#spend(1);
        at += 1;
        continue;
      }
      const info = this.#find(header, here);
      const length = lengthOf(info, header);
      this.#spend(length);
      if (info.kind === 'plain') {
        at += length;
        continue;
      }
      ended = this.#judge({ info, words: copy.slice(at, length), length, address: here }, level);
      at += length;
    }
    return { address, words: copy.take(at) };
  }

  /** Roots that the ring loads are those of a table that must exist before it runs. */
  #noteRoots({ words, length }: AuditedCommand): void {
    const first = this.#parts.engine.base + RING.PDP;
    let found = 0;
    for (let at = 1; at + 1 < length; at += 2) {
      const index = (((words[at] ?? 0) & REGISTER) - first) / 4;
      if (index < 0 || index >= PDP_DWORDS) continue;
      this.#roots[index] = words[at + 1] ?? 0;
      found += 1;
    }
    if (found === 0) return;
    const roots = this.#roots;
    this.#parts.onRoots(
      Array.from({ length: PDP_DWORDS / 2 }, (_, pdp) => {
        const low = ((roots[pdp * 2] ?? 0) & ~(PAGE - 1)) >>> 0;
        return (roots[pdp * 2 + 1] ?? 0) * 2 ** 32 + low;
      }),
    );
  }
}

/** A batch that is copied page by page as far as it is looked at. */
class BatchCopy {
  readonly #parts: ScanParts;
  readonly #address: number;
  #words = new Uint32Array(PAGE / 4);
  #filled = 0;

  constructor(parts: ScanParts, address: number) {
    this.#parts = parts;
    this.#address = address;
  }

  /** The first `count` dwords, for good. */
  take(count: number): Uint32Array {
    return this.#words.slice(0, count);
  }

  dword(index: number): number {
    while (index >= this.#filled) this.#fill();
    return this.#words[index] ?? 0;
  }

  slice(at: number, length: number): Uint32Array {
    this.dword(at + length - 1);
    return this.#words.subarray(at, at + length);
  }

  /** Up to the end of the next page. */
  #fill(): void {
    const first = this.#address + this.#filled * 4;
    const last = first - (first % PAGE) + PAGE - 1;
    const { memory, isBacked } = this.#parts;
    if (!memory.owns(first, last) || !isBacked(first))
      throw gvtErrors.BAD_ADDRESS({ what: 'batch buffer', first, last });
    const count = (last + 1 - first) / 4;
    if (this.#filled + count > this.#words.length) {
      const grown = new Uint32Array(this.#words.length * 2 + count);
      grown.set(this.#words);
      this.#words = grown;
    }
    memory.read(first, new Uint8Array(this.#words.buffer, this.#filled * 4, count * 4));
    this.#filled += count;
  }
}
