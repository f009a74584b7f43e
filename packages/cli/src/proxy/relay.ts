import type { Clock, Log } from '@pinion/core';
import { type Sys, UnixListener, UnixSocket, type Watch } from '@pinion/sys';
import { type FaultRule, MessageProxy, type ProxyRecord, SocketTransport } from '@pinion/vfio-user';

export interface RelayOptions {
  readonly sys: Sys;
  readonly clock: Clock;
  readonly log: Log;
  /** Where clients come to. Whoever composes removes the path before and after. */
  readonly listen: string;
  /** Where their server is. */
  readonly upstream: string;
  readonly rules: readonly FaultRule[];
  readonly random: () => number;
  /** Clients are numbered from 1. */
  readonly connected: (client: number) => void;
  readonly message: (client: number, record: ProxyRecord) => void;
  /** `cause`: what ended it, if it was no orderly end. */
  readonly disconnected: (client: number, cause: unknown) => void;
}

/** Milliseconds after which somebody who could not be let in is tried again. */
const RETRY = 100;

/** Stands at a socket: every client that comes gets a connection of its own to the server, with a proxy between. Rules count per connection. */
export class Relay {
  readonly #options: RelayOptions;
  readonly #listener: UnixListener;
  #watch: Watch;
  #resume: () => void = () => {};
  readonly #proxies = new Set<MessageProxy>();
  #clients = 0;

  /** @throws SysError SYS_CALL_FAILED (EADDRINUSE, EACCES ...). */
  constructor(options: RelayOptions) {
    this.#options = options;
    this.#listener = UnixListener.listen(options.sys, options.listen);
    try {
      this.#watch = this.#listen();
    } catch (cause) {
      this.#listener.close();
      throw cause;
    }
  }

  /** Takes no more clients and ends those that are there. */
  async close(): Promise<void> {
    this.#resume();
    this.#watch.stop();
    this.#listener.close();
    const ends = [...this.#proxies].map((proxy) => {
      proxy.close();
      return proxy.done;
    });
    await Promise.all(ends);
  }

  #listen(): Watch {
    const { sys } = this.#options;
    return sys.watch(this.#listener.fd.number, { readable: true }, () => this.#accept());
  }

  /** Who cannot be let in now (EMFILE) still waits in the queue: he is tried again a little later, instead of all the time. */
  #later(): void {
    this.#watch.stop();
    this.#resume = this.#options.clock.after(RETRY, () => {
      try {
        this.#watch = this.#listen();
      } catch (failure) {
        this.#options.log.warn('clients cannot be let in', failure);
        this.#later();
      }
    });
  }

  #accept(): void {
    const client = this.#comesIn();
    if (client === undefined) return;
    const { sys, log, upstream } = this.#options;
    try {
      this.#connect(client, UnixSocket.connect(sys, upstream));
    } catch (failure) {
      client.close();
      log.warn(`a client was turned away, because its server cannot be reached`, failure);
    }
  }

  #comesIn(): UnixSocket | undefined {
    try {
      return this.#listener.tryAccept();
    } catch (failure) {
      this.#options.log.warn('a client could not be let in', failure); // EMFILE, or it has gone again
      this.#later();
      return undefined;
    }
  }

  #connect(client: UnixSocket, server: UnixSocket): void {
    const { clock, rules, random, connected, message, disconnected } = this.#options;
    this.#clients += 1;
    const number = this.#clients;
    const proxy = new MessageProxy({
      client: new SocketTransport(client),
      server: new SocketTransport(server),
      clock,
      rules,
      random,
      record: (record) => message(number, record),
    });
    this.#proxies.add(proxy);
    connected(number);
    void proxy.done.then((cause) => {
      this.#proxies.delete(proxy);
      disconnected(number, cause);
    });
    proxy.start();
  }
}
