import { commandName, isError, isReply, type ProxyRecord, wantsReply } from '@pinion/vfio-user';
import { failureLine } from '../failure-text.js';
import type { Output } from '../output.js';
import type { Recording } from './recording.js';
import type { RelayOptions } from './relay.js';

/** What passed for one client. */
interface Tally {
  messages: number;
  readonly faults: Map<string, number>;
}

/** A message for people: `to-server REGION_READ 7, 16 bytes`. */
function messageText({ direction, message, fault }: ProxyRecord): string {
  const { command, id, payload, fds } = message;
  const marks = [
    isReply(message) ? ' reply' : '',
    wantsReply(message) ? '' : ' posted',
    isError(message) ? ` error ${message.error}` : '',
    fds === 0 ? '' : `, ${fds} fds`,
    fault === undefined ? '' : ` -> ${fault.kind}`,
  ];
  const [reply = '', posted = '', error = '', files = '', broken = ''] = marks;
  return `${direction} ${commandName(command)} ${id}${reply}${posted}${error}, ${payload.length} bytes${files}${broken}`;
}

/** Tells what passes a relay, and keeps it. */
export class Traffic {
  /** For the relay. */
  readonly listeners: Pick<RelayOptions, 'connected' | 'message' | 'disconnected'>;
  readonly #output: Output;
  readonly #recording: Recording | undefined;
  readonly #tallies = new Map<number, Tally>();

  constructor(output: Output, recording: Recording | undefined) {
    this.#output = output;
    this.#recording = recording;
    this.listeners = {
      connected: (client) => this.#connected(client),
      message: (client, record) => this.#message(client, record),
      disconnected: (client, cause) => this.#disconnected(client, cause),
    };
  }

  #connected(client: number): void {
    this.#tallies.set(client, { messages: 0, faults: new Map() });
    this.#output.event({ event: 'connected', client }, `client ${client} connected`);
  }

  #message(client: number, record: ProxyRecord): void {
    this.#recording?.add(client, record);
    const tally = this.#tallies.get(client);
    if (tally !== undefined) tally.messages += 1;
    const kind = record.fault?.kind;
    if (kind !== undefined) {
      tally?.faults.set(kind, (tally.faults.get(kind) ?? 0) + 1);
      this.#output.event({ event: 'fault', client, ...partsOf(record) }, `client ${client}: ${messageText(record)}`);
    } else if (this.#output.level === 'debug') {
      this.#output.debug({ event: 'message', client, ...partsOf(record) }, `client ${client}: ${messageText(record)}`);
    }
  }

  #disconnected(client: number, cause: unknown): void {
    const { messages = 0, faults = new Map() } = this.#tallies.get(client) ?? {};
    this.#tallies.delete(client);
    const each = [...faults].map(([kind, count]) => `${count} ${kind}`).join(', ');
    const why = cause === undefined ? {} : { cause: failureLine(cause) };
    const text = `client ${client} is gone: ${messages} messages, faults: ${each || 'none'}`;
    const because = cause === undefined ? '' : ` (${failureLine(cause)})`;
    this.#output.event(
      { event: 'disconnected', client, messages, faults: Object.fromEntries(faults), ...why },
      text + because,
    );
  }
}

const partsOf = ({ direction, message, fault }: ProxyRecord): object => ({
  direction,
  command: commandName(message.command),
  id: message.id,
  reply: isReply(message),
  bytes: message.payload.length,
  fds: message.fds,
  ...(fault === undefined ? {} : { fault }),
});
