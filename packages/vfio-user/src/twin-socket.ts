import { Fd, type Sys, UnixSocket } from '@pinion/sys';
import { discard } from './discard.js';
import { Framer, MESSAGE_OVERHEAD } from './framer.js';
import type { Message } from './message.js';
import { Outbox } from './outbox.js';
import { SocketTransport } from './socket-transport.js';
import type { Transport } from './transport.js';

/** Who hears what comes over a twin socket. */
interface TwinReceiver {
  message(message: Message): void;
  /** What was sent and waited has all gone. */
  drained?(): void;
  closed(cause?: unknown): void;
}

/** The most data in one message either way. */
const MAX_BYTES = 1 << 20;

/**
 * The second socket of a connection: the server's commands and their replies, nothing else, so that the two directions
 * do not mix. Source: vfio-user specification, "twin_socket".
 */
export class TwinSocket {
  readonly outbox: Outbox;
  readonly transport: Transport;
  readonly #framer = new Framer<Fd>(MAX_BYTES + MESSAGE_OVERHEAD, discard);
  #open = true;

  private constructor(transport: Transport, receiver: TwinReceiver) {
    this.transport = transport;
    this.outbox = new Outbox(transport);
    transport.start({
      received: (bytes, fds) => {
        try {
          this.#framer.push(bytes, fds, (message) => this.#deliver(message, receiver));
        } catch (cause) {
          receiver.closed(cause);
        }
      },
      quiet: () => {},
      drained: () => receiver.drained?.(),
      closed: (cause) => receiver.closed(cause),
    });
  }

  /** The server's side: makes both ends. `theirs` is the caller's, to be sent. @throws SysError SYS_CALL_FAILED (EMFILE). */
  static open(sys: Sys, receiver: TwinReceiver): { readonly twin: TwinSocket; readonly theirs: Fd } {
    const [ours, theirs] = sys.socketPair();
    const fd = new Fd(sys, theirs, 'twin socket of the client');
    const socket = new UnixSocket(new Fd(sys, ours, 'twin socket'));
    return { twin: new TwinSocket(new SocketTransport(socket), receiver), theirs: fd };
  }

  /** The client's side: takes what came. @throws SysError SYS_BAD_ARGUMENT (EINVAL) if it is no socket; the fd stays the caller's then. */
  static adopt(fd: Fd, receiver: TwinReceiver): TwinSocket {
    return new TwinSocket(new SocketTransport(UnixSocket.adopt(fd)), receiver);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#framer.close();
    this.transport.close();
  }

  #deliver(message: Message, receiver: TwinReceiver): void {
    if (this.#open) receiver.message(message);
    else discard(message.fds);
  }
}
