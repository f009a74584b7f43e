import type { Clock, PinionError } from '@pinion/core';
import { type Decoded, decodeColorBlt, decodeRect, decodeSrcCopyBlt, type Words } from './blit-commands.js';
import { carryOut } from './blitter.js';
import { BIT, blitterOpcode, CLIENT, clientOf, commandLength, MI, miOpcode, type Rect, XY } from './commands.js';
import { gvtErrors } from './errors.js';
import type { GraphicsAccess } from './graphics-access.js';
import type { GvtEvent } from './interrupt-tables.js';
import type { RegisterFile } from './mmio.js';
import { BCS, HEAD_OFFSET, RING_ENABLE, RING_PAGES, TAIL_OFFSET } from './regs.js';

/** The most dwords that one ring command may make the engine read, its batches included. */
export const MAX_JOB_DWORDS = 1024 * 1024;
/** The ring starts a batch, and that one another. */
const MAX_DEPTH = 2;
/** What a command costs, in bytes touched, when it touches nothing. */
const COMMAND_COST = 64;
/** Work after which the streamer lets others run. */
const STRIDE = 64 * 1024;
const MAX_COMMAND = 257;
const RING_UNIT = 4096;
/** Ticks per millisecond of the engine's time stamp: 12 MHz. */
const TICKS = 12_000;
const NO_CLIP: Rect = Object.freeze({ x1: 0, y1: 0, x2: 0, y2: 0 });
const QWORD_FLUSH = 5;

/** What a streamer works with. */
export interface StreamerParts {
  readonly memory: GraphicsAccess;
  readonly registers: RegisterFile;
  readonly clock: Clock;
}

interface RingBuffer {
  readonly start: number;
  readonly size: number;
}

/**
 * Reads and carries out the commands of the blitter ring. All it knows of memory is the table, looked up at every access. A guest's
 * command is read once, checked, and carried out from that copy.
 *
 * There is no per-process table in this form, so an address is a global graphics address whatever the command's bit says,
 * as on hardware whose PPGTT is off.
 */
export class CommandStreamer {
  readonly #parts: StreamerParts;
  readonly #words: Words = new Uint32Array(MAX_COMMAND);
  /** Next command of each running batch; the last one is running. */
  #batches: number[] = [];
  #clip: Rect = NO_CLIP;
  #dwords = 0;
  #work = 0;
  #events: GvtEvent[] = [];
  #at = 0;

  constructor(parts: StreamerParts) {
    this.#parts = parts;
  }

  /** What the commands since the last call have to say. To be raised whenever `run` yields or ends. */
  takeEvents(): readonly GvtEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }

  /** Graphics address of the last command that was read. */
  get position(): number {
    return this.#at;
  }

  /** Header of the last command that was read. */
  get header(): number {
    return this.#words[0] ?? 0;
  }

  /**
   * Runs from head to tail, and on if the tail moves meanwhile. Yields the work done, in bytes, often enough for others to run
   * and at once after a command that raises an interrupt. HEAD moves past a ring command when all of it is done.
   * @throws PinionError GVT_BAD_RING, GVT_BAD_COMMAND, GVT_BATCH_TOO_DEEP (EINVAL), GVT_BAD_ADDRESS, GVT_BLIT_TOO_BIG (EFAULT),
   * GVT_JOB_TOO_LONG (E2BIG); what was done before stays done, HEAD stays at the command.
   */
  *run(): Generator<number, void> {
    this.#batches = [];
    this.#events = [];
    this.#work = 0;
    while (!this.#idle()) {
      const ring = this.#ring();
      const head = this.#head();
      this.#dwords = 0;
      const length = this.#readRing(ring, head);
      yield* this.#execute(length);
      while (this.#batches.length > 0) {
        yield* this.#breathe();
        yield* this.#execute(this.#readBatch());
      }
      this.#advance(ring, head + length * 4);
      yield* this.#breathe();
    }
  }

  *#breathe(): Generator<number, void> {
    if (this.#events.length === 0 && this.#work < STRIDE) return;
    const work = this.#work;
    this.#work = 0;
    yield work;
  }

  *#execute(length: number): Generator<number, void> {
    this.#work += COMMAND_COST;
    const header = this.header;
    if (clientOf(header) === CLIENT.MI) return this.#executeMi(miOpcode(header), length);
    const opcode = blitterOpcode(header);
    if (opcode === XY.COLOR) return yield* this.#blit(decodeColorBlt(this.#expect(length, 7), this.#clip));
    if (opcode === XY.SRC_COPY) return yield* this.#blit(decodeSrcCopyBlt(this.#expect(length, 10), this.#clip));
    if (opcode !== XY.SETUP_CLIP) throw this.#refuse('the blitter has no such command');
    this.#clip = decodeRect(this.#expect(length, 3), 1);
  }

  *#blit(blit: Decoded): Generator<number, void> {
    if ('refused' in blit) throw this.#refuse(blit.refused);
    yield* carryOut(blit, this.#parts.memory);
  }

  #executeMi(opcode: number, length: number): void {
    if (opcode === MI.NOOP || opcode === MI.SET_PREDICATE || opcode === MI.ARB_CHECK || opcode === MI.ARB_ON_OFF)
      return;
    if (opcode === MI.USER_INTERRUPT) this.#events.push('bcs-user');
    else if (opcode === MI.BATCH_BUFFER_START) this.#startBatch(this.#expect(length, 3));
    else if (opcode === MI.BATCH_BUFFER_END) this.#endBatch();
    else if (opcode === MI.STORE_DWORD_IMM) this.#store(length);
    else if (opcode === MI.FLUSH_DW) this.#flush(length);
    else throw this.#refuse('the streamer has no such command');
  }

  #startBatch(words: Words): void {
    const address = wide(words, 1) - ((words[1] ?? 0) & 3);
    this.#checkAddress('batch buffer', address, 4);
    const deeper = this.#batches.length === 0 || (this.header & BIT.SECOND_LEVEL) !== 0;
    if (!deeper) this.#batches.pop();
    if (this.#batches.length === MAX_DEPTH) throw gvtErrors.BATCH_TOO_DEEP({ address });
    this.#batches.push(address);
  }

  #endBatch(): void {
    if (this.#batches.length === 0) throw this.#refuse('a ring has no batch end');
    this.#batches.pop();
  }

  #store(length: number): void {
    const qword = (this.header & BIT.STORE_QWORD) !== 0;
    this.#expect(length, qword ? 5 : 4);
    this.#write(wide(this.#words, 1) - ((this.#words[1] ?? 0) & 3), qword);
  }

  #flush(length: number): void {
    if (length !== QWORD_FLUSH) this.#expect(length, 4);
    const postSync = this.header & BIT.FLUSH_POST_SYNC;
    if (postSync === BIT.FLUSH_TIMESTAMP) this.#stamp();
    else if (postSync !== 0 && postSync !== BIT.FLUSH_WRITE) throw this.#refuse('reserved post-sync operation');
    if (postSync !== 0) this.#write(this.#flushAddress(), length === QWORD_FLUSH || postSync === BIT.FLUSH_TIMESTAMP);
    if ((this.header & BIT.FLUSH_NOTIFY) !== 0) this.#events.push('bcs-flush');
  }

  #flushAddress(): number {
    const offset = wide(this.#words, 1) - ((this.#words[1] ?? 0) & 7);
    if ((this.header & BIT.FLUSH_STORE_INDEX) === 0) return offset;
    return ((this.#parts.registers.get(BCS.HWS_PGA) & ~0xfff) >>> 0) + (offset % RING_UNIT);
  }

  #stamp(): void {
    const ticks = Math.floor(this.#parts.clock.now() * TICKS);
    this.#words[3] = ticks % 2 ** 32;
    this.#words[4] = Math.floor(ticks / 2 ** 32);
  }

  #write(address: number, qword: boolean): void {
    this.#checkAddress('store', address, qword ? 8 : 4);
    this.#parts.memory.writeDword(address, this.#words[3] ?? 0);
    if (qword) this.#parts.memory.writeDword(address + 4, this.#words[4] ?? 0);
  }

  #idle(): boolean {
    const { registers } = this.#parts;
    const off = (registers.get(BCS.CTL) & RING_ENABLE) === 0;
    return off || this.#head() === (registers.get(BCS.TAIL) & TAIL_OFFSET);
  }

  #head(): number {
    return this.#parts.registers.get(BCS.HEAD) & HEAD_OFFSET;
  }

  /** The ring as its registers say it is now; a guest may have changed them. */
  #ring(): RingBuffer {
    const { registers, memory } = this.#parts;
    const start = (registers.get(BCS.START) & ~0xfff) >>> 0;
    const size = (registers.get(BCS.CTL) & RING_PAGES) + RING_UNIT;
    if (!memory.owns(start, start + size - 1))
      throw gvtErrors.BAD_RING({ what: 'it is not inside the graphics memory of this vGPU' });
    const end = Math.max(this.#head(), registers.get(BCS.TAIL) & TAIL_OFFSET);
    if (end >= size) throw gvtErrors.BAD_RING({ what: `its head or tail is beyond its ${size} bytes` });
    return { start, size };
  }

  #advance(ring: RingBuffer, head: number): void {
    const { registers } = this.#parts;
    const old = registers.get(BCS.HEAD);
    const wraps = (old >>> 21) + (head >= ring.size ? 1 : 0);
    registers.set(BCS.HEAD, (wraps << 21) | (head % ring.size));
  }

  #readRing(ring: RingBuffer, head: number): number {
    const tail = this.#parts.registers.get(BCS.TAIL) & TAIL_OFFSET;
    const filled = (tail - head + ring.size) % ring.size;
    return this.#read((dword) => ring.start + ((head + dword * 4) % ring.size), filled / 4);
  }

  #readBatch(): number {
    const level = this.#batches.length - 1;
    const start = this.#batches[level] ?? 0;
    const length = this.#read((dword) => start + dword * 4, MAX_COMMAND);
    this.#batches[level] = start + length * 4;
    return length;
  }

  /** Reads a whole command, `most` dwords at most, from where `place` says. */
  #read(place: (dword: number) => number, most: number): number {
    this.#at = place(0);
    this.#words[0] = this.#fetch(this.#at);
    const length = commandLength(this.header);
    if (length === 0) throw this.#refuse('this ring has no such client');
    if (length > most) throw this.#refuse('it is cut off by the end of the ring');
    this.#dwords += length;
    if (this.#dwords > MAX_JOB_DWORDS) throw gvtErrors.JOB_TOO_LONG({ most: MAX_JOB_DWORDS });
    for (let dword = 1; dword < length; dword++) this.#words[dword] = this.#fetch(place(dword));
    return length;
  }

  #fetch(address: number): number {
    this.#checkAddress('command', address, 4);
    return this.#parts.memory.readDword(address);
  }

  #checkAddress(what: string, first: number, length: number): void {
    const last = first + length - 1;
    if (!this.#parts.memory.owns(first, last)) throw gvtErrors.BAD_ADDRESS({ what, first, last });
  }

  #expect(length: number, wanted: number): Words {
    if (length !== wanted) throw this.#refuse(`its length is ${length} dwords, not ${wanted}`);
    return this.#words;
  }

  #refuse(what: string): PinionError {
    return gvtErrors.BAD_COMMAND({ header: this.header, address: this.#at, what });
  }
}

/** A graphics address in two words. */
const wide = (words: Words, at: number): number => (words[at] ?? 0) + (words[at + 1] ?? 0) * 2 ** 32;
