import { createMediator, EXTENSION, iovaFrame, PinionError, type Plugin, PROT_RW } from '@pinion/core';
import { createType1Driver } from '@pinion/type1';
import { GuestMemory, MachineMemory, VmTask } from '@pinion/vm';
import { holder } from './holder.js';
import { minimal } from './minimal.js';
import { quota } from './quota.js';

const QUOTA = 4;
const GUEST_RAM = { name: 'ram', at: 0n, size: 0x10_0000n };

/** The same guest on a backend: pins three pages, then two more than the quota allows, then gives all back. */
async function run(backend: Plugin): Promise<void> {
  const machine = new MachineMemory();
  const memory = new GuestMemory(machine, 'guest');
  const ram = memory.plug(GUEST_RAM);
  const task = new VmTask('vmm', memory);
  const mediator = await createMediator({ memory: machine, plugins: [backend, holder] });
  const mdev = await mediator.registerParent('host', 'holder').create('pages', '7a3e1b52-0c4d-4f6a-9b1e-2d8c5f907a11');
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  await group.openDevice(mdev.uuid);
  container.mapDma({ iova: 0n, size: GUEST_RAM.size, vaddr: ram.vaddr, prot: PROT_RW });

  console.log(`backend ${container.backendName}`);
  const say = (what: string): void => console.log(`  ${what}: ${container.stats.pinnedPages} of ${QUOTA} pages pinned`);
  const held = mdev.device.pins.pin(iovaFrame(0x1000n), 3, PROT_RW);
  say('3 pages pinned');
  try {
    mdev.device.pins.pin(iovaFrame(0x8000n), 2, PROT_RW);
  } catch (refusal) {
    if (!(refusal instanceof PinionError)) throw refusal;
    console.log(`  2 more: ${refusal}`);
  }
  held.unpin();
  say('given back');
  await container.unmapDma({ iova: 0n, size: GUEST_RAM.size });
  await mediator.close();
}

await run(quota(createType1Driver(), QUOTA));
await run(minimal(QUOTA));
