import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CCW_FLAG,
  ECKD_COMMAND as CMD,
  decodeTrack,
  ECKD_PERMISSION,
  EckdDisk,
  encodeTrack,
  memoryImage,
  ECKD_OPERATION as OP,
  openHerculesVolume,
  openSparseVolume,
  recordsPerTrack,
  TRACK_SIZE_3390,
} from '@pinion/ccw';
import fc from 'fast-check';
import { ckd, extent, herculesBytes, locate, runSteps, type Step } from './eckd-volume.js';
import { FakeGuest } from './fake-guest.js';
import { openSubchannel, type Subchannel } from './subchannel.js';

const CYLINDERS = 2;
const id = (cylinder: number, head: number, record: number): Uint8Array => Uint8Array.of(0, cylinder, 0, head, record);
const seek = (cylinder: number, head: number): Step => [CMD.SEEK, Uint8Array.of(0, 0, 0, cylinder, 0, head)];
const text = (words: string): Uint8Array => new TextEncoder().encode(words);
const shown = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);
const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

async function opened(
  options: { sparse?: boolean; readOnly?: boolean } = {},
): Promise<Subchannel & { bytes: Uint8Array }> {
  const bytes = options.sparse === true ? new Uint8Array(CYLINDERS * 15 * 65_536) : herculesBytes(CYLINDERS);
  const image = memoryImage(bytes, { readOnly: options.readOnly ?? false });
  const volume = options.sparse === true ? openSparseVolume(image) : await openHerculesVolume(image);
  return { ...openSubchannel(new EckdDisk(volume), {}, new FakeGuest(0x10000, 512)), bytes };
}

/** Three keyed records behind R0 of track 0.1. */
const format: readonly Step[] = [
  extent(CYLINDERS),
  locate({ operation: OP.FORMAT, count: 3, record: 0, seek: { cylinder: 0, head: 1 } }),
  ...[1, 2, 3].map(
    (number): Step => [
      CMD.WRITE_CKD,
      ckd({ cylinder: 0, head: 1, number, key: text(`KEY${number}`), data: text(`data of record ${number}`) }),
    ],
  ),
];

for (const sparse of [false, true]) {
  const kind = sparse ? 'sparse' : 'Hercules';
  test(`${kind}: records that were formatted are read by locate, and by a search loop`, async () => {
    const { guest, device } = await opened({ sparse });
    assert.equal((await runSteps(guest, device, format)).irb.deviceStatus, 0x0c);
    const located = await runSteps(guest, device, [
      extent(CYLINDERS),
      locate({ operation: OP.READ, count: 2, record: 2, seek: { cylinder: 0, head: 1 } }),
      [CMD.READ_DATA, 16],
      [CMD.READ_KEY_DATA, 20],
    ]);
    assert.deepEqual([shown(located.reads[2]), shown(located.reads[3])], ['data of record 2', 'KEY3data of record 3']);
    const searched = await runSteps(guest, device, [
      seek(0, 1),
      [CMD.SEARCH_ID_EQUAL, id(0, 1, 3)],
      [0x08, 1],
      [CMD.READ_KEY_DATA, 20],
    ]);
    assert.deepEqual([searched.irb.deviceStatus, shown(searched.reads[3])], [0x0c, 'KEY3data of record 3']);
    const keyed = await runSteps(guest, device, [
      seek(0, 1),
      [CMD.SEARCH_KEY_EQUAL, text('KEY2')],
      [0x08, 1],
      [CMD.READ_DATA, 16],
    ]);
    assert.deepEqual([keyed.irb.deviceStatus, shown(keyed.reads[3])], [0x0c, 'data of record 2']);
    assert.equal(guest.pinned, 0);
  });
}

test('counts one after the other, then around the track to the first', async () => {
  const { guest, device } = await opened();
  await runSteps(guest, device, format);
  const counts = await runSteps(guest, device, [seek(0, 1), ...[1, 2, 3, 4].map((): Step => [CMD.READ_COUNT, 8])]);
  assert.deepEqual(counts.reads.slice(1).map(hex), [
    '0000000101040010',
    '0000000102040010',
    '0000000103040010',
    '0000000101040010',
  ]);
});

test('an update keeps the count, fills what is missing with zeros, and leaves the neighbours alone', async () => {
  const { guest, device, bytes } = await opened();
  await runSteps(guest, device, format);
  const { irb } = await runSteps(guest, device, [
    extent(CYLINDERS, ECKD_PERMISSION.UPDATE),
    locate({ operation: OP.WRITE, count: 1, record: 2, seek: { cylinder: 0, head: 1 } }),
    [CMD.WRITE_DATA, text('new'), CCW_FLAG.SLI],
  ]);
  assert.equal(irb.deviceStatus, 0x0c);
  const track = decodeTrack(bytes.subarray(512 + TRACK_SIZE_3390, 512 + 2 * TRACK_SIZE_3390), { cylinder: 0, head: 1 });
  assert.deepEqual(
    track.map(({ number, data }) => [number, shown(data).replaceAll('\0', '')]),
    [
      [0, ''],
      [1, 'data of record 1'],
      [2, 'new'],
      [3, 'data of record 3'],
    ],
  );
});

test('a multi-track read goes on with the next track; READ TRACK gives R0 and an end mark', async () => {
  const { guest, device } = await opened();
  await runSteps(guest, device, format);
  await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.FORMAT, count: 1, record: 0, seek: { cylinder: 0, head: 2 } }),
    [CMD.WRITE_CKD, ckd({ cylinder: 0, head: 2, number: 1, data: text('next track') })],
  ]);
  const read = await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.READ, count: 2, record: 3, seek: { cylinder: 0, head: 1 } }),
    [0x86, 16],
    [0x86, 10],
  ]);
  assert.deepEqual([shown(read.reads[2]), shown(read.reads[3])], ['data of record 3', 'next track']);
  const track = await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.READ_TRACKS, count: 1, record: 0, seek: { cylinder: 0, head: 2 } }),
    [CMD.READ_TRACK, 42],
  ]);
  assert.equal(
    hex(track.reads[2]),
    `0000000200000008${'00'.repeat(8)}000000020100000a${hex(text('next track'))}${'ff'.repeat(8)}`,
  );
});

test('a record without data is an end of file', async () => {
  const { guest, device } = await opened();
  await runSteps(guest, device, [
    extent(CYLINDERS),
    locate({ operation: OP.FORMAT, count: 1, record: 0 }),
    [CMD.WRITE_CKD, ckd({ cylinder: 0, head: 0, number: 1, data: new Uint8Array(0) })],
  ]);
  const { irb } = await runSteps(guest, device, [seek(0, 0), [CMD.READ_DATA, 80, CCW_FLAG.SLI]]);
  assert.equal(irb.deviceStatus, 0x0d);
});

test('who it is: sense ID, characteristics, configuration, path group, reserve and release', async () => {
  const { guest, device } = await opened();
  const { irb, reads } = await runSteps(guest, device, [
    [CMD.SENSE_ID, 12],
    [CMD.READ_DEVICE_CHARACTERISTICS, 64],
    [CMD.READ_CONFIGURATION, 256],
    [CMD.SENSE_PATH_GROUP, 12],
    [CMD.RESERVE, 32],
    [CMD.RELEASE, 32],
    [CMD.SET_PATH_GROUP, new Uint8Array(12)],
  ]);
  assert.equal(irb.deviceStatus, 0x0c);
  assert.equal(hex(reads[0]), 'ff3990e933900a0040fa0100');
  assert.equal(hex(reads[1]).slice(0, 40), '3990e933900a000000002026000' + '2000fe000dd58');
});

test('F.1.1: records per track', () => {
  assert.deepEqual(
    [512, 1024, 2048, 4096].map((size) => recordsPerTrack(0, size)),
    [49, 33, 21, 12],
  );
});

const unchecked = [
  ['an unknown command', [[0x99, 1]], '8000'],
  ['a locate without an extent', [locate({ operation: OP.READ, count: 1, record: 0 })], '8000'],
  ['a second extent', [extent(CYLINDERS), extent(CYLINDERS)], '8000'],
  ['an extent behind the disk', [extent(CYLINDERS + 1)], '8000'],
  ['a seek behind the disk', [seek(CYLINDERS, 0)], '8000'],
  ['a locate of no record', [extent(CYLINDERS), locate({ operation: OP.READ, count: 1, record: 9 })], '0008'],
  ['a locate of nothing', [extent(CYLINDERS), locate({ operation: OP.READ, count: 0, record: 0 })], '8000'],
  ['an unknown operation', [extent(CYLINDERS), locate({ operation: 0x3f, count: 1, record: 0 })], '8000'],
  [
    'more reads than located',
    [extent(CYLINDERS), locate({ operation: OP.READ, count: 1, record: 0 }), [CMD.READ_DATA, 8], [CMD.READ_DATA, 8]],
    '8000',
  ],
  [
    'a write in a read domain',
    [extent(CYLINDERS), locate({ operation: OP.READ, count: 1, record: 0 }), [CMD.WRITE_DATA, new Uint8Array(8)]],
    '8000',
  ],
  [
    'a search that finds nothing',
    [seek(0, 0), [CMD.SEARCH_ID_EQUAL, id(0, 0, 9)], [0x08, 1], [CMD.READ_DATA, 8]],
    '0008',
  ],
  ['a write without a search', [seek(0, 0), [CMD.WRITE_DATA, new Uint8Array(8)]], '8000'],
  [
    'a write domain where writes are inhibited',
    [extent(CYLINDERS, ECKD_PERMISSION.READ_ONLY), locate({ operation: OP.WRITE, count: 1, record: 0 })],
    '8000',
  ],
  [
    'a format domain where only updates are allowed',
    [extent(CYLINDERS, ECKD_PERMISSION.UPDATE), locate({ operation: OP.FORMAT, count: 1, record: 0 })],
    '8000',
  ],
  [
    'a searched write where writes are inhibited',
    [
      extent(CYLINDERS, ECKD_PERMISSION.READ_ONLY),
      seek(0, 0),
      [CMD.SEARCH_ID_EQUAL, id(0, 0, 0)],
      [0x08, 2],
      [CMD.WRITE_CKD, new Uint8Array(16)],
    ],
    '0004',
  ],
  [
    'more than fits on a track',
    [
      extent(CYLINDERS),
      locate({ operation: OP.FORMAT, count: 2, record: 0 }),
      [CMD.WRITE_CKD, ckd({ cylinder: 0, head: 0, number: 1, data: new Uint8Array(30_000) })],
      [CMD.WRITE_CKD, ckd({ cylinder: 0, head: 0, number: 2, data: new Uint8Array(30_000) })],
    ],
    '0040',
  ],
  ['a read past the end of the cylinder', [seek(0, 14), [0x86, 8]], '0020'],
] as const satisfies readonly (readonly [string, readonly Step[], string])[];
for (const [what, steps, sense] of unchecked)
  test(`unit check: ${what}`, async () => {
    const { guest, device } = await opened();
    const { irb } = await runSteps(guest, device, steps);
    assert.deepEqual([irb.deviceStatus, hex(irb.sense?.subarray(0, 2))], [0x0e, sense]);
    assert.equal(guest.pinned, 0);
  });

test('a read-only volume, and one whose track is corrupt', async () => {
  const readOnly = await opened({ readOnly: true });
  const refused = await runSteps(readOnly.guest, readOnly.device, format);
  assert.equal(hex(refused.irb.sense?.subarray(0, 2)), '8002');
  const corrupt = await opened();
  corrupt.bytes[512 + 2] = 9;
  const broken = await runSteps(corrupt.guest, corrupt.device, [seek(0, 0), [CMD.READ_COUNT, 8]]);
  assert.equal(hex(broken.irb.sense?.subarray(0, 2)), '0040');
});

for (const [what, damage] of [
  ['truncated', (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 1)],
  ['without a header', (bytes: Uint8Array) => bytes.subarray(0, 100)],
  ['of another format', (bytes: Uint8Array) => bytes.fill(0x20, 0, 8)],
  ['of another disk', (bytes: Uint8Array) => bytes.fill(0x80, 16, 17)],
  ['empty', (bytes: Uint8Array) => bytes.subarray(0, 512)],
] as const)
  test(`an image that is ${what} is refused`, async () => {
    await assert.rejects(openHerculesVolume(memoryImage(damage(herculesBytes(1)))), { name: 'CCW_BAD_IMAGE' });
    assert.throws(() => openSparseVolume(memoryImage(new Uint8Array(65_536))), { name: 'CCW_BAD_IMAGE' });
  });

test('an image that fails at every Nth operation: equipment check, or all is there', async () => {
  for (let fails = 1; fails <= 5; fails += 1) {
    const bytes = herculesBytes(CYLINDERS);
    const image = memoryImage(bytes);
    let calls = 0;
    const broken = (): void => {
      calls += 1;
      if (calls === fails) throw new RangeError('ENOSPC');
    };
    const volume = await openHerculesVolume(image);
    const failing = {
      name: volume.name,
      cylinders: volume.cylinders,
      heads: volume.heads,
      readOnly: false,
      async readTrack(cylinder: number, head: number) {
        broken();
        return volume.readTrack(cylinder, head);
      },
      async writeTrack(cylinder: number, head: number, records: Parameters<typeof volume.writeTrack>[2]) {
        broken();
        await volume.writeTrack(cylinder, head, records);
      },
    };
    const { guest, device } = openSubchannel(new EckdDisk(failing), {}, new FakeGuest(0x10000, 512));
    const { irb } = await runSteps(guest, device, format);
    const stored = decodeTrack(bytes.subarray(512 + TRACK_SIZE_3390, 512 + 2 * TRACK_SIZE_3390), {
      cylinder: 0,
      head: 1,
    });
    assert.equal(hex(irb.sense?.subarray(0, 2)), fails <= 4 ? '1080' : '');
    assert.equal(stored.length, fails <= 4 ? Math.max(fails - 1, 1) : 4);
    assert.equal(guest.pinned, 0);
  }
});

test('whatever records a track has, it reads back the same', () => {
  const piece = (max: number) => fc.uint8Array({ minLength: 1, maxLength: max });
  const place = { cylinder: 3, head: 4 };
  fc.assert(
    fc.property(
      fc.array(fc.record({ number: fc.integer({ min: 0, max: 99 }), key: piece(20), data: piece(200) }), {
        minLength: 1,
        maxLength: 20,
      }),
      (made) => {
        const records = made.map((record) => ({ ...place, ...record }));
        assert.deepEqual(decodeTrack(encodeTrack(records, place, TRACK_SIZE_3390), place), records);
      },
    ),
    { numRuns: 100 },
  );
});
