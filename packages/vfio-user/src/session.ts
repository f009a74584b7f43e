import { type Clock, type Log, PinionError } from '@pinion/core';
import { type Fd, type Sys, SysError } from '@pinion/sys';
import { Calls } from './calls.js';
import { COMMAND, commandName, HEADER_FLAG } from './commands.js';
import { type DeviceHome, homeOf } from './device-home.js';
import { discard } from './discard.js';
import type { DmaSpace } from './dma-space.js';
import { vfioUserErrors } from './errors.js';
import { Framer, MESSAGE_OVERHEAD, weightOf } from './framer.js';
import { GuestDma } from './guest-dma.js';
import { HANDLERS, TAKES_FDS, wireErrno } from './handlers.js';
import { IrqTable } from './irq-table.js';
import { isReply, type Message, wantsReply } from './message.js';
import { Outbox } from './outbox.js';
import { encodeRegionAccess } from './region-messages.js';
import { RequestScope } from './request-scope.js';
import { indexed, type Reply, type Served } from './served.js';
import type { ServedDevice } from './served-device.js';
import { DMA_UNMAP, REGION_ACCESS } from './structs.js';
import type { Transport } from './transport.js';
import { TwinSocket } from './twin-socket.js';
import { type Capabilities, decodeVersion, encodeVersion, PROTOCOL } from './version.js';

/** How a server treats its clients. */
export interface SessionOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds after which a request that is still handled is named in the log. QEMU gives up after 5000. Default 2000. */
  readonly slow?: number;
  /** Milliseconds that a client has for a DMA message. Default 5000. */
  readonly dmaLimit?: number;
  /** Bytes of requests (8192 for a descriptor) that may wait before the connection is closed; reading stops at a quarter. Default 16 MiB. */
  readonly floodLimit?: number;
  /**
   * Cloud Hypervisor reads replies of a fixed size and hangs at an error: with this a failed REGION_READ is answered with
   * all-ones, and a failed DMA_UNMAP as if it had succeeded; the log has the error. Default false.
   */
  readonly readsNeverFail?: boolean;
  /** A device that keeps pages of a client that is gone is closed and opened anew by this, so that its mappings can go. */
  readonly reopen?: () => Promise<void>;
  /**
   * Whether the device holds pages. After its client has gone it must not: it may do so through mappings that other connections of
   * the VM keep, and is opened anew (`reopen`) then, as a VMM that unplugs a device closes it. Default: nobody looks.
   */
  readonly holdsPages?: () => boolean;
  /** With it, a client that asks for a twin socket gets one: DMA messages and their replies go there. */
  readonly sys?: Sys;
}

/** What this server can do. The JSON stays far below the 193 characters that QEMU has room for. */
const OURS: Capabilities = {
  maxMsgFds: 16,
  maxDataXferSize: 1 << 20,
  maxDmaMaps: 65_535,
  pgsizes: 4096,
  writeMultiple: false,
};

const DEFAULTS = { slow: 2000, dmaLimit: 5000, floodLimit: 16 << 20 } as const;
/** What changes a device. */
const TOUCHES: ReadonlySet<number> = new Set([
  COMMAND.REGION_WRITE,
  COMMAND.REGION_WRITE_MULTI,
  COMMAND.DEVICE_FEATURE,
  COMMAND.MIG_DATA_WRITE,
]);
/** Bytes of replies that wait for a client to read them before its next request is looked at. */
const REPLIES_MAX = 2 << 20;

/**
 * One connection of one client. Requests are handled in order of arrival, one at a time; replies to messages of the server's own are taken
 * as they come. The end of the connection - at any byte - gives everything back that the client set up.
 */
export class Session {
  /** Settles when the connection is over and everything of the client's is gone. Never rejects: the log has what failed. */
  readonly done: Promise<void>;
  readonly #dma: GuestDma;
  readonly irqs: IrqTable;
  readonly #device: ServedDevice;
  readonly #home: DeviceHome;
  readonly #transport: Transport;
  readonly #options: SessionOptions;
  readonly #framer = new Framer<Fd>(OURS.maxDataXferSize + MESSAGE_OVERHEAD, discard);
  readonly #outbox: Outbox;
  #twin: TwinSocket | undefined;
  readonly #calls: Calls;
  readonly #scope = new RequestScope();
  readonly #served: Served & { touched: boolean };
  readonly #finished: () => void;
  #client: Capabilities | undefined;
  #queue: Message[] = [];
  #queued = 0;
  #paused = false;
  /** The command of the request that is handled and takes its time. */
  #running: number | undefined;
  #unwatch: (() => void) | undefined;
  #flushing = false;
  #over = false;
  /** Somebody can send DMA messages: then it must be known from inside which request that happens. */
  #dmaGiven: boolean;

  constructor(about: {
    device: ServedDevice;
    space: DmaSpace | DeviceHome;
    transport: Transport;
    options: SessionOptions;
  }) {
    const { device, space, transport, options } = about;
    this.#device = device;
    this.#home = homeOf(space);
    this.#transport = transport;
    this.#options = options;
    this.#dmaGiven = device.setGuestMemory !== undefined;
    this.#outbox = new Outbox(transport);
    this.#calls = new Calls({
      clock: options.clock,
      limit: options.dmaLimit ?? DEFAULTS.dmaLimit,
      send: (head, payload, fds) => {
        if (this.#twin !== undefined) return this.#twin.outbox.now(head, payload, fds);
        this.#outbox.now(head, payload, fds);
        this.#setPaused(false); // its reply must get through
      },
    });
    this.irqs = new IrqTable(device.irqs, device.pci);
    this.#dma = new GuestDma({ home: this.#home, owner: this, calls: this.#calls, scope: this.#scope });
    const { maxDataXferSize: maxBytes, maxMsgFds: maxFds } = OURS;
    this.#served = {
      device,
      regions: indexed(device),
      home: this.#home,
      touched: false,
      owner: this,
      clock: options.clock,
      irqs: this.irqs,
      dma: this.#dma,
      maxBytes,
      maxFds,
    };
    let finished = (): void => {};
    this.done = new Promise((resolve) => {
      finished = resolve;
    });
    this.#finished = finished;
  }

  /** DMA to the client's memory. */
  get dma(): GuestDma {
    this.#dmaGiven = true;
    return this.#dma;
  }

  /** What the client said of itself; undefined before VERSION. */
  get client(): Capabilities | undefined {
    return this.#client;
  }

  /** Begins to serve. */
  start(): void {
    this.#device.setIrqSink((index, vector) => this.#raise(index, vector));
    this.#transport.start({
      received: (bytes, fds) => this.#received(bytes, fds),
      quiet: () => this.#flush(),
      idle: () => this.#idle,
      drained: () => this.#pumpAndFlush(),
      closed: (cause) => this.#end(cause),
    });
  }

  /** A signal that cannot be given is no failure of the device that raises it. */
  #raise(index: number, vector: number): void {
    try {
      this.irqs.raise(index, vector);
    } catch (failure) {
      this.#options.log.warn(`${this.#device.name}: interrupt ${index}.${vector} could not be signalled`, failure);
    }
  }

  /** Ends the connection from this side. */
  close(): void {
    this.#end();
  }

  #received(bytes: Uint8Array, fds: readonly Fd[]): void {
    try {
      this.#framer.push(bytes, fds, (message) => this.#arrived(message));
    } catch (cause) {
      this.#pumpAndFlush();
      this.#end(cause);
      return;
    }
    this.#pump();
  }

  #arrived(message: Message): void {
    if (this.#over) {
      discard(message.fds);
    } else if (isReply(message)) {
      if (this.#calls.settle(message)) return;
      discard(message.fds);
      this.#end(vfioUserErrors.BAD_MESSAGE({ problem: `a reply to no ${commandName(message.command)} of ours` }));
    } else {
      this.#queue.push(message);
      this.#queued += weightOf(message);
      this.#checkFlood();
    }
  }

  #checkFlood(): void {
    const limit = this.#options.floodLimit ?? DEFAULTS.floodLimit;
    if (this.#queued > limit) this.#end(vfioUserErrors.FLOOD({ bytes: this.#queued }));
    // A reply to a DMA message must get through even then: without it the handler that waits for it never ends.
    else if (this.#queued > limit / 4 && this.#calls.pending === 0) this.#setPaused(true);
  }

  #setPaused(paused: boolean): void {
    if (this.#paused === paused) return;
    this.#paused = paused;
    if (paused) this.#transport.pause();
    else this.#transport.resume();
  }

  /** Handles what waits, up to the first handler that takes its time. */
  #pump(): void {
    while (this.#running === undefined && !this.#over && this.#transport.waiting < REPLIES_MAX) {
      const message = this.#queue.shift();
      if (message === undefined) break;
      this.#queued -= weightOf(message);
      const pending = this.#handle(message);
      if (pending !== undefined) this.#await(message, pending);
    }
    if (this.#paused && this.#running === undefined && !this.#over && this.#queue.length === 0) this.#setPaused(false);
  }

  get #idle(): boolean {
    return this.#running === undefined && !this.#over && this.#queue.length === 0;
  }

  #pumpAndFlush(): void {
    this.#pump();
    this.#flush();
  }

  #flush(): void {
    if (this.#running !== undefined) this.#flushSoon();
    else this.#outbox.flush();
  }

  /**
   * Most handlers that take their time are through within this turn: what they and those before them answer goes out together, and
   * only one that is not is watched.
   */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#outbox.flush();
      if (this.#running !== undefined) this.#unwatch ??= this.#watch(this.#running);
    });
  }

  #watch(command: number): () => void {
    const { clock, log, slow = DEFAULTS.slow } = this.#options;
    const what = `${this.#device.name}: ${commandName(command)}`;
    return clock.after(slow, () => log.warn(`${what} is not through after ${slow} ms; QEMU gives up after 5000`));
  }

  #await(message: Message, pending: Promise<void>): void {
    this.#running = message.command;
    void pending.then(() => {
      this.#unwatch?.();
      this.#unwatch = undefined;
      this.#running = undefined;
      if (this.#over) void this.#cleanUp();
      else this.#pumpAndFlush();
      if (this.#idle) this.#transport.proceed?.();
    });
  }

  /** @returns a promise, which never rejects, if the handler takes its time. */
  #handle(message: Message): Promise<void> | undefined {
    const began = this.#options.clock.now();
    try {
      const result = this.#dispatch(message);
      if (result instanceof Promise) {
        return result.then(
          (reply) => this.#succeeded(message, reply),
          (failure: unknown) => this.#failed(message, failure),
        );
      }
      this.#succeeded(message, result);
    } catch (failure) {
      this.#failed(message, failure);
    }
    this.#checkBlocking(message, began);
    return undefined;
  }

  /** A handler that blocks the whole process can only be named afterwards. */
  #checkBlocking({ command }: Message, began: number): void {
    const { clock, log, slow = DEFAULTS.slow } = this.#options;
    const took = clock.now() - began;
    if (took >= slow) log.warn(`${this.#device.name}: ${commandName(command)} blocked everything for ${took} ms`);
  }

  #dispatch(message: Message): Reply | Promise<Reply> {
    const { command, fds } = message;
    if (command === COMMAND.VERSION) return this.#negotiate(message);
    if (this.#client === undefined) throw vfioUserErrors.NOT_NEGOTIATED({ command });
    const handler = HANDLERS.get(command);
    if (handler === undefined) throw vfioUserErrors.UNKNOWN_COMMAND({ command });
    if ((message.flags & ~HEADER_FLAG.NO_REPLY) !== 0) throw badHeader(message);
    const most = TAKES_FDS.has(command) ? this.#served.maxFds : 0;
    if (fds.length > most) {
      throw vfioUserErrors.BAD_FDS({ command, count: fds.length, allowed: most === 0 ? 'none' : `at most ${most}` });
    }
    if (TOUCHES.has(command)) this.#served.touched = true;
    if (!this.#dmaGiven || !wantsReply(message)) return handler(this.#served, message);
    return this.#scope.run(command, () => handler(this.#served, message));
  }

  #negotiate({ command, payload, fds }: Message): Reply {
    if (this.#client !== undefined) throw vfioUserErrors.BAD_VERSION({ problem: 'it was agreed on before' });
    if (fds.length > 0) throw vfioUserErrors.BAD_FDS({ command, count: fds.length, allowed: 'none' });
    const { major, minor, capabilities } = decodeVersion(payload);
    if (major !== PROTOCOL.major) {
      throw vfioUserErrors.BAD_VERSION({ problem: `version ${major}.${minor}; this is ${PROTOCOL.major}` });
    }
    this.#dma.maxBytes = Math.min(capabilities.maxDataXferSize, OURS.maxDataXferSize);
    this.#device.setGuestMemory?.(this.dma);
    const theirs = this.#openTwin(capabilities);
    this.#client = capabilities; // last: a negotiation that fails is none, and ends the connection
    const ours = {
      ...OURS,
      writeMultiple: capabilities.writeMultiple,
      ...(theirs && { twinSocket: { supported: true, fdIndex: 0 } }),
    };
    return {
      payload: encodeVersion({ major, minor: Math.min(minor, PROTOCOL.minor), capabilities: ours }),
      ...(theirs && { fds: [theirs], given: true }),
    };
  }

  /** @returns the client's end of a second socket, if it asked for one and there can be one. */
  #openTwin({ twinSocket, maxMsgFds }: Capabilities): Fd | undefined {
    const { sys } = this.#options;
    if (twinSocket?.supported !== true || maxMsgFds < 1 || sys === undefined) return undefined;
    const { twin, theirs } = TwinSocket.open(sys, {
      message: (message) => this.#onTwin(message),
      closed: (cause) => this.#end(cause),
    });
    this.#twin = twin;
    return theirs;
  }

  #onTwin(message: Message): void {
    if (isReply(message)) this.#arrived(message);
    else {
      discard(message.fds);
      this.#end(vfioUserErrors.BAD_MESSAGE({ problem: 'a command of the client on the twin socket' }));
    }
  }

  #succeeded(message: Message, reply: Reply): void {
    if (message.command !== COMMAND.DEVICE_SET_IRQS) discard(message.fds); // SET_IRQS has made them its own
    this.#answer(message, { flags: HEADER_FLAG.REPLY, error: 0 }, reply);
  }

  #failed(message: Message, failure: unknown): void {
    discard(message.fds);
    const { log } = this.#options;
    const text = failure instanceof PinionError || failure instanceof SysError ? failure.toString() : String(failure);
    log.warn(`${this.#device.name}: ${commandName(message.command)} failed: ${text}`, failure);
    const instead = this.#options.readsNeverFail === true ? excuse(message) : undefined;
    if (instead !== undefined) {
      this.#answer(message, { flags: HEADER_FLAG.REPLY, error: 0 }, instead);
      return;
    }
    const error = wireErrno(failure);
    this.#answer(message, { flags: HEADER_FLAG.REPLY | HEADER_FLAG.ERROR, error }, { payload: new Uint8Array(0) });
    if (this.#client === undefined) {
      this.#outbox.flush();
      this.#end();
    }
  }

  #answer(message: Message, { flags, error }: { flags: number; error: number }, reply: Reply): void {
    const { payload, data, fds, given = false } = reply;
    const { id, command } = message;
    if (!this.#over && wantsReply(message)) this.#outbox.add({ id, command, flags, error }, payload, data, fds);
    if (given && fds !== undefined) discard(fds);
  }

  #end(cause?: unknown): void {
    if (this.#over) return;
    this.#over = true;
    if (cause !== undefined) this.#options.log.warn(`${this.#device.name}: the connection ended`, cause);
    this.#framer.close();
    for (const { fds } of this.#queue) discard(fds);
    this.#queue = [];
    this.#transport.close();
    this.#twin?.close();
    this.#calls.end(vfioUserErrors.DISCONNECTED({ what: `a DMA message of ${this.#device.name}` }));
    if (this.#running === undefined) void this.#cleanUp();
  }

  /** Everything that the client set up goes; the device keeps its own state. */
  async #cleanUp(): Promise<void> {
    this.#device.setIrqSink(undefined);
    this.#device.setGuestMemory?.(undefined);
    this.irqs.close();
    this.#home.dma.dirty.stop(this);
    try {
      await this.#unmapEverything();
    } catch (failure) {
      this.#options.log.warn(`${this.#device.name}: mappings of a client that is gone stay`, failure);
    }
    this.#finished();
  }

  async #unmapEverything(): Promise<void> {
    const { reopen, log, holdsPages } = this.#options;
    try {
      await this.#home.dma.unmapAll(this);
      if (holdsPages?.() === true) await reopen?.();
    } catch (failure) {
      if (reopen === undefined) throw failure;
      log.warn(`${this.#device.name} keeps pages of a client that is gone; it is opened anew`, failure);
      await reopen();
      await this.#home.dma.unmapAll(this);
    }
  }
}

const badHeader = ({ command, flags }: Message): unknown =>
  vfioUserErrors.BAD_FLAGS({ command, flags, problem: 'bits of the header that a command does not have' });

/** What a client that cannot read errors gets instead of one. */
function excuse({ command, payload }: Message): Reply | undefined {
  if (command === COMMAND.DMA_UNMAP && payload.length >= DMA_UNMAP.size) {
    return { payload: payload.slice(0, DMA_UNMAP.size) };
  }
  if (command !== COMMAND.REGION_READ || payload.length < REGION_ACCESS.size) return undefined;
  const access = REGION_ACCESS.read(payload);
  const ones = new Uint8Array(Math.min(access.count, OURS.maxDataXferSize)).fill(0xff);
  return { payload: encodeRegionAccess(access, ones) };
}
