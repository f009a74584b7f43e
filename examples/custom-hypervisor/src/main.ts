import { asGfn } from '@pinion/core';
import { describeLeftover, displayOwner } from '@pinion/gvt';
import { GrantTable, grantHypervisor } from './grant-hypervisor.js';
import { HALF, Machine } from './machine.js';

const grants = new GrantTable(8);
const machine = await Machine.start(grantHypervisor(grants), ({ device, leftovers }) => {
  console.log(`  left over on ${device}: ${leftovers.map(describeLeftover).join('; ')}`);
});
const say = (what: string): void =>
  console.log(`${what}: ${machine.vgpu.stats.tableEntries} table entries, ${grants.used} grants`);

const { backend } = machine.vgpu;
say(`vGPU on '${backend.kind}' opened`);
for (const [index, gfn] of [5, 6, 5, 0x180].entries()) machine.writeEntry(index, gfn);
say('the guest maps pages 5, 6, 5 and 0x180');
machine.writeEntry(0, undefined);
say('it clears the first entry; another one still leads to page 5');
await machine.container.unmapDma({ iova: HALF, size: HALF });
say('the upper half of memory is unplugged, and page 0x180 with it');
for (let index = 10; index < 20; index++) machine.writeEntry(index, index);
say('ten more pages do not fit the grant table; the rest lead to the scratch page');
const page = backend.gfnToPfn(asGfn(6));
if (page !== undefined) backend.dmaPinGuestPage?.(page, displayOwner(1));
say('a display buffer takes page 6 and is forgotten');
await machine.file.close();
say('the guest is killed with all that in its tables');
await machine.mediator.close();
