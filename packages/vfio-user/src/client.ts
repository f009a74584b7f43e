import { type Clock, type Log, PROT_RW, type Prot, silentLog, systemClock } from '@pinion/core';
import type { Fd } from '@pinion/sys';
import { Calls } from './calls.js';
import { CommandGate } from './command-gate.js';
import { COMMAND, commandName, DEVICE_FLAG, DMA_MAP_FLAG, DMA_UNMAP_FLAG, HEADER_FLAG } from './commands.js';
import { discard } from './discard.js';
import { decodeDmaAccess, encodeDmaAccess, encodeDmaMap, encodeDmaUnmap } from './dma-messages.js';
import { vfioUserErrors } from './errors.js';
import { decodeFeature, encodeFeature, type FeatureMessage } from './feature-messages.js';
import { Framer, MESSAGE_OVERHEAD } from './framer.js';
import { wireErrno } from './handlers.js';
import {
  decodeDeviceInfo,
  decodeIoFds,
  decodeIrqInfo,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeIoFdsRequest,
  encodeIrqInfo,
  encodeRegionInfoRequest,
  type IoFd,
  type RegionInfoReply,
} from './info-messages.js';
import { encodeSetIrqs, type IrqRequest } from './irq-messages.js';
import { isReply, type Message, wantsReply } from './message.js';
import { Outbox } from './outbox.js';
import {
  decodeRegionAccess,
  decodeWriteMultiReply,
  encodeRegionAccess,
  encodeWriteMulti,
  type SmallWrite,
} from './region-messages.js';
import { checkExactSize } from './sizes.js';
import { DMA_UNMAP, REGION_INFO, REGION_IO_FDS } from './structs.js';
import type { Transport } from './transport.js';
import { TwinSocket } from './twin-socket.js';
import { type Capabilities, DEFAULT_CAPABILITIES, decodeVersion, encodeVersion, PROTOCOL } from './version.js';

/** What the client lets a server read and write by messages. A throw is the errno that the server gets. */
export interface ServerMemory {
  read(address: bigint, bytes: Uint8Array): void | Promise<void>;
  write(address: bigint, bytes: Uint8Array): void | Promise<void>;
}

export interface ClientOptions {
  readonly transport: Transport;
  readonly clock?: Clock;
  readonly log?: Log;
  /** Absent: DMA messages are refused with EFAULT. */
  readonly memory?: ServerMemory;
  /** Milliseconds that the server has for a reply; 0: no limit. Default 5000, as QEMU. */
  readonly limit?: number;
  /** What is said of this client in VERSION, where it differs from the defaults. */
  readonly capabilities?: Partial<Capabilities>;
  /** Asks for a second socket for the server's commands. Default false. */
  readonly twinSocket?: boolean;
}

/** A mapping that a server is given: bytes. Without `fd` it reaches the memory by messages alone. */
export interface DmaMapRequest {
  readonly address: bigint;
  readonly size: bigint;
  readonly prot?: Prot;
  readonly fd?: Fd;
  readonly offset?: bigint;
  /** How the server is to reach the file, for servers that know (libvfio-user and ours): default, as it likes. */
  readonly reach?: 'map' | 'file';
}

const OURS: Capabilities = { ...DEFAULT_CAPABILITIES, maxMsgFds: 16, writeMultiple: true };

/**
 * The VMM's end of a connection. Calls may be made without waiting for those before; replies may cross commands of the
 * server, which are served from `memory` as they come. Every call
 * @throws VFIOUSER_REFUSED with the server's errno, VFIOUSER_TIMEOUT (ETIMEDOUT), VFIOUSER_DISCONNECTED (ENODEV), and the codec's
 * errors when a reply is not what it should be.
 */
export class Client {
  /** Settles when the connection is over, with what ended it, undefined after `close` or an orderly end. */
  readonly done: Promise<unknown>;
  readonly log: Log;
  readonly #transport: Transport;
  readonly #memory: ServerMemory | undefined;
  readonly #capabilities: Capabilities;
  readonly #outbox: Outbox;
  readonly #calls: Calls;
  readonly #framer: Framer;
  readonly #ended: (cause: unknown) => void;
  #server: Capabilities = DEFAULT_CAPABILITIES;
  readonly #gate: CommandGate;
  #twin: TwinSocket | undefined;
  #twinGate: CommandGate | undefined;
  #open = true;

  private constructor(options: ClientOptions) {
    const { transport, clock = systemClock, log = silentLog, memory, limit = 5000 } = options;
    this.log = log;
    this.#transport = transport;
    this.#memory = memory;
    const twinSocket = options.twinSocket === true ? { twinSocket: { supported: true } } : {};
    this.#capabilities = { ...OURS, ...twinSocket, ...options.capabilities };
    this.#outbox = new Outbox(transport);
    this.#gate = new CommandGate(transport, (message) => this.#serve(message, this.#outbox));
    this.#calls = new Calls({ clock, limit, send: (head, payload, fds) => this.#outbox.now(head, payload, fds) });
    this.#framer = new Framer<Fd>(this.#capabilities.maxDataXferSize + MESSAGE_OVERHEAD, discard);
    let ended = (_cause: unknown): void => {};
    this.done = new Promise((resolve) => {
      ended = resolve;
    });
    this.#ended = ended;
  }

  /** Agrees on a version over a connection. @throws VFIOUSER_BAD_VERSION (EINVAL), VFIOUSER_BAD_CAPABILITY; the transport is closed then. */
  static async connect(options: ClientOptions): Promise<Client> {
    const client = new Client(options);
    try {
      await client.#negotiate();
      return client;
    } catch (cause) {
      client.#end(cause);
      throw cause;
    }
  }

  /** What the server said of itself. */
  get server(): Capabilities {
    return this.#server;
  }

  async deviceInfo(): Promise<{
    readonly resettable: boolean;
    readonly pci: boolean;
    readonly regions: number;
    readonly irqs: number;
  }> {
    const request = encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 });
    const { flags, regions, irqs } = decodeDeviceInfo(await this.#payload(COMMAND.DEVICE_GET_INFO, request));
    return { resettable: (flags & DEVICE_FLAG.RESET) !== 0, pci: (flags & DEVICE_FLAG.PCI) !== 0, regions, irqs };
  }

  /** A region, asked for twice if its capabilities need more room. `fd`, if there is one, is the caller's. */
  async regionInfo(index: number): Promise<{ readonly info: RegionInfoReply; readonly fd: Fd | undefined }> {
    let reply = await this.call(COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(index, REGION_INFO.size));
    let info = this.#read(reply, decodeRegionInfo);
    if (info.argsz > reply.payload.length) {
      discard(reply.fds);
      reply = await this.call(COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(index, info.argsz));
      info = this.#read(reply, decodeRegionInfo);
    }
    const [fd, ...more] = reply.fds;
    discard(more);
    return { info, fd };
  }

  /** Descriptors for parts of a region; `files` are the caller's. */
  async regionIoFds(index: number): Promise<{ readonly entries: readonly IoFd[]; readonly files: readonly Fd[] }> {
    const command = COMMAND.DEVICE_GET_REGION_IO_FDS;
    const { argsz } = decodeIoFds(await this.#payload(command, encodeIoFdsRequest(index, REGION_IO_FDS.size)));
    const reply = await this.call(command, encodeIoFdsRequest(index, argsz));
    return { entries: this.#read(reply, decodeIoFds).fds, files: reply.fds };
  }

  async irqInfo(index: number): Promise<{ readonly flags: number; readonly count: number }> {
    const request = encodeIrqInfo({ flags: 0, index, count: 0 });
    const { flags, count } = decodeIrqInfo(await this.#payload(COMMAND.DEVICE_GET_IRQ_INFO, request));
    return { flags, count };
  }

  /** `fds` stay the caller's. */
  async setIrqs(request: IrqRequest, fds: readonly Fd[] = []): Promise<void> {
    await this.#payload(COMMAND.DEVICE_SET_IRQS, encodeSetIrqs(request), fds);
  }

  /** Fills `bytes` from `offset` of a region, in as many messages as the server's size needs. */
  async readRegion(region: number, offset: bigint, bytes: Uint8Array): Promise<void> {
    const command = COMMAND.REGION_READ;
    for (const [at, part] of this.#parts(bytes)) {
      const request = { offset: offset + BigInt(at), region, count: part.length };
      const payload = await this.#payload(command, encodeRegionAccess(request));
      const { data } = decodeRegionAccess(command, payload, true, part.length);
      checkExactSize(command, data, part.length);
      part.set(data);
    }
  }

  /** Writes `bytes` to `offset` of a region. `posted`: nobody answers, so nobody hears of a failure either. */
  async writeRegion(region: number, offset: bigint, bytes: Uint8Array, { posted = false } = {}): Promise<void> {
    const command = COMMAND.REGION_WRITE;
    for (const [at, part] of this.#parts(bytes)) {
      const payload = encodeRegionAccess({ offset: offset + BigInt(at), region, count: part.length }, part);
      if (posted) this.#calls.post(command, payload);
      else await this.#payload(command, payload);
    }
  }

  /**
   * Several small writes in one message. @returns how many were done; all of them, for all one knows, when `posted`.
   * @throws VFIOUSER_NOT_SUPPORTED (EINVAL) if the server did not say that it takes them.
   */
  async writeMany(writes: readonly SmallWrite[], { posted = false } = {}): Promise<number> {
    if (!this.#server.writeMultiple) throw vfioUserErrors.NOT_SUPPORTED({ what: 'REGION_WRITE_MULTI' });
    const payload = encodeWriteMulti(writes);
    if (!posted) return Number(decodeWriteMultiReply(await this.#payload(COMMAND.REGION_WRITE_MULTI, payload)));
    this.#calls.post(COMMAND.REGION_WRITE_MULTI, payload);
    return writes.length;
  }

  /** Makes memory known to the device. `fd` stays the caller's, who may close it. */
  async mapDma(request: DmaMapRequest): Promise<void> {
    const { address, size, prot = PROT_RW, fd, offset = 0n, reach } = request;
    const how = reach === undefined ? 0 : reach === 'map' ? DMA_MAP_FLAG.MMAP : DMA_MAP_FLAG.FILE_IO;
    const payload = encodeDmaMap({ flags: prot | how, offset, address, size });
    await this.#payload(COMMAND.DMA_MAP, payload, fd === undefined ? [] : [fd]);
  }

  /** Takes a mapping away; when this settles, the device does not use it any more. */
  async unmapDma({ address, size }: { readonly address: bigint; readonly size: bigint }): Promise<void> {
    const request = encodeDmaUnmap({ flags: 0, address, size });
    checkExactSize(COMMAND.DMA_UNMAP, await this.#payload(COMMAND.DMA_UNMAP, request), DMA_UNMAP.size);
  }

  async unmapAll(): Promise<void> {
    await this.#payload(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: DMA_UNMAP_FLAG.ALL, address: 0n, size: 0n }));
  }

  async reset(): Promise<void> {
    await this.#payload(COMMAND.DEVICE_RESET, new Uint8Array(0));
  }

  async feature(request: Omit<FeatureMessage, 'argsz'> & { readonly argsz?: number }): Promise<FeatureMessage> {
    return decodeFeature(await this.#payload(COMMAND.DEVICE_FEATURE, encodeFeature(request)));
  }

  /** Sends any command; settles with its reply, whose descriptors are the caller's. For tests, tools and what comes after this version. */
  call(command: number, payload: Uint8Array, fds: readonly Fd[] = []): Promise<Message> {
    return this.#calls.call(command, payload, fds);
  }

  /** Ends the connection. */
  close(): void {
    this.#end(undefined);
  }

  async #negotiate(): Promise<void> {
    this.#transport.start({
      received: (bytes, fds) => this.#received(bytes, fds),
      quiet: () => {},
      drained: () => this.#gate.proceed(),
      closed: (cause) => this.#end(cause),
    });
    const payload = encodeVersion({ ...PROTOCOL, capabilities: this.#capabilities });
    const reply = await this.call(COMMAND.VERSION, payload);
    const { major, minor, capabilities } = this.#read(reply, decodeVersion);
    if (major !== PROTOCOL.major || minor > PROTOCOL.minor) {
      const problem = `the server answered ${major}.${minor} to ${PROTOCOL.major}.${PROTOCOL.minor}`;
      discard(reply.fds);
      throw vfioUserErrors.BAD_VERSION({ problem });
    }
    this.#server = capabilities;
    this.#takeTwin(capabilities, reply.fds);
  }

  #takeTwin({ twinSocket }: Capabilities, fds: readonly Fd[]): void {
    const wanted = this.#capabilities.twinSocket?.supported === true && twinSocket?.supported === true;
    const fd = wanted ? fds[twinSocket.fdIndex ?? 0] : undefined;
    discard(fds.filter((other) => other !== fd));
    if (!wanted) return;
    if (fd === undefined) throw vfioUserErrors.BAD_VERSION({ problem: 'a twin socket that is not there' });
    try {
      const twin = TwinSocket.adopt(fd, {
        message: (message) => this.#onTwin(message),
        drained: () => this.#twinGate?.proceed(),
        closed: (cause) => this.#end(cause),
      });
      this.#twin = twin;
      this.#twinGate = new CommandGate(twin.transport, (message) => this.#serve(message, twin.outbox));
    } catch (cause) {
      fd.close();
      throw vfioUserErrors.BAD_VERSION({ problem: 'the twin socket is none' }, cause);
    }
  }

  #onTwin(message: Message): void {
    if (!isReply(message) && this.#twinGate !== undefined) this.#twinGate.arrived(message);
    else {
      discard(message.fds);
      this.#end(vfioUserErrors.BAD_MESSAGE({ problem: 'a reply of the server on the twin socket' }));
    }
  }

  /** The payload of a reply that brings no descriptors. */
  async #payload(command: number, payload: Uint8Array, fds: readonly Fd[] = []): Promise<Uint8Array> {
    const reply = await this.call(command, payload, fds);
    discard(reply.fds);
    return reply.payload;
  }

  /** Reads a reply; one that cannot be read loses its descriptors. */
  #read<T>(reply: Message, decode: (payload: Uint8Array) => T): T {
    try {
      return decode(reply.payload);
    } catch (cause) {
      discard(reply.fds);
      throw cause;
    }
  }

  *#parts(bytes: Uint8Array): Iterable<readonly [at: number, part: Uint8Array]> {
    const most = this.#server.maxDataXferSize;
    for (let at = 0; at < bytes.length; at += most) yield [at, bytes.subarray(at, at + most)];
  }

  #received(bytes: Uint8Array, fds: readonly Fd[]): void {
    try {
      this.#framer.push(bytes, fds, (message) => this.#arrived(message));
    } catch (cause) {
      this.#end(cause);
    }
  }

  #arrived(message: Message): void {
    if (!this.#open) {
      discard(message.fds);
    } else if (!isReply(message)) {
      this.#gate.arrived(message);
    } else if (!this.#calls.settle(message)) {
      discard(message.fds);
      this.#end(vfioUserErrors.BAD_MESSAGE({ problem: `a reply to no ${commandName(message.command)} of ours` }));
    }
  }

  /** A command of the server's. Never rejects. */
  async #serve(message: Message, outbox: Outbox): Promise<void> {
    const { id, command } = message;
    const answer = (flags: number, error: number, payload: Uint8Array): void => {
      if (this.#open && wantsReply(message)) outbox.now({ id, command, flags, error }, payload);
    };
    try {
      answer(HEADER_FLAG.REPLY, 0, await this.#dma(message));
    } catch (failure) {
      this.log.warn(`${commandName(command)} of the server failed`, failure);
      answer(HEADER_FLAG.REPLY | HEADER_FLAG.ERROR, wireErrno(failure), new Uint8Array(0));
    }
  }

  async #dma({ command, payload, fds }: Message): Promise<Uint8Array> {
    if (command !== COMMAND.DMA_READ && command !== COMMAND.DMA_WRITE)
      throw vfioUserErrors.UNKNOWN_COMMAND({ command });
    if (fds.length > 0) throw vfioUserErrors.BAD_FDS({ command, count: fds.length, allowed: 'none' });
    const writes = command === COMMAND.DMA_WRITE;
    const { address, count, data } = decodeDmaAccess(command, payload, writes, this.#capabilities.maxDataXferSize);
    const length = Number(count);
    if (this.#memory === undefined) throw vfioUserErrors.NO_DMA({ address, length });
    if (writes) {
      await this.#memory.write(address, data);
      return encodeDmaAccess(address, length);
    }
    const bytes = new Uint8Array(length);
    await this.#memory.read(address, bytes);
    return encodeDmaAccess(address, length, bytes);
  }

  #end(cause: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    this.#framer.close();
    this.#gate.close();
    this.#twinGate?.close();
    this.#transport.close();
    this.#twin?.close();
    this.#calls.end(vfioUserErrors.DISCONNECTED({ what: 'a command' }));
    this.#ended(cause);
  }
}
