import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandOrb, ECKD_COMMAND, ECKD_OPERATION, EckdDisk, FbaDisk, ORB, openHerculesVolume } from '@pinion/ccw';
import type { FrameRange } from '@pinion/core';
import fc from 'fast-check';
import { extent, herculesBytes, locate, runSteps } from './eckd-volume.js';
import { GatedImage, ScriptedUnit } from './fake-disk.js';
import { FakeGuest, framesOf } from './fake-guest.js';
import { AT, fbaProgram, openSubchannel, type Subchannel } from './subchannel.js';

const suspendable = commandOrb(AT.ccws, ORB.SUSPEND);

/** A program that stays in flight, with 2 pages pinned: 0x10042 and 0x10060. */
function inFlight(options: Parameters<typeof openSubchannel>[1] = {}): Subchannel {
  const subchannel = openSubchannel(new ScriptedUnit(), options);
  subchannel.guest.pokeHex(AT.ccws, '02 62 0010 10042ff0 | 02 20 0020 10060000');
  subchannel.device.start(suspendable);
  assert.deepEqual(subchannel.guest.pinnedFrames, ['10042', '10060']);
  return subchannel;
}

/** The range; whether the program ends; whether the driver of before 2022 noticed. */
const ranges: readonly (readonly [what: string, range: FrameRange, hit: boolean, firstPageHit: boolean])[] = [
  ['a page in the middle of a larger range (G.7)', framesOf(0x1000_0000, 0x10_0000), true, false],
  ['only the last page of the range', framesOf(0x1004_0000, 0x3000), true, false],
  ['only the first page of the range', framesOf(0x1004_2000, 0x8000), true, true],
  ['exactly the page', framesOf(0x1004_2000, 0x1000), true, true],
  ['the page of the second CCW alone', framesOf(0x1006_0000, 0x1000), true, true],
  ['the neighbour before', framesOf(0x1004_1000, 0x1000), false, false],
  ['the neighbour behind', framesOf(0x1004_3000, 0x1000), false, false],
  ['between the two pages', framesOf(0x1004_3000, 0x1_d000), false, false],
  ['the page of the CCWs: a copy runs', framesOf(AT.ccws, 0x1000), false, false],
  ['a range the device never knew', framesOf(0x2000_0000, 0x1000), false, false],
];
for (const [what, range, hit, firstPageHit] of ranges) {
  test(`dmaUnmap of ${what}: ${hit ? 'everything is given back' : 'nothing happens'}`, async () => {
    const { guest, device, interrupts } = inFlight();
    await device.dmaUnmap(range);
    assert.deepEqual([device.state, guest.pinned], hit ? ['idle', 0] : ['cp-pending', 2]);
    assert.equal(interrupts.length, 0, 'a reset tells nothing');
    await device.dmaUnmap(range);
    await device.close();
    assert.equal(guest.pinned, 0);
  });
  test(`the quirk first-iova-only: dmaUnmap of ${what}`, async () => {
    const { guest, device } = inFlight({ quirks: ['first-iova-only'] });
    await device.dmaUnmap(range);
    assert.equal(guest.pinned, firstPageHit ? 0 : 2);
    await device.close();
    assert.equal(guest.pinned, 0);
  });
}

test('with the quirk a page inside the range outlives its mapping; without it none does', async () => {
  const range = framesOf(0x1004_0000, 0x4000);
  for (const [quirks, kept] of [
    [['first-iova-only'], 1],
    [[], 0],
  ] as const) {
    const { guest, device } = inFlight({ quirks });
    await device.dmaUnmap(range);
    assert.equal(guest.unmap(range), kept);
    await device.close();
  }
});

test('dmaUnmap before open, after the program ended and after close does nothing', async () => {
  const range = framesOf(0x1000_0000, 0x10_0000);
  const { guest, device } = inFlight();
  await device.dmaUnmap(range);
  await device.dmaUnmap(range);
  await device.close();
  await device.dmaUnmap(range);
  assert.deepEqual([device.state, guest.pinned], ['standby', 0]);
  device.open();
  device.start(suspendable);
  assert.equal(guest.pinned, 2, 'usable at once');
  await device.close();
  assert.equal(guest.pinned, 0);
});

/** A read of 8 blocks to AT.data that waits inside the disk. */
async function reading(
  options: Parameters<typeof openSubchannel>[1] = {},
): Promise<Subchannel & { image: GatedImage }> {
  const image = new GatedImage(new Uint8Array(512 * 16).fill(7));
  const subchannel = openSubchannel(new FbaDisk(image), options);
  fbaProgram(subchannel.guest, { write: false, block: 0, count: 8, data: AT.data });
  subchannel.device.start(commandOrb(AT.ccws));
  await image.began;
  return { ...subchannel, image };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a disk read is in flight: dmaUnmap waits for it, and nobody writes to the pages afterwards', async () => {
  const { guest, device, image, interrupts } = await reading();
  const range = framesOf(AT.data, 0x1000);
  let settled = false;
  const unmapping = device.dmaUnmap(range).then(() => {
    settled = true;
  });
  await turn();
  assert.deepEqual([settled, image.inFlight, guest.pinned], [false, 1, 3]);
  image.release();
  await unmapping;
  assert.deepEqual([image.inFlight, guest.pinned, device.state, interrupts.length], [0, 0, 'idle', 0]);
  assert.equal(guest.unmap(range), 0);
  await turn();
  assert.equal(guest.untouched(range), true);
});

for (const [what, command, operation] of [
  ['read', ECKD_COMMAND.READ_DATA, ECKD_OPERATION.READ],
  ['write', ECKD_COMMAND.WRITE_DATA, ECKD_OPERATION.WRITE],
] as const)
  test(`a 3390 ${what} is in flight: dmaUnmap waits for the image, and nobody touches the pages afterwards`, async () => {
    const image = new GatedImage(herculesBytes(1));
    image.release();
    const volume = await openHerculesVolume(image);
    image.shut();
    const { guest, device } = openSubchannel(new EckdDisk(volume), {}, new FakeGuest(0x10000, 512));
    const program = runSteps(guest, device, [
      extent(1),
      locate({ operation, count: 1, record: 0 }),
      [command, new Uint8Array(8)],
    ]);
    await image.began;
    const range = framesOf(AT.data, 0x20000);
    let settled = false;
    const unmapping = device.dmaUnmap(range).then(() => {
      settled = true;
    });
    await turn();
    assert.deepEqual([settled, image.inFlight, guest.pinned > 0], [false, 1, true]);
    image.release();
    await unmapping;
    await program;
    assert.deepEqual([image.inFlight, guest.pinned, device.state], [0, 0, 'idle']);
    assert.equal(guest.unmap(range), 0);
    await turn();
    assert.equal(guest.untouched(range), true);
  });

test('reportLost: one interrupt with the clear function when an unmapping ended the program', async () => {
  const { guest, device, interrupts } = inFlight({ reportLost: true });
  await device.dmaUnmap(framesOf(0x1004_3000, 0x1000));
  assert.equal(interrupts.length, 0);
  await device.dmaUnmap(framesOf(0x1000_0000, 0x10_0000));
  assert.deepEqual(
    interrupts.map(({ index, irb }) => [index, irb.word0]),
    [[0, 0x0080_1001]],
  );
  device.start(suspendable);
  await device.close();
  assert.deepEqual([interrupts.length, guest.pinned], [1, 0]);
});

test('a halt that was asked for before the unmapping still gets its interrupt', async () => {
  const { guest, device, image, interrupts } = await reading();
  device.halt();
  const unmapping = device.dmaUnmap(framesOf(AT.data, 0x1000));
  image.release();
  await unmapping;
  assert.deepEqual(
    interrupts.map(({ irb }) => irb.word0),
    [0x0080_2001],
  );
  assert.equal(guest.pinned, 0);
});

test('while a range leaves, a start is EBUSY, then EAGAIN inside the range and welcome outside of it', async () => {
  const { guest, device, image } = await reading({ reportLost: true });
  const outcomes: string[] = [];
  device.setIrqSink(() => {
    try {
      device.start(commandOrb(AT.ccws));
    } catch (refusal) {
      outcomes.push(String(refusal).split(':')[0] ?? '');
      fbaProgram(guest, { write: false, block: 0, count: 8, data: 0x1008_0000 });
      device.setIrqSink(undefined);
      device.start(commandOrb(AT.ccws));
    }
  });
  const range = framesOf(AT.data, 0x1000);
  const unmapping = device.dmaUnmap(range);
  await turn();
  assert.throws(() => device.start(commandOrb(AT.ccws)), { name: 'CCW_PENDING', errno: 'EBUSY' });
  image.release();
  await unmapping;
  assert.deepEqual(outcomes, ['CCW_RANGE_LEAVING (EAGAIN)']);
  assert.equal(guest.unmap(range), 0);
  await device.whenIdle();
  assert.equal(guest.peekHex(0x1008_0000, 2), '0707');
  assert.equal(guest.untouched(range), true);
  assert.equal(guest.pinned, 0);
});

test('dmaUnmap between init and start, at every pin: the start is refused and nothing stays pinned', async () => {
  for (const place of [1, 2]) {
    const { guest, device } = openSubchannel(new ScriptedUnit());
    guest.pokeHex(AT.ccws, '02 60 0020 10042000 | 02 20 0020 10060000');
    const unmappings: Promise<void>[] = [];
    guest.onPin = (call) => {
      if (call === place) unmappings.push(device.dmaUnmap(framesOf(0x1000_0000, 0x10_0000)));
    };
    assert.throws(() => device.start(commandOrb(AT.ccws)), { name: 'CCW_RANGE_LEAVING', errno: 'EAGAIN' });
    assert.deepEqual([device.state, guest.pinned, unmappings.length], ['idle', 0, 1]);
    await Promise.all(unmappings);
    guest.onPin = () => {};
    device.start(commandOrb(AT.ccws));
    assert.equal(guest.pinned, 2, 'the next start is not held back');
    await device.whenIdle();
    assert.equal(guest.pinned, 0);
  }
});

test('two ranges leave at the same time, and the device closes meanwhile', async () => {
  const { guest, device, image, interrupts } = await reading();
  const all = [
    device.dmaUnmap(framesOf(AT.data, 0x1000)),
    device.dmaUnmap(framesOf(AT.parameters, 0x1000)),
    device.close(),
  ];
  image.release();
  await Promise.all(all);
  assert.deepEqual([guest.pinned, device.state, interrupts.length], [0, 'standby', 0]);
});

test('for every program and every range: no pin is left inside, and a program outside is left alone', async () => {
  const page = fc.integer({ min: 16, max: 255 });
  await fc.assert(
    fc.asyncProperty(page, page, page, fc.integer({ min: 0, max: 40 }), async (one, two, first, more) => {
      const guest = new FakeGuest(0x10000, 256);
      const { device } = openSubchannel(new ScriptedUnit(), {}, guest);
      const at = (frame: number): string => (0x1000_0000 + frame * 4096).toString(16);
      guest.pokeHex(AT.ccws, `02 62 0001 ${at(one)} | 02 20 0001 ${at(two)}`);
      device.start(suspendable);
      const range = framesOf(0x1000_0000 + first * 4096, (more + 1) * 4096);
      const inside = [one, two].some((frame) => frame >= first && frame <= first + more);
      await device.dmaUnmap(range);
      assert.equal(guest.pinned, inside ? 0 : 2);
      await device.close();
      assert.equal(guest.pinned, 0);
    }),
    { numRuns: 200 },
  );
});
