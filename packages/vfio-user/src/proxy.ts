import { type Clock, systemClock } from '@pinion/core';
import type { Fd } from '@pinion/sys';
import { HEADER_FLAG } from './commands.js';
import { discard } from './discard.js';
import { Framer, MESSAGE_OVERHEAD, weightOf } from './framer.js';
import { encodeMessage, isReply, type Message, wantsReply } from './message.js';
import { type Direction, type Fault, type FaultRule, FaultRules } from './proxy-rules.js';
import type { Transport } from './transport.js';

/** A message that passed a proxy, or did not. */
export interface ProxyRecord {
  /** Milliseconds of the proxy's clock. */
  readonly time: number;
  readonly direction: Direction;
  /** As it came; `fds` is their number. */
  readonly message: Omit<Message, 'fds'> & { readonly fds: number };
  /** What was done to it; undefined: it was passed on as it was. */
  readonly fault: Fault | undefined;
}

export interface ProxyOptions {
  /** The connection of the client that came. */
  readonly client: Transport;
  /** The connection to the server that it wanted. */
  readonly server: Transport;
  readonly clock?: Clock;
  readonly rules?: readonly FaultRule[];
  /** For rules with a chance; default Math.random. */
  readonly random?: () => number;
  /** Hears of every message before it goes on. */
  readonly record?: (record: ProxyRecord) => void;
  /** Most bytes of data in one message. Default 64 MiB, the most that QEMU agrees to. */
  readonly maxBytes?: number;
}

/** Bytes that wait for one side, or behind a message that is delayed, before the other is not read any more. */
const WAITING_MAX = 4 << 20;

interface Lane {
  readonly direction: Direction;
  readonly from: Transport;
  readonly to: Transport;
  readonly framer: Framer;
  /** Behind a message that is delayed. */
  readonly held: Message[];
  heldBytes: number;
  delayed: boolean;
  paused: boolean;
}

/**
 * Stands between a client and a server: passes messages with their descriptors on unchanged, records them, and breaks those
 * that its rules are for. Either side's end is the other's.
 */
export class MessageProxy {
  /** Settles when both connections are closed, with what ended them if it was no orderly end. */
  readonly done: Promise<unknown>;
  readonly #clock: Clock;
  readonly #rules: FaultRules;
  readonly #record: (record: ProxyRecord) => void;
  readonly #lanes: readonly Lane[];
  readonly #ended: (cause: unknown) => void;
  readonly #timers = new Set<() => void>();
  #open = true;

  constructor(options: ProxyOptions) {
    const { client, server, clock = systemClock, rules = [], random, record = () => {}, maxBytes = 64 << 20 } = options;
    this.#clock = clock;
    this.#rules = new FaultRules(rules, random);
    this.#record = record;
    const lane = (direction: Direction, from: Transport, to: Transport): Lane => ({
      direction,
      from,
      to,
      framer: new Framer<Fd>(maxBytes + MESSAGE_OVERHEAD, discard),
      held: [],
      heldBytes: 0,
      delayed: false,
      paused: false,
    });
    this.#lanes = [lane('to-server', client, server), lane('to-client', server, client)];
    let ended = (_cause: unknown): void => {};
    this.done = new Promise((resolve) => {
      ended = resolve;
    });
    this.#ended = ended;
  }

  /** Begins to pass messages on. */
  start(): void {
    for (const lane of this.#lanes) {
      lane.from.start({
        received: (bytes, fds) => this.#received(lane, bytes, fds),
        quiet: () => {},
        drained: () => this.#drained(lane.from),
        closed: (cause) => this.#end(cause),
      });
    }
  }

  /** Closes both connections. */
  close(): void {
    this.#end(undefined);
  }

  #received(lane: Lane, bytes: Uint8Array, fds: readonly Fd[]): void {
    try {
      lane.framer.push(bytes, fds, (message) => this.#arrived(lane, message));
    } catch (cause) {
      this.#end(cause);
    }
  }

  #arrived(lane: Lane, message: Message): void {
    if (!this.#open) discard(message.fds);
    else if (lane.delayed) this.#hold(lane, message);
    else this.#judge(lane, message);
  }

  #hold(lane: Lane, message: Message): void {
    lane.held.push(message);
    lane.heldBytes += weightOf(message);
    if (lane.heldBytes > WAITING_MAX) this.#setPaused(lane, true);
  }

  #judge(lane: Lane, message: Message): void {
    const { direction } = lane;
    const fault = this.#rules.decide(direction, message);
    this.#record({ time: this.#clock.now(), direction, message: { ...message, fds: message.fds.length }, fault });
    if (fault?.kind === 'delay') this.#delay(lane, message, fault.milliseconds);
    else {
      if (fault === undefined) this.#pass(lane, encodeMessage(message), message.fds);
      else this.#break(lane, message, fault);
      discard(message.fds);
    }
  }

  #break(lane: Lane, message: Message, fault: Exclude<Fault, { kind: 'delay' }>): void {
    const { payload, fds } = message;
    if (fault.kind === 'error') this.#fail(lane, message, fault.errno);
    if (fault.kind === 'short') {
      const shorter = payload.subarray(0, Math.max(0, payload.length - fault.bytes));
      this.#pass(lane, encodeMessage({ ...message, payload: shorter }), fds);
    }
    if (fault.kind === 'oversized') {
      const longer = new Uint8Array(payload.length + fault.bytes);
      longer.set(payload);
      this.#pass(lane, encodeMessage({ ...message, payload: longer }), fds);
    }
    if (fault.kind === 'cut') this.#pass(lane, encodeMessage(message).subarray(0, fault.bytes), fds);
    if (fault.kind === 'cut' || fault.kind === 'close') this.#end(undefined);
  }

  /** An error reply goes to whoever waits for the message's answer. */
  #fail(lane: Lane, message: Message, errno: number): void {
    if (!isReply(message) && !wantsReply(message)) return;
    const flags = HEADER_FLAG.REPLY | HEADER_FLAG.ERROR;
    const bytes = encodeMessage({ ...message, flags, error: errno, payload: new Uint8Array(0) });
    if (isReply(message)) this.#pass(lane, bytes, []);
    else lane.from.send(bytes);
  }

  #delay(lane: Lane, message: Message, milliseconds: number): void {
    lane.delayed = true;
    lane.held.push(message);
    const cancel = this.#clock.after(milliseconds, () => {
      this.#timers.delete(cancel);
      lane.delayed = false;
      lane.heldBytes = 0;
      const [first, ...rest] = lane.held.splice(0);
      if (first !== undefined) {
        this.#pass(lane, encodeMessage(first), first.fds);
        discard(first.fds);
      }
      for (const each of rest) this.#arrived(lane, each);
      this.#goOn(lane);
    });
    this.#timers.add(cancel);
  }

  #pass(lane: Lane, bytes: Uint8Array, fds: readonly Fd[]): void {
    if (bytes.length === 0) return;
    lane.to.send(bytes, fds);
    if (lane.to.waiting > WAITING_MAX) this.#setPaused(lane, true);
  }

  #setPaused(lane: Lane, paused: boolean): void {
    if (lane.paused === paused || !this.#open) return;
    lane.paused = paused;
    if (paused) lane.from.pause();
    else lane.from.resume();
  }

  #goOn(lane: Lane): void {
    if (lane.to.waiting <= WAITING_MAX && lane.heldBytes <= WAITING_MAX) this.#setPaused(lane, false);
  }

  /** One side has taken everything: the other may go on. */
  #drained(side: Transport): void {
    for (const lane of this.#lanes) if (lane.to === side) this.#goOn(lane);
  }

  #end(cause: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    for (const cancel of this.#timers) cancel();
    for (const { from, framer, held } of this.#lanes) {
      framer.close();
      for (const { fds } of held.splice(0)) discard(fds);
      from.close();
    }
    this.#ended(cause);
  }
}
