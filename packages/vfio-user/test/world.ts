import assert from 'node:assert/strict';
import {
  createMediator,
  type DeviceOps,
  definePlugin,
  type FrameRange,
  frameCount,
  type IrqSink,
  iovaFrame,
  type Mediator,
  type PinApi,
  PinionError,
  type PinningDeviceOps,
  type Plugin,
  type RegionInfo,
} from '@pinion/core';
import { closeAll, createMemfd, FakeSys, Fd, FdInbox, type Sys, UnixSocket, WOULD_BLOCK } from '@pinion/sys';
import { FakeClock } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import {
  ClientPages,
  COMMAND,
  encodeMessage,
  encodeVersion,
  Framer,
  HEADER_FLAG,
  type Message,
  type ServedDevice,
  type ServedRegion,
  Server,
  type ServerOptions,
  type Session,
  SocketTransport,
  servedDevice,
  VmSpace,
} from '@pinion/vfio-user';

const UUID = '00000000-0000-4000-8000-000000000001';
export const BAR_SIZE = 0x1000;
export const CONFIG_SIZE = 0x100;
const region = (index: number, name: string, size: number, writable = true): RegionInfo => ({
  index,
  name,
  size,
  readable: true,
  writable,
});

/** A small PCI device: two registers files, interrupts, and DMA by copies and pins that a test asks for. */
export class TestDevice implements PinningDeviceOps {
  readonly regions = [
    region(0, 'BAR0', BAR_SIZE),
    region(1, 'BAR1', 0x10, false),
    { ...region(2, 'BAR2', 0x10), readable: false },
    region(7, 'config', CONFIG_SIZE),
  ];
  readonly irqs = [
    { index: 0, name: 'INTx', count: 1 },
    { index: 1, name: 'MSI', count: 1 },
    { index: 2, name: 'MSI-X', count: 8 },
  ];
  readonly bytes = new Map<number, Uint8Array>(this.regions.map(({ index, size }) => [index, new Uint8Array(size)]));
  /** Every write, in order: region, offset, bytes as hex. */
  readonly writes: string[] = [];
  /** What `dmaUnmap` was called with: first address, pages. */
  readonly unmapped: (readonly [bigint, number])[] = [];
  readonly pins: PinApi;
  sink: IrqSink | undefined;
  resets = 0;
  opens = 0;
  fail: unknown;
  unmapping: (range: FrameRange) => void | Promise<void> = (range) => this.giveBack(range);
  resetting: () => void | Promise<void> = () => {};

  constructor(pins: PinApi) {
    this.pins = pins;
  }

  open(): void {
    this.opens += 1;
  }
  close(): void {}
  reset(): void | Promise<void> {
    this.resets += 1;
    return this.resetting();
  }
  setIrqSink(sink: IrqSink | undefined): void {
    this.sink = sink;
  }
  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    if (this.fail !== undefined) throw this.fail;
    bytes.set(this.bytes.get(index)?.subarray(offset, offset + bytes.length) ?? []);
  }
  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    if (this.fail !== undefined) throw this.fail;
    this.bytes.get(index)?.set(bytes, offset);
    this.writes.push(`${index}+${offset}=${Buffer.from(bytes).toString('hex')}`);
  }
  dmaUnmap(range: FrameRange): void | Promise<void> {
    this.unmapped.push([BigInt(range.first) << 12n, frameCount(range)]);
    return this.unmapping(range);
  }
  giveBack({ first, last }: FrameRange): void {
    for (let frame = first; frame <= last; frame = iovaFrame((BigInt(frame) + 1n) << 12n)) {
      while (this.pins.count(frame) > 0) this.pins.unpin(frame, 1);
    }
  }
}

/** A driver whose devices are kept in `made`; `ops`: what they do otherwise. */
export const testPlugin = (made: TestDevice[], ops: Partial<PinningDeviceOps> = {}): Plugin =>
  definePlugin({
    name: 'test-driver',
    core: '^0.1',
    register: (scope) =>
      scope.vendorDriver({
        name: 'test',
        deviceApi: 'vfio-pci',
        types: [{ id: 'only' }],
        pins: true,
        create({ pins }) {
          const device = Object.assign(new TestDevice(pins), ops);
          made.push(device);
          return device;
        },
      }),
  });

export interface WorldOptions extends Omit<Partial<ServerOptions>, 'device' | 'space'> {
  readonly sys?: Sys;
  /** Wraps or replaces what is served. */
  readonly serve?: (device: ServedDevice) => ServedDevice;
  /** Extra members of the driver's device. */
  readonly ops?: Partial<DeviceOps>;
  readonly lockLimit?: number;
  /** Regions that need a file, instead of the device's own. */
  readonly regions?: (fd: Fd) => readonly ServedRegion[];
}

/** A server with its device, container and backend, and the means to make clients. */
export class World {
  readonly sys: Sys;
  readonly clock = new FakeClock();
  readonly pages: ClientPages;
  readonly mediator: Mediator;
  readonly space: VmSpace;
  readonly server: Server;
  readonly device: TestDevice;
  readonly served: ServedDevice;
  readonly warnings: string[];
  readonly file: Fd | undefined;

  private constructor(parts: Omit<World, 'client' | 'end'>) {
    this.sys = parts.sys;
    this.file = parts.file;
    this.clock = parts.clock;
    this.pages = parts.pages;
    this.mediator = parts.mediator;
    this.space = parts.space;
    this.server = parts.server;
    this.device = parts.device;
    this.served = parts.served;
    this.warnings = parts.warnings;
  }

  static async start(options: WorldOptions = {}): Promise<World> {
    const sys = options.sys ?? new FakeSys();
    const clock = new FakeClock();
    const pages = new ClientPages();
    const made: TestDevice[] = [];
    const plugin = testPlugin(made, options.ops);
    const mediator = await createMediator({ memory: pages, clock, plugins: [type1(), plugin] });
    const mdev = await mediator.registerParent('hardware', 'test').create('only', UUID);
    const space = new VmSpace({ mediator, pages, name: 'vm', ...options });
    const seat = await space.attach(mdev.group, UUID);
    const [device] = made;
    assert.ok(device);
    const file = options.regions === undefined ? undefined : createMemfd(sys, 'bar', 0x10000n);
    const plain = servedDevice(seat);
    const own = file === undefined ? plain : { ...plain, regions: options.regions?.(file) ?? [] };
    const served = options.serve?.(own) ?? own;
    const warnings: string[] = [];
    const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
    const server = new Server({
      reopen: () => seat.reopen(),
      sys,
      ...options,
      device: served,
      space: space.dma,
      clock,
      log,
    });
    return new World({ file, sys, clock, pages, mediator, space, server, device, served, warnings });
  }

  /** A raw client that is connected; `negotiate` false: it has not said VERSION yet. */
  async client(negotiate = true): Promise<RawClient> {
    const [ours, theirs] = UnixSocket.pair(this.sys);
    const session = this.#accept(theirs, ours);
    const client = new RawClient(this.sys, ours, session);
    if (negotiate) await client.version();
    return client;
  }

  #accept(theirs: UnixSocket, ours: UnixSocket): Session {
    try {
      return this.server.accept(new SocketTransport(theirs));
    } catch (cause) {
      ours.close();
      throw cause;
    }
  }

  /** Everything goes; nothing may be left. */
  async end(): Promise<void> {
    await this.server.close();
    assert.equal(this.pages.pieces, 0, 'pieces of client memory');
    assert.equal(this.space.task.mm.lockedPages, 0, 'locked pages');
    await this.space.close();
    assert.equal(this.space.task.mm.grabs, 0, 'references to the address space');
    await this.mediator.close();
    this.file?.close();
    assert.deepEqual(this.sys.ledger.labels(), []);
  }
}

/** Lets everything that is due happen: the fake's watches, promises. */
export async function settle(turns = 12): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** The far end of a connection, byte by byte. */
export class RawClient {
  readonly sys: Sys;
  readonly socket: UnixSocket;
  readonly session: Session;
  readonly received: Message[] = [];
  readonly #inbox = new FdInbox(253);
  readonly #framer = new Framer(1 << 21, closeAll);
  #id = 0;
  eof = false;

  constructor(sys: Sys, socket: UnixSocket, session: Session) {
    this.sys = sys;
    this.socket = socket;
    this.session = session;
  }

  /** A memfd of `pages` pages that cannot shrink; `sealed` false: one that can. */
  memory(pages: number, sealed = true): Fd {
    if (sealed) return createMemfd(this.sys, 'ram', BigInt(pages * 4096));
    const fd = new Fd(this.sys, this.sys.memfd('ram'), 'ram');
    this.sys.truncate(fd.number, BigInt(pages * 4096));
    return fd;
  }

  raw(bytes: Uint8Array, fds: readonly Fd[] = []): void {
    assert.equal(this.socket.trySend(bytes, fds), bytes.length);
  }

  /** Sends a command. @returns its id. */
  send(command: number, payload: Uint8Array, more: { fds?: readonly Fd[]; noReply?: boolean } = {}): number {
    const id = this.#id++;
    const flags = more.noReply === true ? HEADER_FLAG.NO_REPLY : 0;
    this.raw(encodeMessage({ id, command, flags, error: 0, payload }), more.fds);
    return id;
  }

  /** Sends a command that is larger than a socket holds, and takes in its reply. */
  async sendSlowly(command: number, payload: Uint8Array): Promise<void> {
    const bytes = encodeMessage({ id: this.#id++, command, flags: 0, error: 0, payload });
    for (let done = 0; done < bytes.length; ) {
      const count = this.socket.trySend(bytes.subarray(done));
      if (count === WOULD_BLOCK) await settle(1);
      else done += count;
    }
    await this.#until(() => this.received.length > 0);
    assert.equal(this.received.pop()?.flags, HEADER_FLAG.REPLY);
  }

  /** Sends a command and waits for what comes back. */
  async call(command: number, payload: Uint8Array, fds: readonly Fd[] = []): Promise<Message> {
    const id = this.send(command, payload, { fds });
    await this.#until(() => this.received.some((message) => message.id === id && message.flags !== 0));
    const index = this.received.findIndex((message) => message.id === id && message.flags !== 0);
    const [reply] = this.received.splice(index, 1);
    assert.ok(reply, 'no reply came');
    return reply;
  }

  /** The errno of the reply, 0 if it is no error. */
  async errno(command: number, payload: Uint8Array, fds: readonly Fd[] = []): Promise<number> {
    const reply = await this.call(command, payload, fds);
    if (reply.flags === HEADER_FLAG.REPLY) return 0;
    assert.equal(reply.flags, HEADER_FLAG.REPLY | HEADER_FLAG.ERROR);
    assert.equal(reply.payload.length, 0, 'an error reply is a header alone');
    return reply.error;
  }

  async version(changes: object = {}): Promise<Message> {
    const capabilities = {
      maxMsgFds: 16,
      maxDataXferSize: 1 << 20,
      maxDmaMaps: 65535,
      pgsizes: 4096,
      writeMultiple: true,
      ...changes,
    };
    return this.call(COMMAND.VERSION, encodeVersion({ major: 0, minor: 0, capabilities }));
  }

  /** Takes in what has come; without waiting. */
  pump(): void {
    const chunk = new Uint8Array(65_536);
    while (!this.eof) {
      const count = this.#tryReceive(chunk);
      if (count === WOULD_BLOCK) return;
      if (count === 0) this.eof = true;
      else this.#framer.push(chunk.slice(0, count), this.#inbox.take(), (message) => this.received.push(message));
    }
  }

  async idle(): Promise<void> {
    await settle();
    this.pump();
  }

  /** Hangs up and waits until the server is through with it. */
  async close(): Promise<void> {
    for (const { fds } of this.received) closeAll(fds);
    this.#framer.close();
    this.#inbox.close();
    this.socket.close();
    await this.session.done;
  }

  #tryReceive(chunk: Uint8Array): number {
    try {
      return this.socket.tryReceive(chunk, this.#inbox);
    } catch {
      return 0; // why: a reset connection is over as well
    }
  }

  async #until(there: () => boolean): Promise<void> {
    for (let turn = 0; turn < 200 && !there() && !this.eof; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      this.pump();
    }
  }
}

export const failing = new PinionError('TEST_FAILED', 'ENOSPC', 'as the test said');
