import { createWriteStream, type WriteStream } from 'node:fs';
import { commandName, isError, isReply, type ProxyRecord, wantsReply } from '@pinion/vfio-user';
import { jsonLine } from '../output.js';

/** The first line of a recording. */
const HEAD = { format: 'pinion-vfio-user', version: 1 };

/** A message as a line of a recording has it. */
export function recordLine(connection: number, { time, direction, message, fault }: ProxyRecord): string {
  const { id, command, flags, error, payload, fds } = message;
  return jsonLine({
    connection,
    time: Math.round(time * 1000) / 1000,
    direction,
    id,
    command: commandName(command),
    reply: isReply(message),
    ...(wantsReply(message) ? {} : { posted: true }),
    ...(isError(message) ? { error } : {}),
    flags,
    payload: Buffer.from(payload).toString('hex'),
    ...(fds === 0 ? {} : { fds }),
    ...(fault === undefined ? {} : { fault }),
  });
}

/** A file of messages: JSON, one a line, in the order in which they came. */
export class Recording {
  /** Rejects when the file cannot be written any more. */
  readonly failed: Promise<never>;
  readonly #stream: WriteStream;

  /** Opens the file anew. @throws what opening it throws. */
  static async open(path: string): Promise<Recording> {
    const stream = createWriteStream(path);
    await new Promise<void>((resolve, reject) => stream.once('open', () => resolve()).once('error', reject));
    return new Recording(stream);
  }

  private constructor(stream: WriteStream) {
    this.#stream = stream;
    this.failed = new Promise((_resolve, reject) => stream.once('error', reject));
    this.failed.catch(() => {}); // why: whoever waits for it is told; nobody waits while the command ends
    stream.write(jsonLine(HEAD));
  }

  add(connection: number, record: ProxyRecord): void {
    this.#stream.write(recordLine(connection, record));
  }

  /** Settles when everything is in the file. @throws what writing it threw. */
  async close(): Promise<void> {
    const written = new Promise<void>((resolve) => this.#stream.end(resolve));
    await Promise.race([written, this.failed]);
  }
}
