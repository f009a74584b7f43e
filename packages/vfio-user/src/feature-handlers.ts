import { isMigrationState, type MigrationState } from '@pinion/core';
import { COMMAND, FEATURE_ID } from './commands.js';
import { bitmapSize, checkPageSize } from './dirty-log.js';
import { vfioUserErrors } from './errors.js';
import {
  decodeFeature,
  decodeLogging,
  decodeMigData,
  decodeMigRead,
  decodeReport,
  encodeFeature,
  encodeMigData,
  encodeReport,
  type FeatureMessage,
} from './feature-messages.js';
import type { Message } from './message.js';
import type { Reply, Served } from './served.js';
import type { ServedMigration } from './served-device.js';
import { checkArgsz, checkSize } from './sizes.js';
import { FEATURE, FEATURE_MIGRATION, FEATURE_STATE } from './structs.js';

/** Nobody gets a descriptor for the data: it goes by MIG_DATA_READ and MIG_DATA_WRITE. */
const NO_FD = 0xffff_ffff;

interface Feature {
  there(served: Served): boolean;
  /** The data of the reply. */
  get?(served: Served, message: FeatureMessage): Uint8Array | Promise<Uint8Array>;
  set?(served: Served, message: FeatureMessage): void | Promise<void>;
}

const migrates = ({ device }: Served): boolean => device.migration !== undefined;
const logs = ({ home }: Served): boolean => home.dma.dirty.supported;

/** Source: vfio-user specification, "VFIO_USER_DEVICE_FEATURE"; linux/vfio.h. */
const FEATURES: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [FEATURE_ID.MIGRATION, { there: migrates, get: migrationFlags }],
  [FEATURE_ID.MIG_DEVICE_STATE, { there: migrates, get: getState, set: setState }],
  [FEATURE_ID.DMA_LOGGING_START, { there: logs, set: startLogging }],
  [FEATURE_ID.DMA_LOGGING_STOP, { there: logs, set: ({ home, owner }) => home.dma.dirty.stop(owner) }],
  [FEATURE_ID.DMA_LOGGING_REPORT, { there: logs, get: report }],
]);

/** DEVICE_FEATURE. @throws VFIOUSER_NO_FEATURE (ENOTTY), VFIOUSER_BAD_FLAGS, VFIOUSER_BAD_ARGSZ, VFIOUSER_BAD_FEATURE (EINVAL), the device's. */
export async function deviceFeature(served: Served, { payload }: Message): Promise<Reply> {
  const command = COMMAND.DEVICE_FEATURE;
  const message = decodeFeature(payload);
  const { feature: number, get, set, probe } = message;
  const feature = FEATURES.get(number);
  if (feature?.there(served) !== true) throw vfioUserErrors.NO_FEATURE({ feature: number });
  if ((get && feature.get === undefined) || (set && feature.set === undefined)) {
    const problem = `feature ${number} has only ${feature.get === undefined ? 'SET' : 'GET'}`;
    throw vfioUserErrors.BAD_FLAGS({ command, flags: number, problem });
  }
  if (probe) return { payload };
  if (set) {
    await feature.set?.(served, message);
    return { payload };
  }
  const data = (await feature.get?.(served, message)) ?? new Uint8Array(0);
  checkArgsz(command, message.argsz, FEATURE.size + data.length);
  return { payload: encodeFeature({ feature: number, get, set, probe, data }) };
}

function migrationOf({ device }: Served): ServedMigration {
  if (device.migration === undefined) throw vfioUserErrors.NO_FEATURE({ feature: FEATURE_ID.MIGRATION });
  return device.migration;
}

function migrationFlags(served: Served): Uint8Array {
  return FEATURE_MIGRATION.encode({ flags: BigInt(migrationOf(served).flags) });
}

async function getState(served: Served): Promise<Uint8Array> {
  return FEATURE_STATE.encode({ state: await migrationOf(served).state(), dataFd: NO_FD });
}

function setState(served: Served, { data }: FeatureMessage): void | Promise<void> {
  checkSize(COMMAND.DEVICE_FEATURE, data, FEATURE_STATE.size);
  const { state } = FEATURE_STATE.read(data);
  return migrationOf(served).enter(checkState(state));
}

/** @throws VFIOUSER_BAD_FEATURE (EINVAL). */
export function checkState(state: number): MigrationState {
  if (isMigrationState(state)) return state;
  throw vfioUserErrors.BAD_FEATURE({ what: 'the migration state', problem: `${state} is none that is known here` });
}

function startLogging({ home, owner }: Served, { data }: FeatureMessage): void {
  home.dma.dirty.start(owner, decodeLogging(data));
}

function report({ home, owner, dma }: Served, { argsz, data }: FeatureMessage): Uint8Array {
  const command = COMMAND.DEVICE_FEATURE;
  const request = decodeReport(data);
  const { iova, length, pageSize } = request;
  checkPageSize(pageSize);
  const size = bitmapSize((length + pageSize - 1n) / pageSize);
  if (size > BigInt(dma.maxBytes)) throw vfioUserErrors.TOO_LARGE({ command, count: size, max: dma.maxBytes });
  checkArgsz(
    command,
    argsz,
    FEATURE.size + encodeReport({ iova, length, pageSize, bits: NOTHING }).length + Number(size),
  );
  return encodeReport({ iova, length, pageSize, bits: home.dma.dirty.report(owner, request) });
}

const NOTHING = new Uint8Array(0);

/** MIG_DATA_READ: fewer bytes than asked for are the last ones. @throws VFIOUSER_NO_FEATURE (ENOTTY), the codec's, the device's. */
export async function readMigration(served: Served, { payload }: Message): Promise<Reply> {
  const bytes = new Uint8Array(decodeMigRead(payload, served.dma.maxBytes));
  const migration = migrationOf(served);
  let done = 0;
  for (let count = -1; count !== 0 && done < bytes.length; done += count) {
    count = await migration.read(bytes.subarray(done));
  }
  return { payload: encodeMigData(bytes.subarray(0, done)) };
}

/** MIG_DATA_WRITE. @throws as `readMigration`. */
export async function writeMigration(served: Served, { payload }: Message): Promise<Reply> {
  const data = decodeMigData(COMMAND.MIG_DATA_WRITE, payload);
  await migrationOf(served).write(data);
  return { payload: NOTHING };
}
