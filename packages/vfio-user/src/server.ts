import { type Clock, type Log, silentLog, systemClock } from '@pinion/core';
import { PCI_IRQ } from './commands.js';
import type { DeviceHome } from './device-home.js';
import type { DmaSpace } from './dma-space.js';
import { vfioUserErrors } from './errors.js';
import type { ServedDevice } from './served-device.js';
import { Session, type SessionOptions } from './session.js';
import type { Transport } from './transport.js';

export interface ServerOptions extends Partial<SessionOptions> {
  readonly device: ServedDevice;
  /** The mappings of its VM: configured, or recognised (`VmPool`). */
  readonly space: DmaSpace | DeviceHome;
  readonly clock?: Clock;
  readonly log?: Log;
}

/** Serves one device to one client at a time, one after the other. */
export class Server {
  readonly #options: ServerOptions;
  #session: Session | undefined;
  #closed = false;

  constructor(options: ServerOptions) {
    this.#options = options;
  }

  /** The client that is there. */
  get session(): Session | undefined {
    return this.#session;
  }

  /**
   * Serves a connection; `done` of what this returns settles when it is over, and the next one can come.
   * @throws VFIOUSER_BUSY (EBUSY) while there is a client, VFIOUSER_DISCONNECTED (ENODEV) after `close`; the transport is closed then.
   */
  accept(transport: Transport): Session {
    const { device, space, clock = systemClock, log = silentLog } = this.#options;
    if (this.#closed || this.#session !== undefined) {
      transport.close();
      if (this.#closed) throw vfioUserErrors.DISCONNECTED({ what: `server of ${device.name}` });
      throw vfioUserErrors.BUSY({ device: device.name });
    }
    const session = new Session({ device, space, transport, options: { ...this.#options, clock, log } });
    this.#session = session;
    void session.done.then(() => {
      this.#session = undefined;
    });
    session.start();
    return session;
  }

  /**
   * Somebody wants the device back: the client hears it as the REQ interrupt. Call it on core's `device:requested`.
   * @returns false when no client listens to that.
   */
  request(): boolean {
    return this.#session?.irqs.raise(PCI_IRQ.REQ, 0) ?? false;
  }

  /** Ends the connection, if there is one, and takes no more. Settles when everything of the client's is gone. */
  async close(): Promise<void> {
    this.#closed = true;
    const session = this.#session;
    session?.close();
    await session?.done;
  }
}
