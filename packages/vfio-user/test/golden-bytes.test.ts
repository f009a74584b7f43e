// Every message of the protocol as bytes, written by hand from the tables of the vfio-user specification.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  COMMAND,
  decodeDeviceInfo,
  decodeDmaAccess,
  decodeDmaMap,
  decodeDmaUnmap,
  decodeFeature,
  decodeIoFds,
  decodeIoFdsRequest,
  decodeIrqInfo,
  decodeLogging,
  decodeMigData,
  decodeMigRead,
  decodeRegionAccess,
  decodeRegionInfo,
  decodeRegionInfoRequest,
  decodeReport,
  decodeSetIrqs,
  decodeVersion,
  decodeWriteMulti,
  decodeWriteMultiReply,
  encodeDeviceInfo,
  encodeDmaAccess,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeFeature,
  encodeIoFds,
  encodeIoFdsRequest,
  encodeIrqInfo,
  encodeLogging,
  encodeMessage,
  encodeMigData,
  encodeMigRead,
  encodeRegionAccess,
  encodeRegionInfo,
  encodeRegionInfoRequest,
  encodeReport,
  encodeSetIrqs,
  encodeVersion,
  encodeWriteMulti,
  encodeWriteMultiReply,
  FEATURE_STATE,
  Framer,
  type Message,
} from '@pinion/vfio-user';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replace(/\s+/g, ''), 'hex'));
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');
const text = (ascii: string): string => Buffer.from(ascii, 'latin1').toString('hex');
const XFER = 1 << 20;
const none = new Uint8Array(0);

interface Golden {
  readonly what: string;
  readonly wire: string;
  readonly encode: () => Uint8Array;
  readonly decode: (payload: Uint8Array) => unknown;
  readonly value: unknown;
}

const sparse = {
  index: 2,
  flags: 7,
  size: 0x4000n,
  offset: 0x10000n,
  areas: [
    { offset: 0n, size: 0x1000n },
    { offset: 0x3000n, size: 0x1000n },
  ],
};
const typed = { index: 9, flags: 3, size: 0x100n, offset: 0n, type: { type: 0x80008086, subtype: 1 } };
const ioFd = { offset: 0x40n, size: 4n, fdIndex: 1, type: 0, flags: 1, data: 0x1122334455667788n };
const intx = { index: 0, start: 0, count: 1, data: 'eventfd', action: 'trigger', selected: none } as const;

const GOLDEN: readonly Golden[] = [
  {
    what: 'DMA_MAP: argsz, flags, offset, address, size',
    wire: '20000000 03000000 0010000000000000 000000c000000000 0000004000000000',
    encode: () => encodeDmaMap({ flags: 3, offset: 0x1000n, address: 0xc0000000n, size: 0x40000000n }),
    decode: decodeDmaMap,
    value: { argsz: 32, flags: 3, offset: 0x1000n, address: 0xc0000000n, size: 0x40000000n },
  },
  {
    what: 'DMA_UNMAP: argsz, flags, address, size',
    wire: '18000000 00000000 00f0ffffffffffff 0010000000000000',
    encode: () => encodeDmaUnmap({ flags: 0, address: 0xfffffffffffff000n, size: 0x1000n }),
    decode: (p) => decodeDmaUnmap(p, XFER),
    value: { argsz: 24, flags: 0, address: 0xfffffffffffff000n, size: 0x1000n },
  },
  {
    what: 'DMA_UNMAP that unmaps all',
    wire: '18000000 02000000 0000000000000000 0000000000000000',
    encode: () => encodeDmaUnmap({ flags: 2, address: 0n, size: 0n }),
    decode: (p) => decodeDmaUnmap(p, XFER),
    value: { argsz: 24, flags: 2, address: 0n, size: 0n },
  },
  {
    what: 'DMA_UNMAP with a bitmap of 8 bytes',
    wire: '30000000 01000000 0000010000000000 0000040000000000 0010000000000000 0800000000000000',
    encode: () =>
      encodeDmaUnmap({ flags: 1, address: 0x10000n, size: 0x40000n, bitmap: { pgsize: 0x1000n, size: 8n } }),
    decode: (p) => decodeDmaUnmap(p, XFER),
    value: { argsz: 48, flags: 1, address: 0x10000n, size: 0x40000n, bitmap: { pgsize: 0x1000n, size: 8n } },
  },
  {
    what: 'DEVICE_GET_INFO: argsz, flags, regions, interrupt indices',
    wire: '10000000 03000000 09000000 05000000',
    encode: () => encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }),
    decode: decodeDeviceInfo,
    value: { argsz: 16, flags: 3, regions: 9, irqs: 5 },
  },
  {
    what: 'DEVICE_GET_REGION_INFO, request',
    wire: '20000000 00000000 07000000 00000000 0000000000000000 0000000000000000',
    encode: () => encodeRegionInfoRequest(7, 32),
    decode: decodeRegionInfoRequest,
    value: { index: 7, argsz: 32 },
  },
  {
    what: 'DEVICE_GET_REGION_INFO, reply without capabilities',
    wire: '20000000 03000000 07000000 00000000 0001000000000000 0000000000000000',
    encode: () => encodeRegionInfo({ index: 7, flags: 3, size: 256n, offset: 0n }, 32).bytes,
    decode: decodeRegionInfo,
    value: { argsz: 32, index: 7, flags: 3, size: 256n, offset: 0n },
  },
  {
    what: 'DEVICE_GET_REGION_INFO, reply with two areas: header, id 1 version 1 next 0, count, areas',
    wire: `50000000 0f000000 02000000 20000000 0040000000000000 0000010000000000
      0100 0100 00000000 02000000 00000000 0000000000000000 0010000000000000 0030000000000000 0010000000000000`,
    encode: () => encodeRegionInfo(sparse, 80).bytes,
    decode: decodeRegionInfo,
    value: { argsz: 80, ...sparse },
  },
  {
    what: 'DEVICE_GET_REGION_INFO, reply to a client without room for them',
    wire: '50000000 07000000 02000000 00000000 0040000000000000 0000010000000000',
    encode: () => encodeRegionInfo(sparse, 79).bytes,
    decode: decodeRegionInfo,
    value: { argsz: 80, index: 2, flags: 7, size: 0x4000n, offset: 0x10000n },
  },
  {
    what: 'DEVICE_GET_REGION_INFO, reply with a type',
    wire: '30000000 0b000000 09000000 20000000 0001000000000000 0000000000000000 0200 0100 00000000 86800080 01000000',
    encode: () => encodeRegionInfo(typed, 64).bytes,
    decode: decodeRegionInfo,
    value: { argsz: 48, ...typed },
  },
  {
    what: 'DEVICE_GET_REGION_IO_FDS, request',
    wire: '38000000 00000000 02000000 00000000',
    encode: () => encodeIoFdsRequest(2, 56),
    decode: decodeIoFdsRequest,
    value: { index: 2, argsz: 56 },
  },
  {
    what: 'DEVICE_GET_REGION_IO_FDS, reply: offset, size, fd index, type, flags, padding, datamatch',
    wire: `38000000 00000000 02000000 01000000
      4000000000000000 0400000000000000 01000000 00000000 01000000 00000000 8877665544332211`,
    encode: () => encodeIoFds(2, [ioFd], 56).bytes,
    decode: decodeIoFds,
    value: { argsz: 56, count: 1, fds: [ioFd] },
  },
  {
    what: 'DEVICE_GET_REGION_IO_FDS, reply to a client without room',
    wire: '38000000 00000000 02000000 01000000',
    encode: () => encodeIoFds(2, [ioFd], 55).bytes,
    decode: decodeIoFds,
    value: { argsz: 56, count: 1, fds: [] },
  },
  {
    what: 'DEVICE_GET_IRQ_INFO',
    wire: '10000000 07000000 00000000 01000000',
    encode: () => encodeIrqInfo({ flags: 7, index: 0, count: 1 }),
    decode: decodeIrqInfo,
    value: { argsz: 16, flags: 7, index: 0, count: 1 },
  },
  {
    what: 'DEVICE_SET_IRQS, eventfd trigger of INTx',
    wire: '14000000 24000000 00000000 00000000 01000000',
    encode: () => encodeSetIrqs(intx),
    decode: decodeSetIrqs,
    value: intx,
  },
  {
    what: 'DEVICE_SET_IRQS, some of four MSI-X vectors from 2, unmasked by bytes',
    wire: '18000000 12000000 02000000 02000000 04000000 01000001',
    encode: () =>
      encodeSetIrqs({ index: 2, start: 2, count: 4, data: 'bool', action: 'unmask', selected: bytes('01000001') }),
    decode: decodeSetIrqs,
    value: { index: 2, start: 2, count: 4, data: 'bool', action: 'unmask', selected: bytes('01000001') },
  },
  {
    what: 'REGION_READ, request: offset, region, count',
    wire: '1000000000000000 00000000 04000000',
    encode: () => encodeRegionAccess({ offset: 0x10n, region: 0, count: 4 }),
    decode: (p) => decodeRegionAccess(COMMAND.REGION_READ, p, false, XFER),
    value: { offset: 0x10n, region: 0, count: 4, data: none },
  },
  {
    what: 'REGION_WRITE, request with its data',
    wire: '0400000000000000 07000000 02000000 0601',
    encode: () => encodeRegionAccess({ offset: 4n, region: 7, count: 2 }, bytes('0601')),
    decode: (p) => decodeRegionAccess(COMMAND.REGION_WRITE, p, true, XFER),
    value: { offset: 4n, region: 7, count: 2, data: bytes('0601') },
  },
  {
    what: 'DMA_READ, request: address, count of 8 bytes',
    wire: '0010000000000000 1000000000000000',
    encode: () => encodeDmaAccess(0x1000n, 16),
    decode: (p) => decodeDmaAccess(COMMAND.DMA_READ, p, false, XFER),
    value: { address: 0x1000n, count: 16n, data: none },
  },
  {
    what: 'DMA_WRITE, request with its data',
    wire: '0010000000000000 0300000000000000 aabbcc',
    encode: () => encodeDmaAccess(0x1000n, 3, bytes('aabbcc')),
    decode: (p) => decodeDmaAccess(COMMAND.DMA_WRITE, p, true, XFER),
    value: { address: 0x1000n, count: 3n, data: bytes('aabbcc') },
  },
  {
    what: 'REGION_WRITE_MULTI: count, then offset, region, count and 8 bytes of data each',
    wire: `0200000000000000
      0010000000000000 00000000 04000000 7856341200000000 0410000000000000 00000000 08000000 0102030405060708`,
    encode: () =>
      encodeWriteMulti([
        { offset: 0x1000n, region: 0, data: bytes('78563412') },
        { offset: 0x1004n, region: 0, data: bytes('0102030405060708') },
      ]),
    decode: decodeWriteMulti,
    value: [
      { offset: 0x1000n, region: 0, data: bytes('78563412') },
      { offset: 0x1004n, region: 0, data: bytes('0102030405060708') },
    ],
  },
  {
    what: 'REGION_WRITE_MULTI, reply',
    wire: '0200000000000000',
    encode: () => encodeWriteMultiReply(2),
    decode: decodeWriteMultiReply,
    value: 2n,
  },
  {
    what: 'DEVICE_FEATURE, GET MIGRATION with room for 8 bytes',
    wire: '10000000 01000100',
    encode: () => encodeFeature({ argsz: 16, feature: 1, get: true, set: false, probe: false, data: none }),
    decode: decodeFeature,
    value: { argsz: 16, feature: 1, get: true, set: false, probe: false, data: none },
  },
  {
    what: 'DEVICE_FEATURE, SET MIG_DEVICE_STATE RUNNING',
    wire: '10000000 02000200 02000000 ffffffff',
    encode: () =>
      encodeFeature({
        feature: 2,
        get: false,
        set: true,
        probe: false,
        data: FEATURE_STATE.encode({ state: 2, dataFd: 0xffffffff }),
      }),
    decode: decodeFeature,
    value: { argsz: 16, feature: 2, get: false, set: true, probe: false, data: bytes('02000000ffffffff') },
  },
  {
    what: 'data of DMA_LOGGING_START with one range',
    wire: '0010000000000000 01000000 00000000 0000100000000000 0000020000000000',
    encode: () => encodeLogging({ pageSize: 4096n, ranges: [{ iova: 0x100000n, length: 0x20000n }] }),
    decode: decodeLogging,
    value: { pageSize: 4096n, ranges: [{ iova: 0x100000n, length: 0x20000n }] },
  },
  {
    what: 'data of DMA_LOGGING_REPORT, reply',
    wire: '0000100000000000 0000020000000000 0010000000000000 0500000000000000',
    encode: () => encodeReport({ iova: 0x100000n, length: 0x20000n, pageSize: 4096n, bits: bytes('0500000000000000') }),
    decode: decodeReport,
    value: { iova: 0x100000n, length: 0x20000n, pageSize: 4096n, bits: bytes('0500000000000000') },
  },
  {
    what: 'MIG_DATA_READ, request',
    wire: '08100000 00100000',
    encode: () => encodeMigRead(4096),
    decode: (p) => decodeMigRead(p, XFER),
    value: 4096,
  },
  {
    what: 'MIG_DATA_WRITE',
    wire: '0b000000 03000000 010203',
    encode: () => encodeMigData(bytes('010203')),
    decode: (p) => decodeMigData(COMMAND.MIG_DATA_WRITE, p),
    value: bytes('010203'),
  },
  {
    what: 'VERSION with the capabilities of QEMU',
    wire: `0000 0000 ${text(
      '{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535,"pgsizes":4096,' +
        '"write_multiple":true,"migration":{"pgsize":4096,"max_bitmap_size":268435456}}}\0',
    )}`,
    encode: () => encodeVersion({ major: 0, minor: 0, capabilities: QEMU }),
    decode: decodeVersion,
    value: { major: 0, minor: 0, capabilities: undefined },
  },
];

const QEMU = {
  maxMsgFds: 16,
  maxDataXferSize: 1048576,
  maxDmaMaps: 65535,
  pgsizes: 4096,
  writeMultiple: true,
  migration: { pgsize: 4096, maxBitmapSize: 268435456 },
};

describe('golden bytes', () => {
  for (const { what, wire, encode, decode, value } of GOLDEN) {
    test(`${what}`, () => {
      assert.equal(hex(encode()), hex(bytes(wire)));
      const wanted = what.startsWith('VERSION') ? { major: 0, minor: 0, capabilities: QEMU } : value;
      assert.deepEqual(decode(bytes(wire)), wanted);
    });
  }

  test('the header: id, command, size, flags, error', () => {
    const wire = '3412 0900 14000000 21000000 16000000 deadbeef';
    const message = { id: 0x1234, command: COMMAND.REGION_READ, flags: 0x21, error: 22, payload: bytes('deadbeef') };
    assert.equal(hex(encodeMessage(message)), hex(bytes(wire)));
    const got: Message<number>[] = [];
    new Framer<number>(64, () => assert.fail()).push(bytes(wire), [], (each) => got.push(each));
    assert.deepEqual(got, [{ ...message, fds: [] }]);
  });

  test('the bytes that QEMU 11.1.3 sends first', () => {
    const json =
      '{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, ' +
      '"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}\0';
    const payload = bytes(`0000 0000 ${text(json)}`);
    assert.equal(payload.length + 16, 214);
    assert.deepEqual(decodeVersion(payload), { major: 0, minor: 0, capabilities: QEMU });
  });

  test('the wide entries of libvfio-user: shadow fields before the datamatch', () => {
    const wire = `40000000 00000000 02000000 01000000
      4000000000000000 0400000000000000 01000000 00000000 01000000 ffffffff 2000000000000000 8877665544332211`;
    assert.deepEqual(decodeIoFds(bytes(wire)), { argsz: 64, count: 1, fds: [ioFd] });
  });
});
