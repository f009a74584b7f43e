import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CCW_FLAG,
  ECKD_COMMAND as CMD,
  decodeTrack,
  ECKD_PERMISSION,
  EckdDisk,
  type EckdLocate,
  encodeEckdExtent,
  encodeEckdLocate,
  memoryImage,
  ECKD_OPERATION as OP,
  ORIENTATION,
  openHerculesVolume,
  TRACK_SIZE_3390,
} from '@pinion/ccw';
import { ckd, extent, herculesBytes, locate, runSteps, type Step } from './eckd-volume.js';
import { FakeGuest } from './fake-guest.js';
import { openSubchannel, type Subchannel } from './subchannel.js';

const CYLINDERS = 2;
const text = (words: string): Uint8Array => new TextEncoder().encode(words);
const shown = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes).replaceAll('\0', '.');
const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
const joined = (...pieces: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(pieces));
const END = new Uint8Array(8).fill(0xff);

async function opened(): Promise<Subchannel & { bytes: Uint8Array }> {
  const bytes = herculesBytes(CYLINDERS);
  const disk = new EckdDisk(await openHerculesVolume(memoryImage(bytes)));
  return { ...openSubchannel(disk, {}, new FakeGuest(0x10000, 512)), bytes };
}

/** The records of a track as the image has them, R0 left out: number, key and data. */
function stored(bytes: Uint8Array, head: number, cylinder = 0): [number, string, string][] {
  const at = 512 + (cylinder * 15 + head) * TRACK_SIZE_3390;
  return decodeTrack(bytes.subarray(at, at + TRACK_SIZE_3390), { cylinder, head })
    .slice(1)
    .map(({ number, key, data }) => [number, shown(key), shown(data)]);
}

type Where = Pick<EckdLocate, 'operation' | 'count' | 'record'> & Partial<EckdLocate>;
const parameters = (where: Where): Uint8Array => {
  const seek = where.seek ?? { cylinder: 0, head: 0 };
  const plain = encodeEckdLocate({ orientation: 0, search: seek, ...where, seek });
  return plain.length > 16 ? plain : joined(plain, new Uint8Array(4));
};
const extended = (where: Where): Step => [CMD.LOCATE_RECORD_EXTENDED, parameters(where)];

/** A prefix over the whole volume; `changes`: bytes by position. */
function prefix(where: Where | undefined, changes: Readonly<Record<number, number>> = {}, permission = 0): Uint8Array {
  const head = new Uint8Array(12);
  head.set([where === undefined ? 0 : 1, 0x80]);
  const end = { cylinder: CYLINDERS - 1, head: 14 };
  const place = encodeEckdExtent({ permission, begin: { cylinder: 0, head: 0 }, end });
  const bytes = joined(head, place, new Uint8Array(16), where === undefined ? new Uint8Array(20) : parameters(where));
  for (const [at, value] of Object.entries(changes)) bytes[Number(at)] = value;
  return bytes;
}

const record = (head: number, number: number, data: string): Uint8Array =>
  ckd({ cylinder: 0, head, number, data: text(data) });
const trackImage = (head: number, ...data: readonly string[]): Uint8Array =>
  joined(
    ckd({ cylinder: 0, head, number: 0, data: new Uint8Array(8) }),
    ...data.map((one, index) => record(head, index + 1, one)),
    END,
  );

test('a locate record extended formats, updates and reads as the plain one does, in 20 bytes', async () => {
  const { guest, device, bytes } = await opened();
  const made = await runSteps(guest, device, [
    extent(CYLINDERS),
    extended({ operation: OP.FORMAT, count: 2, record: 0 }),
    [CMD.WRITE_CKD, record(0, 1, 'one')],
    [CMD.WRITE_CKD, record(0, 2, 'two')],
  ]);
  assert.equal(made.irb.deviceStatus, 0x0c);
  const changed = await runSteps(guest, device, [
    extent(CYLINDERS, ECKD_PERMISSION.UPDATE),
    extended({ operation: OP.WRITE_RECORDS, count: 2, record: 1, suffix: true }),
    [0x85, text('ONE')],
    [0x92, 8],
  ]);
  assert.deepEqual([changed.irb.deviceStatus, hex(changed.reads[3])], [0x0c, '0000000002000003'], 'suffix');
  assert.deepEqual(stored(bytes, 0), [
    [1, '', 'ONE'],
    [2, '', 'two'],
  ]);
  const read = await runSteps(guest, device, [
    extent(CYLINDERS),
    extended({ operation: OP.READ_RECORDS, count: 2, record: 1 }),
    [CMD.READ_DATA, 3],
    [CMD.READ_CKD, 11],
  ]);
  assert.deepEqual([shown(read.reads[2]), shown(read.reads[3]?.subarray(8))], ['ONE', 'two']);
  assert.equal(guest.pinned, 0);
});

test('write full track makes the tracks of a map, and no others; read track reads them the same way', async () => {
  const { guest, device, bytes } = await opened();
  const tracks = [true, false, true];
  const where = { count: 2, record: 0, seek: { cylinder: 0, head: 3 }, tracks };
  const written = await runSteps(guest, device, [
    extent(CYLINDERS),
    extended({ operation: OP.WRITE_TRACKSET, ...where }),
    [CMD.WRITE_FULL_TRACK, trackImage(3, 'alpha', 'beta')],
    [CMD.WRITE_FULL_TRACK, trackImage(5, 'gamma')],
  ]);
  assert.deepEqual([written.irb.deviceStatus, written.irb.channelStatus], [0x0c, 0]);
  assert.deepEqual(
    [3, 4, 5].map((head) => stored(bytes, head)),
    [
      [
        [1, '', 'alpha'],
        [2, '', 'beta'],
      ],
      [],
      [[1, '', 'gamma']],
    ],
  );
  const read = await runSteps(guest, device, [
    extent(CYLINDERS),
    extended({ operation: OP.READ_TRACKSET, ...where }),
    [CMD.READ_TRACK, trackImage(3, 'alpha', 'beta').length],
    [CMD.READ_TRACK, trackImage(5, 'gamma').length],
  ]);
  assert.deepEqual(read.reads.slice(2).map(hex), [trackImage(3, 'alpha', 'beta'), trackImage(5, 'gamma')].map(hex));
});

test('write and read track data move the data of whole tracks by one command, from the located record on', async () => {
  const { guest, device, bytes } = await opened();
  await runSteps(guest, device, [
    extent(CYLINDERS),
    extended({ operation: OP.WRITE_TRACKSET, count: 2, record: 0, tracks: [true, true] }),
    [CMD.WRITE_FULL_TRACK, trackImage(0, 'aaaa', 'bbbb')],
    [CMD.WRITE_FULL_TRACK, trackImage(1, 'cccc')],
  ]);
  const written = await runSteps(guest, device, [
    extent(CYLINDERS, ECKD_PERMISSION.UPDATE),
    extended({ operation: OP.WRITE_TRACK_DATA, count: 2, record: 2 }),
    [CMD.WRITE_TRACK_DATA, text('BBBBCCCC')],
  ]);
  assert.equal(written.irb.deviceStatus, 0x0c);
  assert.deepEqual(
    [stored(bytes, 0), stored(bytes, 1)],
    [
      [
        [1, '', 'aaaa'],
        [2, '', 'BBBB'],
      ],
      [[1, '', 'CCCC']],
    ],
  );
  const read = await runSteps(guest, device, [
    [CMD.PREFIX_READ, prefix({ operation: OP.READ_TRACKS, count: 2, record: 1 })],
    [CMD.READ_TRACK_DATA, 12],
  ]);
  assert.deepEqual([read.irb.deviceStatus, shown(read.reads[1])], [0x0c, 'aaaaBBBBCCCC']);
});

test('write CKD next track formats the first record of the following track', async () => {
  const { guest, device, bytes } = await opened();
  const { irb } = await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.FORMAT, count: 2, record: 0, seek: { cylinder: 0, head: 14 } }),
    [CMD.WRITE_CKD, record(14, 1, 'last head')],
    [0x9d, ckd({ cylinder: 1, head: 0, number: 1, data: text('next cylinder') })],
  ]);
  assert.equal(irb.deviceStatus, 0x0c);
  assert.deepEqual([stored(bytes, 14), stored(bytes, 0, 1)], [[[1, '', 'last head']], [[1, '', 'next cylinder']]]);
});

test('home address and R0 are written and read where the locate orients to them; the track is empty then', async () => {
  const { guest, device, bytes } = await opened();
  await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.FORMAT, count: 1, record: 0 }),
    [CMD.WRITE_CKD, record(0, 1, 'goes')],
  ]);
  const home = await runSteps(guest, device, [
    extent(CYLINDERS, ECKD_PERMISSION.ALL),
    locate({ operation: OP.FORMAT, count: 1, record: 0, orientation: ORIENTATION.INDEX }),
    [CMD.WRITE_HOME_ADDRESS, Uint8Array.of(0, 0, 0, 0, 0)],
  ]);
  assert.deepEqual([home.irb.deviceStatus, stored(bytes, 0)], [0x0c, []]);
  const zero = await runSteps(guest, device, [
    extent(CYLINDERS, ECKD_PERMISSION.ALL),
    locate({ operation: OP.FORMAT, count: 1, record: 0, orientation: ORIENTATION.HOME_ADDRESS }),
    [CMD.WRITE_R0, joined(ckd({ cylinder: 0, head: 0, number: 0, data: text('RZERO!!!') }))],
  ]);
  assert.equal(zero.irb.deviceStatus, 0x0c);
  const read = await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.READ_ANY, count: 2, record: 0, orientation: ORIENTATION.INDEX }),
    [CMD.READ_HOME_ADDRESS_ECKD, 5],
    [CMD.READ_R0, 16],
  ]);
  assert.deepEqual([hex(read.reads[2]), shown(read.reads[3]?.subarray(8))], ['0000000000', 'RZERO!!!']);
});

test('erase drops everything behind the record of its domain', async () => {
  const { guest, device, bytes } = await opened();
  await runSteps(guest, device, [
    extent(CYLINDERS),
    extended({ operation: OP.WRITE_TRACKSET, count: 1, record: 0, tracks: [true] }),
    [CMD.WRITE_FULL_TRACK, trackImage(0, 'stays', 'goes', 'goes too')],
  ]);
  const { irb } = await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.WRITE_TRACK, count: 1, record: 1 }),
    [CMD.ERASE, new Uint8Array(8)],
  ]);
  assert.deepEqual([irb.deviceStatus, stored(bytes, 0)], [0x0c, [[1, '', 'stays']]]);
});

test('a locate that only orients lets a read go on without a domain', async () => {
  const { guest, device } = await opened();
  const { irb, reads } = await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.ORIENT, count: 0, record: 0 }),
    [CMD.READ_DATA, 8],
  ]);
  assert.deepEqual([irb.deviceStatus, hex(reads[2])], [0x0c, '0000000000000000']);
});

const trackset = (where: Partial<EckdLocate>): Step =>
  extended({ operation: OP.WRITE_TRACKSET, count: 1, record: 0, tracks: [true], ...where });
const full: Step = [CMD.WRITE_FULL_TRACK, trackImage(0, 'x')];
/** What is wrong, the program, sense bytes 0 and 1, message. */
const refused: readonly (readonly [string, readonly Step[], string, number])[] = [
  ['an extended locate of 19 bytes', [extent(CYLINDERS), [CMD.LOCATE_RECORD_EXTENDED, new Uint8Array(19)]], '8000', 3],
  [
    'an extended parameter that is missing',
    [
      extent(CYLINDERS),
      [0x4b, parameters({ operation: OP.WRITE_TRACKSET, count: 1, record: 0, tracks: [true] }).subarray(0, 20)],
    ],
    '8000',
    3,
  ],
  [
    'an extended operation in a plain locate',
    [
      extent(CYLINDERS),
      [CMD.LOCATE_RECORD, parameters({ operation: OP.READ_RECORDS, count: 1, record: 0 }).subarray(0, 16)],
    ],
    '8000',
    4,
  ],
  [
    'an unknown extended operation',
    [extent(CYLINDERS), extended({ operation: 0x1ff, count: 1, record: 0 })],
    '8000',
    4,
  ],
  [
    'an orientation that the operation does not know',
    [extent(CYLINDERS), locate({ operation: OP.WRITE, count: 1, record: 0, orientation: ORIENTATION.INDEX })],
    '8000',
    4,
  ],
  [
    'reserved auxiliary bits',
    [extent(CYLINDERS), [CMD.LOCATE_RECORD, Uint8Array.of(6, 0x10, 0, 1, ...new Uint8Array(12))]],
    '8000',
    4,
  ],
  [
    'a suffix behind a format',
    [extent(CYLINDERS), locate({ operation: OP.FORMAT, count: 2, record: 0, suffix: true })],
    '8000',
    4,
  ],
  [
    'a suffix alone',
    [extent(CYLINDERS), locate({ operation: OP.WRITE, count: 1, record: 0, suffix: true })],
    '8000',
    4,
  ],
  [
    'an orientation with a count',
    [extent(CYLINDERS), locate({ operation: OP.ORIENT, count: 1, record: 0 })],
    '8000',
    4,
  ],
  [
    'a map that does not begin with its first track',
    [extent(CYLINDERS), trackset({ tracks: [false, true] })],
    '8000',
    4,
  ],
  ['a map with more tracks than the count', [extent(CYLINDERS), trackset({ tracks: [true, true] })], '8000', 4],
  [
    'a map that leaves the disk',
    [extent(CYLINDERS), trackset({ count: 2, tracks: [true, true], seek: { cylinder: 1, head: 14 } })],
    '0004',
    0,
  ],
  [
    'a map that leaves the extent',
    [
      [
        CMD.DEFINE_EXTENT,
        encodeEckdExtent({ permission: 0, begin: { cylinder: 0, head: 0 }, end: { cylinder: 0, head: 0 } }),
      ],
      trackset({ count: 2, tracks: [true, true] }),
    ],
    '0004',
    0,
  ],
  ['a track where only updates are allowed', [extent(CYLINDERS, ECKD_PERMISSION.UPDATE), trackset({})], '8000', 2],
  ['more tracks than located', [extent(CYLINDERS), trackset({}), full, full], '8000', 2],
  ['a full track without a locate', [extent(CYLINDERS), full], '8000', 2],
  [
    'a full track in a format domain',
    [extent(CYLINDERS), locate({ operation: OP.FORMAT, count: 1, record: 0 }), full],
    '8000',
    2,
  ],
  [
    'a full track without an end mark',
    [extent(CYLINDERS), trackset({}), [CMD.WRITE_FULL_TRACK, trackImage(0, 'x').subarray(0, 25)]],
    '8000',
    3,
  ],
  [
    'a full track without R0',
    [extent(CYLINDERS), trackset({}), [CMD.WRITE_FULL_TRACK, joined(record(0, 1, 'x'), END)]],
    '0040',
    0,
  ],
  [
    'a full track with more than fits',
    [extent(CYLINDERS), trackset({}), [CMD.WRITE_FULL_TRACK, trackImage(0, ...Array.from({ length: 90 }, () => 'x'))]],
    '0040',
    0,
  ],
  ['track data without a locate', [extent(CYLINDERS), [CMD.READ_TRACK_DATA, 8]], '8000', 2],
  [
    'track data in a read domain',
    [extent(CYLINDERS), locate({ operation: OP.READ, count: 1, record: 0 }), [CMD.READ_TRACK_DATA, 8]],
    '8000',
    2,
  ],
  [
    'a home address of another track',
    [
      extent(CYLINDERS),
      locate({ operation: OP.FORMAT, count: 1, record: 0, orientation: ORIENTATION.INDEX }),
      [CMD.WRITE_HOME_ADDRESS, Uint8Array.of(0, 0, 1, 0, 0)],
    ],
    '8000',
    4,
  ],
  [
    'a home address that is cut off',
    [
      extent(CYLINDERS),
      locate({ operation: OP.FORMAT, count: 1, record: 0, orientation: ORIENTATION.INDEX }),
      [CMD.WRITE_HOME_ADDRESS, new Uint8Array(3)],
    ],
    '8000',
    3,
  ],
  ['a prefix that is cut off', [[CMD.PREFIX, prefix(undefined).subarray(0, 20)]], '8000', 3],
  ['a prefix of an unknown format', [[CMD.PREFIX, prefix(undefined, { 0: 2 })]], '8000', 4],
  ['a prefix of an alias', [[CMD.PREFIX, prefix(undefined, { 1: 0x90 })]], '8000', 4],
  ['a prefix whose base is another', [[CMD.PREFIX, prefix(undefined, { 1: 0xa0, 2: 5 })]], '8000', 4],
  [
    'a prefix with a locate and no extent',
    [[CMD.PREFIX, prefix({ operation: OP.READ, count: 1, record: 0 }, { 1: 0 })]],
    '8000',
    2,
  ],
  [
    'a write behind a prefix for reading',
    [[CMD.PREFIX_READ, prefix({ operation: OP.WRITE, count: 1, record: 0 })]],
    '8000',
    2,
  ],
  [
    'characteristics in a domain',
    [extent(CYLINDERS), locate({ operation: OP.READ, count: 1, record: 0 }), [CMD.READ_DEVICE_CHARACTERISTICS, 64]],
    '8000',
    2,
  ],
  ['an unknown command', [[0x99, 1]], '8000', 1],
  [
    'define subsystem operation: nothing is thin here',
    [[CMD.DEFINE_SUBSYSTEM_OPERATION, Uint8Array.of(0x81, 0, 0)]],
    '8000',
    1,
  ],
];
for (const [what, steps, sense, message] of refused)
  test(`unit check: ${what}`, async () => {
    const { guest, device, bytes } = await opened();
    const before = bytes.slice();
    const { irb } = await runSteps(guest, device, steps);
    assert.deepEqual([irb.deviceStatus, hex(irb.sense?.subarray(0, 2)), irb.sense?.[7]], [0x0e, sense, message]);
    const wrote = steps.filter(([command]) => command === CMD.WRITE_FULL_TRACK).length > 1;
    assert.equal(wrote || Buffer.from(before).equals(bytes), true, 'the disk is as before');
    assert.equal(guest.pinned, 0);
  });

test('a prefix that verifies the right base address, and one without a locate', async () => {
  const { guest, device } = await opened();
  const verified = await runSteps(guest, device, [
    [CMD.PREFIX, prefix({ operation: OP.READ, count: 1, record: 0 }, { 1: 0xa0 })],
    [CMD.READ_DATA, 8],
  ]);
  const plain = await runSteps(guest, device, [
    [CMD.PREFIX, prefix(undefined)],
    locate({ operation: OP.READ, count: 1, record: 0 }),
    [CMD.READ_DATA, 8],
  ]);
  assert.deepEqual([verified.irb.deviceStatus, plain.irb.deviceStatus], [0x0c, 0x0c]);
});

test('a full track whose image is longer than the track in the program leaves the rest to the length check', async () => {
  const { guest, device } = await opened();
  const longer = joined(trackImage(0, 'x'), new Uint8Array(40));
  const steps = (flags: number): readonly Step[] => [
    extent(CYLINDERS),
    trackset({}),
    [CMD.WRITE_FULL_TRACK, longer, flags],
  ];
  const strict = await runSteps(guest, device, steps(0));
  const lenient = await runSteps(guest, device, steps(CCW_FLAG.SLI));
  assert.deepEqual([strict.irb.channelStatus, strict.irb.count], [0x40, 40]);
  assert.deepEqual([lenient.irb.channelStatus, lenient.irb.count], [0, 40]);
});
