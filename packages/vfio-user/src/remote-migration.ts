import type { MigrationState } from '@pinion/core';
import type { Client } from './client.js';
import { COMMAND, FEATURE_ID } from './commands.js';
import { bitmapSize } from './dirty-log.js';
import { discard } from './discard.js';
import { decodeDmaUnmap, encodeDmaUnmap } from './dma-messages.js';
import { vfioUserErrors } from './errors.js';
import {
  type DmaLogging,
  type DmaReport,
  decodeMigData,
  decodeReport,
  encodeLogging,
  encodeMigData,
  encodeMigRead,
  encodeReport,
} from './feature-messages.js';
import type { ServedMigration } from './served-device.js';
import { checkExactSize, checkSize } from './sizes.js';
import { BITMAP, DMA_UNMAP, FEATURE, FEATURE_MIGRATION, FEATURE_REPORT, FEATURE_STATE } from './structs.js';

const NOTHING = new Uint8Array(0);
const NO_FD = 0xffff_ffff;

/** Data of a feature, asked for with room for `room` bytes of it. */
async function get(client: Client, feature: number, room: number, data: Uint8Array = NOTHING): Promise<Uint8Array> {
  const argsz = FEATURE.size + room;
  const reply = await client.feature({ feature, get: true, set: false, probe: false, argsz, data });
  checkSize(COMMAND.DEVICE_FEATURE, reply.data, room);
  return reply.data;
}

async function set(client: Client, feature: number, data: Uint8Array): Promise<void> {
  await client.feature({ feature, get: false, set: true, probe: false, data });
}

/** Whether the server has a feature. @throws VFIOUSER_DISCONNECTED (ENODEV), VFIOUSER_TIMEOUT (ETIMEDOUT). */
export async function hasFeature(client: Client, feature: number): Promise<boolean> {
  try {
    await client.feature({ feature, get: false, set: false, probe: true, data: NOTHING });
    return true;
  } catch (cause) {
    if (cause instanceof Error && cause.name === 'VFIOUSER_REFUSED') return false;
    throw cause;
  }
}

/** The migration of a device behind a connection, in the shape that devices have everywhere. Methods throw as those of `Client` do. */
export class RemoteMigration implements ServedMigration {
  readonly flags: number;
  readonly #client: Client;

  private constructor(client: Client, flags: number) {
    this.#client = client;
    this.flags = flags;
  }

  /** @returns undefined for a device that cannot be migrated. */
  static async open(client: Client): Promise<RemoteMigration | undefined> {
    if (!(await hasFeature(client, FEATURE_ID.MIGRATION))) return undefined;
    const { flags } = FEATURE_MIGRATION.read(await get(client, FEATURE_ID.MIGRATION, FEATURE_MIGRATION.size));
    return new RemoteMigration(client, Number(flags));
  }

  async state(): Promise<number> {
    return FEATURE_STATE.read(await get(this.#client, FEATURE_ID.MIG_DEVICE_STATE, FEATURE_STATE.size)).state;
  }

  async enter(state: MigrationState): Promise<void> {
    await set(this.#client, FEATURE_ID.MIG_DEVICE_STATE, FEATURE_STATE.encode({ state, dataFd: NO_FD }));
  }

  /** At most what both sides take in one message. */
  async read(into: Uint8Array): Promise<number> {
    const command = COMMAND.MIG_DATA_READ;
    const room = Math.min(into.length, this.#client.server.maxDataXferSize);
    const reply = await this.#client.call(command, encodeMigRead(room));
    discard(reply.fds);
    const data = decodeMigData(command, reply.payload);
    if (data.length > room) throw vfioUserErrors.TOO_LARGE({ command, count: data.length, max: room });
    into.set(data);
    return data.length;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const most = this.#client.server.maxDataXferSize;
    for (let at = 0; at < bytes.length; at += most) {
      const reply = await this.#client.call(COMMAND.MIG_DATA_WRITE, encodeMigData(bytes.subarray(at, at + most)));
      discard(reply.fds);
    }
  }
}

/** Which pages of its client's memory a device behind a connection wrote. Methods throw as those of `Client` do. */
export class RemoteDirtyLog {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** No ranges: everything. */
  start({ pageSize = 4096n, ranges = [] }: Partial<DmaLogging> = {}): Promise<void> {
    return set(this.#client, FEATURE_ID.DMA_LOGGING_START, encodeLogging({ pageSize, ranges }));
  }

  stop(): Promise<void> {
    return set(this.#client, FEATURE_ID.DMA_LOGGING_STOP, NOTHING);
  }

  /** A bit for each page, LSB first, in whole 64-bit words; read once. */
  async report({ iova, length, pageSize }: Omit<DmaReport, 'bits'>): Promise<Uint8Array> {
    const size = Number(bitmapSize((length + pageSize - 1n) / pageSize));
    const request = encodeReport({ iova, length, pageSize, bits: NOTHING });
    const data = await get(this.#client, FEATURE_ID.DMA_LOGGING_REPORT, FEATURE_REPORT.size + size, request);
    const { bits } = decodeReport(data);
    checkExactSize(COMMAND.DEVICE_FEATURE, bits, size);
    return bits;
  }

  /** Takes a mapping away and says which of its pages were written. */
  async unmap({ address, size }: { address: bigint; size: bigint }, pageSize = 4096n): Promise<Uint8Array> {
    const command = COMMAND.DMA_UNMAP;
    const bitmap = { pgsize: pageSize, size: bitmapSize((size + pageSize - 1n) / pageSize) };
    const reply = await this.#client.call(command, encodeDmaUnmap({ flags: 1, address, size, bitmap }));
    discard(reply.fds);
    const head = DMA_UNMAP.size + BITMAP.size;
    checkExactSize(command, reply.payload, head + Number(bitmap.size));
    decodeDmaUnmap(reply.payload, Number(bitmap.size));
    return reply.payload.subarray(head);
  }
}
