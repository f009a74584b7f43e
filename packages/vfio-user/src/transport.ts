import type { Fd } from '@pinion/sys';

/** Who hears what a connection brings. No method is called again after `closed`, or after `Transport.close`. */
export interface Receiver {
  /** Bytes as they came, which are the receiver's now, and the descriptors that came with them, which are too. */
  received(bytes: Uint8Array, fds: readonly Fd[]): void;
  /** All that had come was delivered, by one `received` or several: what is to be answered may go. */
  quiet(): void;
  /** Nothing here waits for the event loop: the next message may be awaited without going back to it. Absent: never. */
  idle?(): boolean;
  /** What was sent and waited has all gone. */
  drained(): void;
  /** The peer is gone, or the connection broke: then `cause` says why. */
  closed(cause?: unknown): void;
}

/** A connected stream that carries descriptors: a UNIX socket, or what stands in for one. */
export interface Transport {
  /** Begins to deliver. Called once. */
  start(receiver: Receiver): void;
  /**
   * Sends bytes in order, never waits: what the other side does not take yet is kept. `fds` go with the first byte and stay
   * the caller's, who may close them at once. After the end of the connection nothing happens.
   */
  send(bytes: Uint8Array, fds?: readonly Fd[]): void;
  /** Bytes that are kept. */
  readonly waiting: number;
  /** The receiver is idle again, having been busy when `received` returned: a transport that likes may look for the next message. */
  proceed?(): void;
  /** Nothing is delivered until `resume`; the sender will have to wait some time. */
  pause(): void;
  resume(): void;
  /** Ends the connection; what was not sent is lost. A second call does nothing. */
  close(): void;
}
