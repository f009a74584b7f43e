import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asGfn } from '@pinion/core';
import { displayOwner, type LeftoverReport, SIZE_2M, SIZE_4K } from '@pinion/gvt';
import { GrantTable, grantHypervisor } from './grant-hypervisor.js';
import { HALF, Machine } from './machine.js';

async function start(rows: number) {
  const grants = new GrantTable(rows);
  const reports: LeftoverReport[] = [];
  const machine = await Machine.start(grantHypervisor(grants), (report) => reports.push(report));
  const end = async (): Promise<void> => {
    await machine.mediator.close();
    assert.deepEqual([grants.used, machine.container.stats.pinnedPages], [0, 0]);
  };
  return { grants, machine, reports, end };
}

test('a page is granted once however often it is mapped, until the last entry is gone', async () => {
  const { grants, machine, reports, end } = await start(4);
  for (const index of [0, 1, 2]) machine.writeEntry(index, 5);
  const used = [0, 1, 2].map((index) => {
    machine.writeEntry(index, undefined);
    return grants.used;
  });
  assert.deepEqual([used, reports], [[1, 1, 0], []]);
  await end();
});

test('memory goes away: its grants end, however many entries lead there', async () => {
  const { grants, machine, end } = await start(8);
  for (const [index, gfn] of [5, 0x100, 0x1ff, 0x100].entries()) machine.writeEntry(index, gfn);
  assert.equal(grants.used, 3);
  await machine.container.unmapDma({ iova: HALF, size: HALF });
  assert.deepEqual([grants.used, machine.container.stats.pinnedPages], [1, 1]);
  await end();
});

test('a full table: the entry leads to the scratch page, and nothing stays pinned for it', async () => {
  const { grants, machine, end } = await start(2);
  for (const index of [0, 1, 2, 3]) machine.writeEntry(index, 10 + index);
  assert.deepEqual([grants.used, machine.vgpu.stats.tableEntries, machine.container.stats.pinnedPages], [2, 2, 2]);
  const { backend } = machine.vgpu;
  assert.throws(() => backend.dmaMapGuestPage(asGfn(0), SIZE_2M), { name: 'GRANT_TABLE_FULL' });
  assert.deepEqual([grants.used, machine.container.stats.pinnedPages], [2, 2]);
  await end();
});

test('what is left over at close is named and its grants end', async () => {
  const { grants, machine, reports, end } = await start(4);
  const { backend } = machine.vgpu;
  backend.dmaPinGuestPage?.(backend.dmaMapGuestPage(asGfn(6), SIZE_4K), displayOwner(1));
  await machine.file.close();
  assert.equal(grants.used, 0);
  const leftovers = [{ gfn: 6, size: SIZE_4K, refs: 2, owner: displayOwner(1) }];
  assert.deepEqual(
    reports.map((report) => report.leftovers),
    [leftovers],
  );
  await end();
});
