import assert from 'node:assert/strict';
import { CONFIG, ENGINES, type Engine, INTERRUPT_BANKS, MASTER_ENABLE, MODE, PVINFO, REGION, RING } from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions } from './fake-guest.js';

const PAGE = 4096;
/** Guest frames. The first `MAPPED` of them are graphics pages, in order, from the start of the low slice. */
export const FRAME = { HWSP: 1, DATA: 8, BATCH: 10, CONTEXTS: 32, TABLES: 900, PAGES: 300 } as const;
export const MAPPED = 256;
/** Pages of a context: its image, and its ring behind it. */
const CONTEXT_PAGES = 26;
const RING_AT = 22;
const RING_PAGES = 4;
/** Pages of the guest's own address space, from address 0, and the guest frames behind them. */
export const OWN_PAGES = 64;

/** A context of the guest: where its image and ring are, and how far the ring is filled. */
export interface Context {
  readonly id: number;
  readonly engine: Engine;
  /** Guest frame of the image. */
  readonly frame: number;
  tail: number;
}

export type Commands = readonly (readonly number[])[];

export const engineOf = (name: string): Engine => {
  const found = ENGINES.find((engine) => engine.name === name);
  assert.ok(found);
  return found;
};

/** A guest that submits contexts: one status page per engine, one address space of its own, interrupts on. */
export class ExeclistGuest extends FakeGuest {
  #contexts = 0;

  constructor(options: FakeGuestOptions = {}) {
    super({ pages: 1024, ...options });
    this.read32(PVINFO.MAGIC_LOW);
    this.mapPages(this.low.base, 0, MAPPED);
    this.#buildTables();
    for (const [index, engine] of ENGINES.entries()) {
      this.write32(engine.base + RING.HWS_PGA, this.at(FRAME.HWSP + index));
      this.write32(engine.base + RING.MODE, (MODE.EXECLIST << 16) | MODE.EXECLIST);
    }
    this.listen();
  }

  /** Graphics address of a guest frame below `MAPPED`. */
  at(frame: number, offset = 0): number {
    return this.low.base + frame * PAGE + offset;
  }

  listen(): void {
    this.write32(CONFIG.MSI, 0x0001_0005, REGION.CONFIG);
    for (const bank of Object.values(INTERRUPT_BANKS)) {
      this.write32(bank + 4, 0);
      this.write32(bank + 0xc, 0xffffffff);
    }
    this.write32(0x44200, MASTER_ENABLE);
  }

  /** A context with an empty ring. `pdp`: guest frame of its top table. */
  context(name: string, pdp: number = FRAME.TABLES): Context {
    this.#contexts += 1;
    const id = this.#contexts;
    const context = { id, engine: engineOf(name), frame: FRAME.CONTEXTS + (id - 1) * CONTEXT_PAGES, tail: 0 };
    assert.ok(context.frame + CONTEXT_PAGES <= MAPPED, 'no room for another context');
    this.setState(context, { 5: 0, 7: 0, 9: this.at(context.frame + RING_AT), 11: ((RING_PAGES - 1) << 12) | 1 });
    this.setState(context, { 49: 0, 51: pdp * PAGE });
    return context;
  }

  /** Writes dwords of a context's register state. */
  setState({ frame }: Context, values: Readonly<Record<number, number>>): void {
    for (const [index, value] of Object.entries(values)) this.poke(frame + 1, Number(index) * 4, [value]);
  }

  state({ frame }: Context, index: number): number {
    return this.peek(frame + 1, index * 4);
  }

  /** Puts commands behind a context's tail and stores the new one in the image. */
  emit(context: Context, ...commands: Commands): void {
    const dwords = commands.flat();
    if (dwords.length % 2 === 1) dwords.push(0);
    for (const dword of dwords) {
      this.poke(context.frame + RING_AT, context.tail, [dword]);
      context.tail = (context.tail + 4) % (RING_PAGES * PAGE);
    }
    this.setState(context, { 7: context.tail });
  }

  /** Lower half of a context's descriptor: valid, with an address space of four levels. */
  descriptor({ frame }: Context): number {
    return this.at(frame) | 0x119;
  }

  /** Four writes to the submit port. */
  elsp(engine: Engine, first: readonly [number, number], second: readonly [number, number] = [0, 0]): void {
    for (const value of [second[1], second[0], first[1], first[0]]) this.write32(engine.base + RING.ELSP, value);
  }

  /** Submits one or two contexts. */
  start(first: Context, second?: Context): void {
    const pair = (context: Context): readonly [number, number] => [this.descriptor(context), context.id];
    this.elsp(first.engine, pair(first), second === undefined ? [0, 0] : pair(second));
  }

  /** Emits, submits and lets everything finish. */
  execute(context: Context, ...commands: Commands): void {
    this.emit(context, ...commands);
    this.start(context);
    this.clock.drain();
  }

  /** Entries of the context status buffer in the order of their writing, as [low, high], from the status page. */
  csb(engine: Engine): (readonly [number, number])[] {
    const frame = FRAME.HWSP + ENGINES.indexOf(engine);
    const last = this.peek(frame, 0x7c);
    const entries = Array.from({ length: 6 }, (_, at) => {
      const entry = (last + 1 + at) % 6;
      return [this.peek(frame, 0x40 + entry * 8), this.peek(frame, 0x44 + entry * 8)] as const;
    });
    return entries.filter(([low]) => low !== 0);
  }

  /** Four levels that lead addresses from 0 to the frames from `FRAME.PAGES`. */
  #buildTables(): void {
    const [top, third, second, last] = [0, 1, 2, 3].map((at) => FRAME.TABLES + at);
    const link = (table = 0, entry = 0, frame = 0) => this.poke(table, entry * 8, [(frame * PAGE) | 3, 0]);
    link(top, 0, third);
    link(third, 0, second);
    link(second, 0, last);
    for (let page = 0; page < OWN_PAGES; page++) link(last, page, FRAME.PAGES + page);
  }
}
