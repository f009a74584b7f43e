import { createMediator, EXTENSION, PROT_RW } from '@pinion/core';
import { type1 } from '@pinion/type1';
import { GuestMemory, MachineMemory, VmTask } from '@pinion/vm';
import { counter } from './counter.js';

const GUEST_RAM = { name: 'ram', at: 0n, size: 0x10_0000n };
const COUNTER_AT = 0x3000n;

const machine = new MachineMemory();
const memory = new GuestMemory(machine, 'guest');
const ram = memory.plug(GUEST_RAM);
const task = new VmTask('vmm', memory);

const mediator = await createMediator({ memory: machine, plugins: [type1(), counter] });
mediator.bus.on('dma:unmapped', () => console.log('the mapping is gone'));
const mdev = await mediator.registerParent('host', 'counter').create('bell', '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f01');
const container = mediator.openContainer(task);
const group = mdev.group.open(task);
group.setContainer(container);
container.setIommu(EXTENSION.TYPE1v2_IOMMU);
const device = await group.openDevice(mdev.uuid);
container.mapDma({ iova: 0n, size: GUEST_RAM.size, vaddr: ram.vaddr, prot: PROT_RW });

const address = new Uint8Array(8);
new DataView(address.buffer).setBigUint64(0, COUNTER_AT, true);
device.writeRegion(0, 0, address);
const say = (what: string): void =>
  console.log(`${what}: ${container.stats.pinnedPages} page(s) pinned, ${container.stats.lockedPages} locked`);
say('the guest gave the device a page');
for (let ring = 0; ring < 3; ring += 1) device.writeRegion(0, 8, new Uint8Array(1));
const counted = new Uint8Array(1);
memory.copy(ram.vaddr + COUNTER_AT, counted, false);
console.log(`the guest reads its counter: ${counted[0]}`);
await container.unmapAll();
say('after unmap');
await mediator.close();
