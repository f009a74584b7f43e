import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn } from '@pinion/core';
import {
  describeLeftover,
  describeOwner,
  displayOwner,
  G2V,
  ggttOwner,
  type LeftoverReport,
  type MapOwner,
  NO_OWNER,
  PVINFO,
  ppgttOwner,
  SIZE_2M,
  SIZE_4K,
} from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;

describe('who took a reference', () => {
  const owners: readonly (readonly [owner: MapOwner, text: string])[] = [
    [NO_OWNER, 'unnamed'],
    [ggttOwner(0), 'GGTT entry 0x0'],
    [ggttOwner(0xfffff), 'GGTT entry 0xfffff'],
    [ppgttOwner(0x12345), 'PPGTT table at guest frame 0x12345'],
    [ppgttOwner(2 ** 36 - 1), 'PPGTT table at guest frame 0xfffffffff'],
    [displayOwner(7), 'display buffer 0x7'],
  ];
  for (const [owner, text] of owners) test(text, () => assert.equal(describeOwner(owner), text));

  test('no two are the same', () => assert.equal(new Set(owners.map(([owner]) => owner)).size, owners.length));

  test('in a line for people', () => {
    const leftover = { gfn: asGfn(0x200), size: SIZE_2M, refs: 3, owner: ppgttOwner(0x11) };
    assert.equal(
      describeLeftover(leftover),
      'gfn 0x200 size 0x200000 refs 3, mapped by PPGTT table at guest frame 0x11',
    );
  });
});

test('a close that destroys the cache first names the entry and the table behind each page', () => {
  const reports: LeftoverReport[] = [];
  const guest = new FakeGuest({ quirks: ['cache-destroyed-first'], onLeftovers: (report) => reports.push(report) });
  const { base } = guest.low;
  guest.mapPages(base + 5 * PAGE, 20, 1);
  for (const [table, next] of [
    [1, 2],
    [2, 3],
    [3, 4],
    [4, 21],
  ] as const)
    guest.poke(table, 0, [next * PAGE + 3, 0]);
  guest.write32(PVINFO.PDP, PAGE);
  guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
  guest.finish();
  const leftovers = [
    { gfn: 20, size: SIZE_4K, refs: 1, owner: ggttOwner(base / PAGE + 5) },
    { gfn: 21, size: SIZE_4K, refs: 1, owner: ppgttOwner(4) },
  ];
  assert.deepEqual(reports, [{ device: 'vgpu', leftovers }]);
  assert.match(guest.log.warnings.join(), /2 mappings left over, released: .*PPGTT table at guest frame 0x4/);
});

test('many are all told, but not all written into the log', () => {
  const reports: LeftoverReport[] = [];
  const guest = new FakeGuest({ onLeftovers: (report) => reports.push(report) });
  for (let gfn = 0; gfn < 100; gfn++) guest.device.backend.dmaMapGuestPage(asGfn(gfn), SIZE_4K, displayOwner(gfn));
  guest.device.reset();
  assert.equal(reports[0]?.leftovers.length, 100);
  const [line = ''] = guest.log.warnings;
  assert.match(line, /100 mappings left over.*, and 92 more$/);
  guest.finish();
  assert.equal(reports.length, 1);
});
