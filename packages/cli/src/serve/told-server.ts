import { Server, type ServerOptions, type Session, type Transport } from '@pinion/vfio-user';
import type { Output } from '../output.js';

/** A server that says when its client comes and goes. */
export class ToldServer extends Server {
  /** Settles when the first client has come and gone. */
  readonly firstGone: Promise<void>;
  readonly #name: string;
  readonly #output: Output;
  readonly #gone: () => void;
  #clients = 0;

  constructor(output: Output, options: ServerOptions) {
    super(options);
    this.#name = options.device.name;
    this.#output = output;
    let gone = (): void => {};
    this.firstGone = new Promise((resolve) => {
      gone = resolve;
    });
    this.#gone = gone;
  }

  override accept(transport: Transport): Session {
    const session = super.accept(transport);
    this.#clients += 1;
    const client = this.#clients;
    const device = this.#name;
    this.#output.event({ event: 'connected', device, client }, `${device}: client ${client} connected`);
    void session.done.then(() => {
      this.#output.event({ event: 'disconnected', device, client }, `${device}: client ${client} is gone`);
      this.#gone();
    });
    return session;
  }
}
