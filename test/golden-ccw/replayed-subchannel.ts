import type { ChannelProgram, ConditionCode, HostOrb, Subchannel, SubchannelStatus } from '@pinion/ccw';
import { IRB_SIZE, isTic, ORB, SCHIB_SIZE, SCSW } from '@pinion/ccw';
import type { Operation } from '../golden/scenario.js';
import type { World } from './world.js';

/** One thing that the driver did, as the recordings write it. */
export type Event = readonly [name: string, ...facts: (string | number)[]];

const isEvent = (value: unknown): value is Event => Array.isArray(value) && typeof value[0] === 'string';
export const eventsOf = (value: unknown): readonly Event[] => (Array.isArray(value) ? value.filter(isEvent) : []);

const INSTRUCTIONS = ['ssch', 'hsch', 'csch', 'xsch', 'stsch', 'msch'] as const;
export type Instruction = (typeof INSTRUCTIONS)[number];
export const isInstruction = (name: string): name is Instruction => INSTRUCTIONS.some((known) => known === name);

const isConditionCode = (value: unknown): value is ConditionCode =>
  value === 0 || value === 1 || value === 2 || value === 3;

/** A host address that no program of ours has: where a recording hides one. */
const SOME_HOST_ADDRESS = 0xeeee_eee8;
const CPA = { from: 8, to: 16 } as const;
const NORMAL_END = `00804007${'x'.repeat(8)}0c000000`;

/**
 * The host's subchannel, which answers as the recording says: condition codes, statuses, and the IRBs of interruptions
 * are the recorded ones; only what the driver does with them is ours.
 */
export class ReplayedSubchannel implements Subchannel {
  onInterrupt: (irb: Uint8Array) => void = () => {};
  readonly #world: World;
  readonly #injected = new Map<Instruction, { cc: ConditionCode; left: number }>();
  #op: Operation | undefined;
  #taken = new Map<string, number>();
  #enabled = false;
  #program: ChannelProgram | undefined;
  #stopping: number = 0;
  /** A function was started whose interruption has not come. */
  #awaited = false;

  constructor(world: World) {
    this.#world = world;
  }

  begin(op: Operation): void {
    this.#op = op;
    this.#taken = new Map();
  }

  get awaited(): boolean {
    return this.#awaited;
  }

  inject(instruction: Instruction, cc: ConditionCode, times: number): void {
    this.#injected.set(instruction, { cc, left: times });
  }

  forget(): void {
    this.#injected.clear();
  }

  /** The recorded interruption comes. `irb`: hex, as the driver told it to its user. */
  deliver(irb: string | undefined): void {
    const program = this.#program;
    this.#awaited = false;
    this.#program = undefined;
    this.#stopping = 0;
    this.onInterrupt(toHostIrb(irb ?? NORMAL_END, program));
  }

  stsch(): SubchannelStatus | undefined {
    if (this.#inject('stsch') === 3) return undefined;
    const stopped = this.#recorded('xsch') !== undefined || this.#recorded('hsch') !== undefined;
    const activity = (this.#program === undefined ? 0 : SCSW.SUSPENDED) | this.#stopping;
    return { enabled: this.#enabled, activity, lastPathUsed: stopped ? 0x80 : 0, schib: this.#schib() };
  }

  enable(enabled: boolean): ConditionCode {
    const injected = this.#inject('msch');
    if (injected !== undefined) return injected;
    if (this.#awaited && !enabled && !this.#isEnding()) this.deliver(undefined);
    if (this.#program !== undefined || this.#stopping !== 0) return 2;
    this.#enabled = enabled;
    return 0;
  }

  ssch(orb: HostOrb, program: ChannelProgram): ConditionCode | 'operand-exception' {
    const chain = program.hostChain;
    const last = chain.findIndex((ccw) => isTic(ccw) || (ccw.flags & 0xc0) === 0);
    const shown = chain.slice(0, Math.min(12, last < 0 ? chain.length : last + 1));
    const word = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
    const ccws = shown.map(({ command, flags, count }) => word(command, 2) + word(flags, 2) + word(count, 4));
    this.#world.record(['orb', word(orb.word1, 8), ccws.join(' ')]);
    const injected = this.#inject('ssch');
    if (injected !== undefined) return injected;
    if ((orb.word1 & ORB.RESERVED) !== 0) {
      this.#world.record(['ssch', -5]);
      return 'operand-exception';
    }
    const cc = this.#answer('ssch', 0);
    if (cc === 0) this.#program = program;
    return cc;
  }

  hsch(): ConditionCode {
    return this.#stop('hsch', SCSW.HALT_PENDING);
  }

  csch(): ConditionCode {
    return this.#stop('csch', SCSW.CLEAR_PENDING);
  }

  xsch(): ConditionCode {
    const injected = this.#inject('xsch');
    if (injected !== undefined) return injected;
    const cc = this.#answer('xsch', this.#program === undefined ? 2 : 0);
    if (cc === 0) {
      this.#program = undefined;
      this.#awaited = false;
    }
    return cc;
  }

  vanish(): undefined {
    this.#program = undefined;
    this.#awaited = false;
    this.#stopping = 0;
  }

  #stop(instruction: 'hsch' | 'csch', pending: number): ConditionCode {
    const injected = this.#inject(instruction);
    if (injected !== undefined) return injected;
    const cc = this.#answer(instruction, 0);
    if (cc === 0) this.#stopping |= pending;
    const waits = ['close', 'reset', 'unmap', 'end', 'close_group'].includes(this.#op?.op ?? '');
    if (cc === 0 && waits) queueMicrotask(() => this.deliver(undefined));
    return cc;
  }

  /** The recorded condition code of this execution. */
  #answer(instruction: Instruction, otherwise: ConditionCode): ConditionCode {
    const cc = this.#recorded(instruction)?.[1];
    const answer = isConditionCode(cc) ? cc : otherwise;
    this.#taken.set(instruction, (this.#taken.get(instruction) ?? 0) + 1);
    this.#world.record([instruction, answer]);
    if (answer === 0 && instruction !== 'xsch') this.#awaited = true;
    return answer;
  }

  /** The next execution that the recording of this operation has. */
  #recorded(instruction: Instruction): Event | undefined {
    const all = eventsOf(this.#op?.r?.['ev']).filter(([name, first]) => name === instruction && first !== 'inject');
    return all[this.#taken.get(instruction) ?? 0];
  }

  /** Whether the recording of this operation ends a function. */
  #isEnding(): boolean {
    return eventsOf(this.#op?.r?.['ev']).some(([name]) => name === 'xsch' || name === 'hsch' || name === 'csch');
  }

  #inject(instruction: Instruction): ConditionCode | undefined {
    const injected = this.#injected.get(instruction);
    if (injected === undefined || injected.left <= 0) return undefined;
    injected.left -= 1;
    this.#world.record([instruction, 'inject', injected.cc]);
    return injected.cc;
  }

  /** What this operation read of the block; zeros elsewhere. */
  #schib(): Uint8Array {
    const bytes = new Uint8Array(SCHIB_SIZE);
    const op = this.#op;
    const data = op?.r?.['data'];
    if (op?.op === 'rd' && op['region'] === 2 && typeof data === 'string')
      bytes.set(Buffer.from(data.replaceAll('x', 'e'), 'hex'), Number(op['off']));
    return bytes;
  }
}

/** The IRB as the host's channel stored it: the recorded one, with the address of the copy in place of the guest's. */
function toHostIrb(irb: string, program: ChannelProgram | undefined): Uint8Array {
  const text = irb.slice(CPA.from, CPA.to);
  const guest = Number.parseInt(text, 16);
  const cpa = text.includes('x') ? SOME_HOST_ADDRESS : (program?.toHost(guest) ?? guest);
  const bytes = new Uint8Array(IRB_SIZE);
  bytes.set(Buffer.from(irb.replaceAll('x', 'e').padEnd(IRB_SIZE * 2, '0'), 'hex'));
  new DataView(bytes.buffer).setUint32(4, cpa);
  return bytes;
}
