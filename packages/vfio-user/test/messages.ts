import {
  COMMAND,
  encodeDeviceInfo,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeFeature,
  encodeIoFdsRequest,
  encodeIrqInfo,
  encodeLogging,
  encodeMigData,
  encodeMigRead,
  encodeRegionAccess,
  encodeRegionInfoRequest,
  encodeReport,
  encodeSetIrqs,
  encodeVersion,
  encodeWriteMulti,
  FEATURE_STATE,
} from '@pinion/vfio-user';

/** What goes with a message. */
export type Carried = 'none' | 'memory' | 'events';

/** A command of a client that a server takes, with everything right. */
export interface GoodMessage {
  readonly what: string;
  readonly command: number;
  readonly payload: Uint8Array;
  readonly fds: Carried;
}

const none = new Uint8Array(0);
const capabilities = { maxMsgFds: 16, maxDataXferSize: 1 << 20, maxDmaMaps: 9, pgsizes: 4096, writeMultiple: true };
const GET = { get: true, set: false, probe: false };
const SET = { get: false, set: true, probe: false };
const control = encodeLogging({ pageSize: 4096n, ranges: [{ iova: 0n, length: 0x1000n }] });
const asked = encodeReport({ iova: 0n, length: 0x1000n, pageSize: 4096n, bits: none });
const state = FEATURE_STATE.encode({ state: 4, dataFd: 0xffff_ffff });
const events = { index: 2, start: 0, count: 2, data: 'eventfd', action: 'trigger', selected: none } as const;
const chosen = { index: 2, start: 0, count: 2, data: 'bool', action: 'mask', selected: Uint8Array.of(1, 0) } as const;
const bitmap = { pgsize: 4096n, size: 8n };
const small = { region: 0, offset: 0n, data: Uint8Array.of(1) };

const row = (what: string, command: number, payload: Uint8Array, fds: Carried = 'none'): GoodMessage => ({
  what,
  command,
  payload,
  fds,
});

/** Every command of a client, in an order in which each of them succeeds. The page at 0 is mapped before. */
export const MESSAGES: readonly GoodMessage[] = [
  row('VERSION', COMMAND.VERSION, encodeVersion({ major: 0, minor: 0, capabilities })),
  row('DMA_MAP', COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0x100000n, size: 0x1000n }), 'memory'),
  row('GET_INFO', COMMAND.DEVICE_GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })),
  row('REGION_INFO', COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(0, 32)),
  row('REGION_IO_FDS', COMMAND.DEVICE_GET_REGION_IO_FDS, encodeIoFdsRequest(0, 16)),
  row('IRQ_INFO', COMMAND.DEVICE_GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index: 2, count: 0 })),
  row('SET_IRQS with eventfds', COMMAND.DEVICE_SET_IRQS, encodeSetIrqs(events), 'events'),
  row('SET_IRQS with bytes', COMMAND.DEVICE_SET_IRQS, encodeSetIrqs(chosen)),
  row('REGION_READ', COMMAND.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 })),
  row('REGION_WRITE', COMMAND.REGION_WRITE, encodeRegionAccess({ offset: 0n, region: 0, count: 4 }, new Uint8Array(4))),
  row('REGION_WRITE_MULTI', COMMAND.REGION_WRITE_MULTI, encodeWriteMulti([small, small])),
  row('DMA_LOGGING_START', COMMAND.DEVICE_FEATURE, encodeFeature({ ...SET, feature: 6, data: control })),
  row('DMA_LOGGING_REPORT', COMMAND.DEVICE_FEATURE, encodeFeature({ ...GET, feature: 8, argsz: 40, data: asked })),
  row('DMA_UNMAP with a bitmap', COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 1, address: 0n, size: 0x1000n, bitmap })),
  row('DMA_UNMAP', COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0x100000n, size: 0x1000n })),
  row('DMA_UNMAP of all', COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 2, address: 0n, size: 0n })),
  row('MIG_DEVICE_STATE', COMMAND.DEVICE_FEATURE, encodeFeature({ ...SET, feature: 2, data: state })),
  row('MIG_DATA_WRITE', COMMAND.MIG_DATA_WRITE, encodeMigData(Uint8Array.of(1, 2, 3))),
  row(
    'STOP_COPY',
    COMMAND.DEVICE_FEATURE,
    encodeFeature({ ...SET, feature: 2, data: FEATURE_STATE.encode({ state: 3, dataFd: 0 }) }),
  ),
  row('MIG_DATA_READ', COMMAND.MIG_DATA_READ, encodeMigRead(8)),
  row('DEVICE_RESET', COMMAND.DEVICE_RESET, none),
];

/** What follows the fixed part of each message and may be of any length; the shortest payload that is right. */
export const SHORTEST: ReadonlyMap<number, number> = new Map([
  [COMMAND.VERSION, 4],
  [COMMAND.MIG_DATA_WRITE, 11],
]);
