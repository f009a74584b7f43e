import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  COMMAND,
  DEFAULT_CAPABILITIES,
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
  encodeWriteMulti,
} from '@pinion/vfio-user';
import fc from 'fast-check';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replace(/\s+/g, ''), 'hex'));
const version = (json: string): Uint8Array => Uint8Array.from([0, 0, 1, 0, ...Buffer.from(json, 'utf8')]);
const XFER = 4096;
const read = (p: Uint8Array): unknown => decodeRegionAccess(COMMAND.REGION_READ, p, false, XFER);
const write = (p: Uint8Array): unknown => decodeRegionAccess(COMMAND.REGION_WRITE, p, true, XFER);
const dmaWrite = (p: Uint8Array): unknown => decodeDmaAccess(COMMAND.DMA_WRITE, p, true, XFER);
const unmap = (p: Uint8Array): unknown => decodeDmaUnmap(p, XFER);
const migRead = (p: Uint8Array): unknown => decodeMigRead(p, XFER);
const migData = (p: Uint8Array): unknown => decodeMigData(COMMAND.MIG_DATA_WRITE, p);

const REGION = '20000000 0f000000 00000000 20000000 0010000000000000 0000000000000000';

type Reject = readonly [what: string, decode: (p: Uint8Array) => unknown, wire: string, name: string];
const REJECTS: readonly Reject[] = [
  ['DMA_MAP one byte short', decodeDmaMap, `20000000 03000000${'00'.repeat(23)}`, 'BAD_SIZE'],
  ['DMA_MAP argsz 31', decodeDmaMap, `1f000000 03000000${'00'.repeat(24)}`, 'BAD_ARGSZ'],
  ['DMA_MAP flag 16', decodeDmaMap, `20000000 10000000${'00'.repeat(24)}`, 'BAD_FLAGS'],
  ['DMA_MAP MMAP and FILE_IO', decodeDmaMap, `20000000 0f000000${'00'.repeat(24)}`, 'BAD_FLAGS'],
  ['DMA_MAP flag 31', decodeDmaMap, `20000000 03000080${'00'.repeat(24)}`, 'BAD_FLAGS'],
  ['DMA_UNMAP short', unmap, '18000000 00000000', 'BAD_SIZE'],
  ['DMA_UNMAP argsz 23', unmap, `17000000 00000000${'00'.repeat(16)}`, 'BAD_ARGSZ'],
  ['DMA_UNMAP flag 4', unmap, `18000000 04000000${'00'.repeat(16)}`, 'BAD_FLAGS'],
  ['DMA_UNMAP ALL with an address', unmap, `18000000 02000000 0010000000000000${'00'.repeat(8)}`, 'BAD_FLAGS'],
  ['DMA_UNMAP ALL with a size', unmap, `18000000 02000000 ${'00'.repeat(8)} 0010000000000000`, 'BAD_FLAGS'],
  ['DMA_UNMAP ALL with a bitmap', unmap, `30000000 03000000${'00'.repeat(32)}`, 'BAD_FLAGS'],
  ['DMA_UNMAP bitmap left out', unmap, `30000000 01000000${'00'.repeat(16)}`, 'BAD_SIZE'],
  ['DMA_UNMAP bitmap of 2^64-1', unmap, `30000000 01000000${'00'.repeat(24)}ffffffffffffffff`, 'TOO_LARGE'],
  ['DMA_UNMAP no room for its bitmap', unmap, `2f000000 01000000${'00'.repeat(24)}0800000000000000`, 'BAD_ARGSZ'],
  ['GET_INFO short', decodeDeviceInfo, '10000000 00000000 00000000', 'BAD_SIZE'],
  ['GET_INFO argsz 15', decodeDeviceInfo, '0f000000 00000000 00000000 00000000', 'BAD_ARGSZ'],
  ['REGION_INFO short', decodeRegionInfoRequest, '20000000', 'BAD_SIZE'],
  ['REGION_INFO argsz 0', decodeRegionInfoRequest, '00'.repeat(32), 'BAD_ARGSZ'],
  ['REGION_INFO reply, argsz of 2 GiB', decodeRegionInfo, `00000080${'00'.repeat(28)}`, 'TOO_LARGE'],
  ['REGION_INFO reply, chain into the fixed part', decodeRegionInfo, REGION.replace('00 20', '00 08'), 'BAD_SIZE'],
  ['REGION_INFO reply, chain out of the reply', decodeRegionInfo, REGION, 'BAD_SIZE'],
  ['REGION_INFO reply, chain onto itself', decodeRegionInfo, `${REGION} 0900 0100 20000000`, 'BAD_SIZE'],
  [
    'REGION_INFO reply, a capability inside another',
    decodeRegionInfo,
    `${REGION} 0100 0100 30000000 01000000 00000000 0200 0100 00000000 ${'00'.repeat(8)}`,
    'BAD_SIZE',
  ],
  ['REGION_INFO reply, 2^32-1 areas', decodeRegionInfo, `${REGION} 0100 0100 00000000 ffffffff 00000000`, 'BAD_SIZE'],
  ['REGION_INFO reply, half a type', decodeRegionInfo, `${REGION} 0200 0100 00000000 ffffffff`, 'BAD_SIZE'],
  ['IO_FDS count in a request', decodeIoFdsRequest, '10000000 00000000 00000000 01000000', 'BAD_FLAGS'],
  ['IO_FDS flags in a request', decodeIoFdsRequest, '10000000 01000000 00000000 00000000', 'BAD_FLAGS'],
  ['IO_FDS argsz', decodeIoFdsRequest, '0f000000 00000000 00000000 00000000', 'BAD_ARGSZ'],
  [
    'IO_FDS reply, entries of no width',
    decodeIoFds,
    `10000000 00000000 00000000 01000000${'00'.repeat(40)}`,
    'BAD_SIZE',
  ],
  ['IO_FDS reply, 2^32-1 entries', decodeIoFds, `38000000 00000000 00000000 ffffffff${'00'.repeat(40)}`, 'BAD_SIZE'],
  ['IO_FDS reply, an entry cut off', decodeIoFds, `38000000 00000000 00000000 01000000${'00'.repeat(39)}`, 'BAD_SIZE'],
  ['IRQ_INFO short', decodeIrqInfo, '10000000', 'BAD_SIZE'],
  ['IRQ_INFO argsz', decodeIrqInfo, '0f000000 00000000 00000000 00000000', 'BAD_ARGSZ'],
  ['SET_IRQS short', decodeSetIrqs, '14000000 24000000 00000000 00000000', 'BAD_SIZE'],
  ['SET_IRQS argsz 19', decodeSetIrqs, '13000000 24000000 00000000 00000000 01000000', 'BAD_ARGSZ'],
  ['SET_IRQS two kinds of data', decodeSetIrqs, '14000000 23000000 00000000 00000000 01000000', 'BAD_FLAGS'],
  ['SET_IRQS two actions', decodeSetIrqs, '14000000 31000000 00000000 00000000 01000000', 'BAD_FLAGS'],
  ['SET_IRQS no action', decodeSetIrqs, '14000000 01000000 00000000 00000000 01000000', 'BAD_FLAGS'],
  ['SET_IRQS no data', decodeSetIrqs, '14000000 20000000 00000000 00000000 01000000', 'BAD_FLAGS'],
  ['SET_IRQS flag 0x40', decodeSetIrqs, '14000000 61000000 00000000 00000000 01000000', 'BAD_FLAGS'],
  ['SET_IRQS too few bytes', decodeSetIrqs, '16000000 22000000 00000000 00000000 03000000 0101', 'BAD_SIZE'],
  ['SET_IRQS 2^32-1 bytes', decodeSetIrqs, '16000000 22000000 00000000 00000000 ffffffff 0101', 'BAD_SIZE'],
  ['SET_IRQS bytes where none belong', decodeSetIrqs, '15000000 21000000 00000000 00000000 01000000 01', 'BAD_SIZE'],
  ['REGION_READ short', read, '0000000000000000 00000000', 'BAD_SIZE'],
  ['REGION_READ with data', read, '0000000000000000 00000000 01000000 aa', 'BAD_SIZE'],
  ['REGION_READ of more than may be', read, '0000000000000000 00000000 01100000', 'TOO_LARGE'],
  ['REGION_READ of 2^32-1', read, '0000000000000000 00000000 ffffffff', 'TOO_LARGE'],
  ['REGION_WRITE with too little data', write, '0000000000000000 00000000 02000000 aa', 'BAD_SIZE'],
  ['REGION_WRITE with too much data', write, '0000000000000000 00000000 01000000 aabb', 'BAD_SIZE'],
  ['DMA_WRITE of 2^64-1', dmaWrite, '0000000000000000 ffffffffffffffff', 'TOO_LARGE'],
  ['DMA_WRITE with too little data', dmaWrite, '0000000000000000 0200000000000000 aa', 'BAD_SIZE'],
  ['WRITE_MULTI short', decodeWriteMulti, '01000000', 'BAD_SIZE'],
  ['WRITE_MULTI of 2^64-1', decodeWriteMulti, `ffffffffffffffff${'00'.repeat(24)}`, 'BAD_SIZE'],
  ['WRITE_MULTI that lies low', decodeWriteMulti, `0000000000000000${'00'.repeat(24)}`, 'BAD_SIZE'],
  ['WRITE_MULTI of no bytes', decodeWriteMulti, `0100000000000000${'00'.repeat(24)}`, 'BAD_ACCESS'],
  [
    'WRITE_MULTI of 9 bytes',
    decodeWriteMulti,
    `0100000000000000${'00'.repeat(12)}09000000${'00'.repeat(8)}`,
    'BAD_ACCESS',
  ],
  ['WRITE_MULTI reply', decodeWriteMultiReply, '01', 'BAD_SIZE'],
  ['FEATURE short', decodeFeature, '08000000', 'BAD_SIZE'],
  ['FEATURE argsz', decodeFeature, '07000000 01000100', 'BAD_ARGSZ'],
  ['FEATURE neither GET nor SET', decodeFeature, '08000000 01000000', 'BAD_FLAGS'],
  ['FEATURE both GET and SET', decodeFeature, '08000000 01000300', 'BAD_FLAGS'],
  ['FEATURE flag of the future', decodeFeature, '08000000 01000900', 'BAD_FLAGS'],
  ['LOGGING of 2^32-1 ranges', decodeLogging, '0010000000000000 ffffffff 00000000', 'BAD_SIZE'],
  ['LOGGING short', decodeLogging, '0010000000000000', 'BAD_SIZE'],
  ['REPORT short', decodeReport, '0010000000000000', 'BAD_SIZE'],
  ['MIG_DATA_READ of more than may be', migRead, '08000000 01100000', 'TOO_LARGE'],
  ['MIG_DATA_READ short', migRead, '08000000', 'BAD_SIZE'],
  ['MIG_DATA_READ argsz', migRead, '07000000 00000000', 'BAD_ARGSZ'],
  ['MIG_DATA_WRITE that promises more', migData, '08000000 02000000 aa', 'BAD_SIZE'],
];

describe('the codec refuses', () => {
  for (const [what, decode, wire, name] of REJECTS) {
    test(what, () => {
      assert.throws(() => decode(bytes(wire)), { name: `VFIOUSER_${name}` });
    });
  }

  test('to encode a small write of none or of nine bytes', () => {
    for (const size of [0, 9]) {
      const writes = [{ offset: 0n, region: 0, data: new Uint8Array(size) }];
      assert.throws(() => encodeWriteMulti(writes), { name: 'VFIOUSER_BAD_ACCESS', errno: 'EINVAL' });
    }
  });

  test('nothing but by an error of ours, whatever the bytes', () => {
    const decoders = REJECTS.map(([, decode]) => decode);
    fc.assert(
      fc.property(fc.constantFrom(...decoders), fc.uint8Array({ maxLength: 96 }), (decode, payload) => {
        try {
          decode(payload);
        } catch (error) {
          assert.match(String(error), /^VFIOUSER_\w+ \((EINVAL|E2BIG)\): /);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

const JSON_REJECTS: readonly (readonly [what: string, json: string, name: string])[] = [
  ['no NUL at the end', '{}', 'BAD_VERSION'],
  ['a NUL in the middle', '{}\0{}\0', 'BAD_VERSION'],
  ['no JSON at all', 'x\0', 'BAD_VERSION'],
  ['an empty string', '\0', 'BAD_VERSION'],
  ['half an object', '{"capabilities":\0', 'BAD_VERSION'],
  ['an array', '[]\0', 'BAD_CAPABILITY'],
  ['null', 'null\0', 'BAD_CAPABILITY'],
  ['a number', '7\0', 'BAD_CAPABILITY'],
  ['capabilities of the wrong type', '{"capabilities":[]}\0', 'BAD_CAPABILITY'],
  ['capabilities null', '{"capabilities":null}\0', 'BAD_CAPABILITY'],
  ['max_msg_fds as text', '{"capabilities":{"max_msg_fds":"8"}}\0', 'BAD_CAPABILITY'],
  ['max_msg_fds negative', '{"capabilities":{"max_msg_fds":-1}}\0', 'BAD_CAPABILITY'],
  ['max_msg_fds broken', '{"capabilities":{"max_msg_fds":1.5}}\0', 'BAD_CAPABILITY'],
  ['max_msg_fds null', '{"capabilities":{"max_msg_fds":null}}\0', 'BAD_CAPABILITY'],
  [
    'max_data_xfer_size 0: no message would ever advance',
    '{"capabilities":{"max_data_xfer_size":0}}\0',
    'BAD_CAPABILITY',
  ],
  ['max_data_xfer_size 1e300', '{"capabilities":{"max_data_xfer_size":1e300}}\0', 'BAD_CAPABILITY'],
  ['max_dma_maps true', '{"capabilities":{"max_dma_maps":true}}\0', 'BAD_CAPABILITY'],
  ['pgsizes 0', '{"capabilities":{"pgsizes":0}}\0', 'BAD_CAPABILITY'],
  ['pgsizes 4097', '{"capabilities":{"pgsizes":4097}}\0', 'BAD_CAPABILITY'],
  ['write_multiple as a number', '{"capabilities":{"write_multiple":1}}\0', 'BAD_CAPABILITY'],
  ['twin_socket as a boolean', '{"capabilities":{"twin_socket":true}}\0', 'BAD_CAPABILITY'],
  ['twin_socket.supported as text', '{"capabilities":{"twin_socket":{"supported":"yes"}}}\0', 'BAD_CAPABILITY'],
  ['twin_socket.fd_index negative', '{"capabilities":{"twin_socket":{"fd_index":-1}}}\0', 'BAD_CAPABILITY'],
  ['migration.pgsize as text', '{"capabilities":{"migration":{"pgsize":"4k"}}}\0', 'BAD_CAPABILITY'],
];

describe('VERSION', () => {
  for (const [what, json, name] of JSON_REJECTS) {
    test(`refuses ${what}`, () => {
      assert.throws(() => decodeVersion(version(json)), { name: `VFIOUSER_${name}`, errno: 'EINVAL' });
    });
  }

  test('refuses bytes that are no UTF-8', () => {
    assert.throws(() => decodeVersion(Uint8Array.of(0, 0, 0, 0, 0xff, 0xfe, 0)), { name: 'VFIOUSER_BAD_VERSION' });
  });

  test('refuses three bytes', () => {
    assert.throws(() => decodeVersion(Uint8Array.of(0, 0, 0)), { name: 'VFIOUSER_BAD_SIZE' });
  });

  const ACCEPTS: readonly (readonly [what: string, json: string, changed: object])[] = [
    ['no JSON', '', {}],
    ['no capabilities', '{}\0', {}],
    ['unknown keys', '{"x":1,"capabilities":{"y":[]}}\0', {}],
    ['a key of every object', '{"capabilities":{"__proto__":{"max_msg_fds":"x"},"constructor":1}}\0', {}],
    ['a claim beyond reason, held to what is possible', '{"capabilities":{"max_msg_fds":99999}}\0', { maxMsgFds: 253 }],
    [
      'what Cloud Hypervisor sends',
      '{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}\0',
      { migration: { pgsize: 4096 } },
    ],
    [
      'a twin socket',
      '{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}\0',
      { twinSocket: { supported: true, fdIndex: 0 } },
    ],
  ];
  for (const [what, json, changed] of ACCEPTS) {
    test(`accepts ${what}`, () => {
      const wanted = { major: 0, minor: 1, capabilities: { ...DEFAULT_CAPABILITIES, ...changed } };
      assert.deepEqual(decodeVersion(version(json)), wanted);
    });
  }
});
