import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { PinionError } from '@pinion/core';
import {
  createRegistry,
  DasdDriver,
  decodeCopyProgram,
  EckdDriver,
  EmbeddedVm,
  GuestHeap,
  Host,
  ipl,
  RECORDS_MAX,
  readDescription,
} from '@pinion/vm';
import { makeImages, PROGRAM, RECORD, recordData } from './images.js';

const ECKD = 1;
const FBA = 2;
const MEGABYTE = 1 << 20;
const HOT = { name: 'hot', at: 0x1000_0000n, size: 4n << 20n } as const;

const description = (images: { eckd: string; fba: string }): string => `
name: dasd
hypervisor: embedded
memory:
  - { name: ram, at: 0, size: 16M }
  - { name: hot, at: 0x10000000, size: 4M }
parents:
  - { name: eckd, driver: ccw, image: ${images.eckd}, disk: hercules }
  - { name: fba, driver: ccw, image: ${images.fba} }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: system, driver: ccw, type: io, parent: eckd, uuid: 6d1b9a10-0000-4000-8000-000000000001, subchannel: ${ECKD}, devno: 0x0190 }
      - { name: target, driver: ccw, type: io, parent: fba, uuid: 6d1b9a10-0000-4000-8000-000000000002, subchannel: ${FBA}, devno: 0x0200 }
`;

/** One line of what happened. */
export type Tell = (what: string, facts: string) => void;

/** IPL from ECKD, copy a dataset to FBA, under memory hot-unplug and device reset. @throws if anything is left or wrong. */
export async function runScenario(folder: string, tell: Tell): Promise<void> {
  const images = makeImages(folder);
  const read = readDescription({ text: description(images), folder: '.' }, createRegistry());
  if (!read.ok) throw new TypeError(read.problems.map(({ message }) => message).join('; '));
  const host = await Host.create(read.description);
  try {
    const vm = await EmbeddedVm.start(host, read.description);
    await copy(vm, tell);
    await unplugUnderLoad(vm, tell);
    await resetUnderLoad(vm, tell);
    const pinned = vm.slots.reduce((sum, slot) => sum + slot.device.pins.pages, 0);
    tell('at the end', `${pinned} pages pinned`);
    if (pinned !== 0) throw new TypeError(`${pinned} pages stayed pinned`);
  } finally {
    await host.close();
  }
  verify(images.fba, tell);
}

/** A guest's two disks and a heap behind the pages that an IPL uses. */
async function disksOf(vm: EmbeddedVm): Promise<{ eckd: EckdDriver; fba: DasdDriver; heap: GuestHeap }> {
  const heap = new GuestHeap(0x1_0000n, 8n << 20n);
  const eckd = await EckdDriver.start(vm.machine, heap, ECKD);
  const fba = await DasdDriver.start(vm.machine, heap, FBA);
  return { eckd, fba, heap };
}

async function copy(vm: EmbeddedVm, tell: Tell): Promise<void> {
  const { eckd, fba, heap } = await disksOf(vm);
  const loaded = await ipl(vm.machine, eckd);
  const program = decodeCopyProgram(vm.machine.memory.read(loaded.at, loaded.size));
  tell('IPL', `PSW ${Buffer.from(loaded.psw).toString('hex')}, program of ${loaded.size} bytes`);
  const began = performance.now();
  const buffer = heap.allocate(RECORDS_MAX * program.size);
  const perTrack = 12;
  // Whole tracks at a time, so that each piece begins with a record whose place is known.
  const pieces = Math.floor(RECORDS_MAX / perTrack) * perTrack;
  for (let done = 0; done < program.count; done += pieces) {
    const count = Math.min(pieces, program.count - done);
    const at = program.from.cylinder * 15 + program.from.head + done / perTrack;
    const track = { cylinder: Math.floor(at / 15), head: at % 15 };
    await eckd.read({ track, first: program.first, count, size: program.size, at: buffer });
    const blocks = (count * program.size) / 512;
    await fba.write({ block: program.block + (done * program.size) / 512, blocks, at: buffer });
  }
  const seconds = (performance.now() - began) / 1000;
  const bytes = program.count * program.size;
  tell('copied', `${program.count} records, ${(bytes / MEGABYTE / seconds).toFixed(0)} MB/s`);
}

/** The outcome of I/O that may be ended by the host. */
const ended = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'ended normally',
    (failure: unknown) => {
      if (failure instanceof PinionError) return failure.name;
      throw failure;
    },
  );

async function unplugUnderLoad(vm: EmbeddedVm, tell: Tell): Promise<void> {
  const { fba } = await disksOf(vm);
  const io = ended(fba.read({ block: 0, blocks: 1024, at: HOT.at }));
  await vm.unplugMemory(HOT.name);
  tell('memory hot-unplugged under a read', `the read: ${await io}`);
}

async function resetUnderLoad(vm: EmbeddedVm, tell: Tell): Promise<void> {
  const { fba } = await disksOf(vm);
  const target = vm.slots.find(({ device }) => device.name.endsWith('2'));
  if (target === undefined) throw new TypeError('there is no target disk');
  const io = ended(fba.read({ block: 0, blocks: 1024, at: 0xa0_0000n }));
  await target.device.reset();
  // A reset tells nothing, as in Linux: the guest's patience ends, and it clears the subchannel.
  vm.machine.channels.csch(FBA);
  const outcome = await io;
  await fba.read({ block: 0, blocks: 8, at: 0xa0_0000n });
  tell('device reset under a read', `the read: ${outcome}; the next one works`);
}

function verify(path: string, tell: Tell): void {
  const stored = readFileSync(path);
  for (let index = 0; index < PROGRAM.count; index += 1) {
    const at = PROGRAM.block * 512 + index * RECORD;
    if (!stored.subarray(at, at + RECORD).equals(recordData(index))) throw new TypeError(`record ${index} is wrong`);
  }
  tell('verified', `${PROGRAM.count} records on the FBA image are those of the ECKD image`);
}
