import { type Clock, type Log, silentLog, systemClock } from '@pinion/core';
import { Fd, type Sys, UnixListener, UnixSocket, type Watch } from '@pinion/sys';
import { vfioUserErrors } from './errors.js';
import type { Server } from './server.js';
import { SocketTransport, type SocketTransportOptions } from './socket-transport.js';

/**
 * Where clients come from. Source: vfio-user specification, "Backend program conventions"; sd_listen_fds(3).
 * - `path`: a socket that is made there; whoever composes removes the path before and after.
 * - `fd`: a descriptor that was inherited: a connected socket (one client, then the end) or a listening one.
 */
export type ListenOn = { readonly path: string } | { readonly fd: number };

/** A socket that systemd passed. */
export interface ActivatedSocket {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit. */
  readonly name: string | undefined;
}

/** The first descriptor that a socket-activated program inherits. Source: sd-daemon.h, SD_LISTEN_FDS_START. */
const FIRST_ACTIVATED = 3;
/** More than any unit passes; a larger number is noise. */
const MOST_ACTIVATED = 1024;
/** What systemd calls a socket that its unit does not name: no name at all. */
const UNNAMED = 'unknown';

/**
 * The sockets that systemd passed to this process, in order; none if LISTEN_PID names another one.
 * @throws VFIOUSER_BAD_ACTIVATION (EINVAL) for a LISTEN_FDS that is no count. Source: sd_listen_fds_with_names(3).
 */
export function activatedSockets(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): readonly ActivatedSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  if (LISTEN_PID !== String(pid) || LISTEN_FDS === undefined) return [];
  const count = Number(LISTEN_FDS);
  if (!/^\d+$/.test(LISTEN_FDS) || count > MOST_ACTIVATED) throw vfioUserErrors.BAD_ACTIVATION({ value: LISTEN_FDS });
  const names = LISTEN_FDNAMES?.split(':') ?? [];
  const nameOf = (name: string | undefined): string | undefined =>
    name === undefined || name === '' || name === UNNAMED ? undefined : name;
  return Array.from({ length: count }, (_, index) => ({ fd: FIRST_ACTIVATED + index, name: nameOf(names[index]) }));
}

/** Milliseconds after which a client that could not be let in is tried again. */
const RETRY = 100;

/** Lets clients in, one after the other: the next one waits in the socket's queue until the one before is gone. */
export class ServerListener {
  /** Settles when no client can come any more: after `close`, or after the one client of a connected descriptor. */
  readonly done: Promise<void>;
  readonly #server: Server;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #transport: SocketTransportOptions;
  readonly #listener: UnixListener | undefined;
  readonly #finished: () => void;
  #watch: Watch | undefined;
  #cancelRetry: () => void = () => {};
  #closed = false;

  /** @throws SysError: SYS_CALL_FAILED (EADDRINUSE, EACCES, ...), SYS_BAD_ARGUMENT (EINVAL) for a descriptor that is no UNIX stream socket. */
  constructor(about: {
    sys: Sys;
    server: Server;
    on: ListenOn;
    log?: Log;
    clock?: Clock;
    transport?: SocketTransportOptions;
  }) {
    const { sys, server, on, log = silentLog, clock = systemClock, transport = {} } = about;
    this.#clock = clock;
    this.#transport = transport;
    this.#server = server;
    this.#log = log;
    let finished = (): void => {};
    this.done = new Promise((resolve) => {
      finished = resolve;
    });
    this.#finished = finished;
    if ('path' in on) {
      this.#listener = UnixListener.listen(sys, on.path);
      this.#await(this.#listener);
    } else if (sys.socketFacts(on.fd).listening) {
      this.#listener = UnixListener.adopt(new Fd(sys, on.fd, 'inherited listener'));
      this.#await(this.#listener);
    } else {
      this.#listener = undefined;
      void this.#serve(UnixSocket.adopt(new Fd(sys, on.fd, 'inherited connection'))).then(() => this.close());
    }
  }

  /** Takes no more clients and ends the one that is there. Settles when everything of it is gone. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#cancelRetry();
      this.#watch?.stop();
      this.#listener?.close();
    }
    await this.#server.close();
    this.#finished();
  }

  /** @throws what `Sys.watch` throws; the listener is closed then. */
  #await(listener: UnixListener): void {
    const { fd } = listener;
    try {
      this.#watch = fd.sys.watch(fd.number, { readable: true }, () => this.#accept(listener));
    } catch (cause) {
      listener.close();
      throw cause;
    }
  }

  /** The next client's turn. Without a way to hear of it there will be none: then this is the end, and `done` says so. */
  #next(listener: UnixListener): void {
    if (this.#closed) return;
    try {
      this.#await(listener);
    } catch (failure) {
      this.#log.warn('no further client can be let in', failure);
      void this.close();
    }
  }

  #accept(listener: UnixListener): void {
    let socket: UnixSocket | undefined;
    try {
      socket = listener.tryAccept();
    } catch (failure) {
      this.#log.warn('a client could not be let in', failure); // EMFILE, or it has gone again: the next one may have more luck
      this.#later(listener);
      return;
    }
    if (socket === undefined) return;
    this.#watch?.stop();
    void this.#serve(socket).then(() => this.#next(listener));
  }

  /** Who cannot be let in now still waits in the queue: he is tried again a little later, instead of all the time. */
  #later(listener: UnixListener): void {
    this.#watch?.stop();
    this.#cancelRetry = this.#clock.after(RETRY, () => this.#next(listener));
  }

  /** Settles when the client is gone. Never rejects. */
  async #serve(socket: UnixSocket): Promise<void> {
    try {
      await this.#server.accept(new SocketTransport(socket, this.#transport)).done;
    } catch (failure) {
      this.#log.warn('a client was turned away', failure);
    }
  }
}
