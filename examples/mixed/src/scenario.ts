import { writeFileSync } from 'node:fs';
import { isErrno } from '@pinion/core';
import { type EmbeddedVm, encodePng, isKilled, PassthroughDisk, screenOf } from '@pinion/vm';
import { Guest } from './guest.js';
import type { Check, Report } from './report.js';

/** What the run made, for the end of the report. */
export interface Outcome {
  readonly ok: boolean;
  readonly frameSha256: string;
}

/** How one piece of guest work that was cut short ended. */
const endOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'finished',
    (cause: unknown) => cause,
  );

/** Runs every step in turn, and reports what the VM holds after each. */
export async function runScenario(vm: EmbeddedVm, report: Report, png: string): Promise<Outcome> {
  const all: Check[] = [];
  const step = (name: string, checks: Readonly<Record<string, boolean>>): void => {
    const list = Object.entries(checks).map(([what, ok]) => ({ what, ok }));
    all.push(...list);
    report.step({ name, accounting: vm.accounting, checks: list });
  };
  const pinned = (owner: string): number => vm.accounting.pinnedPages.get(owner) ?? 0;
  const everything = pages(vm);
  const complaints = collectComplaints(vm);
  const guest = new Guest(vm.machine);

  step('VM built, four devices plugged', {
    'the passthrough disk locks all of memory': vm.accounting.lockedPages === everything,
  });

  await vm.run(() => guest.startDasd());
  const reading = vm.run(() => guest.readPicture());
  step('channel program reads the picture', { 'its pages are pinned while it runs': pinned('dasd') > 0 });
  await reading;
  const picture = guest.pictureDigest();
  step('picture read from the DASD', { 'the finished program holds no page': pinned('dasd') === 0 });

  await vm.run(() => guest.draw());
  const vgpuPages = pinned('vgpu');
  const frame = Buffer.from(guest.frameDigest()).toString('hex');
  writeFileSync(png, encodePng(screenOf(slotOf(vm, 'vgpu').device)));
  step('frame drawn on the vGPU', { 'its translation table pins what it draws with': vgpuPages > 900 });

  const signed = await vm.run(() => guest.sign());
  step('frame signed on queue 05.0047', {
    'node:crypto verifies the signature': guest.verify(signed),
    'the queue pins one page for its notifications': pinned('crypto') === 1,
  });

  await vm.run(() => guest.store(signed));
  step('frame and signature stored on disk', {
    'read back through the IOMMU, the signature holds': await vm.run(() => guest.checkStored()),
  });

  guest.stopVgpu();
  await vm.unplug('vgpu');
  step('vGPU unplugged', {
    'its pins are gone': pinned('vgpu') === 0,
    'locked pages stay: the disk still needs all of memory': vm.accounting.lockedPages === everything,
  });

  await vm.plug('vgpu');
  await vm.run(() => guest.draw());
  step('vGPU back, frame drawn again', {
    'as many pins as before': pinned('vgpu') === vgpuPages,
    'the same frame, byte for byte': Buffer.from(guest.frameDigest()).toString('hex') === frame,
  });

  await vm.unplug('disk');
  step('passthrough disk unplugged', {
    'only pages that somebody pinned stay locked': vm.accounting.lockedPages === pinned('vgpu') + pinned('crypto'),
  });

  await vm.plug('disk');
  step('passthrough disk plugged in again', {
    'all of memory is locked again': vm.accounting.lockedPages === everything,
    'what was stored is still there': await vm.run(() => guest.checkStored()),
  });

  const cut = endOf(vm.run(() => guest.readPicture()));
  const running = pinned('dasd');
  await vm.unmapMemory('pool');
  const lost = await cut;
  step('memory unmapped under a program', {
    'the program was running and is told that it was ended': running > 0 && isErrno(lost, 'ECANCELED'),
    'nobody holds a page of that memory': pinned('dasd') === 0 && pinned('vgpu') < vgpuPages,
  });
  step('a program uses unmapped memory', {
    'gets an I/O error, no memory': isErrno(await endOf(vm.run(() => guest.readPicture())), 'EIO'),
  });

  await vm.mapMemory('pool');
  await vm.run(() => guest.readPicture());
  step('memory mapped and read again', { 'the same picture': guest.pictureDigest() === picture });

  const endless = [() => guest.storeForever(), () => guest.readForever(), () => guest.drawForever()];
  const work = endless.map((program) => endOf(vm.run(program)));
  step('disk, DASD and vGPU busy', {
    'a channel program is in flight': pinned('dasd') > 0,
    'a transfer of the passthrough disk is in flight': isBusy(vm),
  });
  await vm.kill();
  const ends = await Promise.all(work);
  const { mappings, pinnedPages, lockedPages, heldPages } = vm.accounting;
  step('VM killed mid-I/O', {
    'every guest program was cut off': ends.every((end) => isKilled(end)),
    'no mapping, no pin, no locked page is left': mappings + pinnedPages.size + lockedPages + heldPages === 0,
    'no driver failed or leaked a page in the whole run': complaints.length === 0,
  });
  return { ok: all.every(({ ok }) => ok), frameSha256: frame };
}

/** What the mediator reports of drivers and backend that do not do their duty. */
function collectComplaints(vm: EmbeddedVm): readonly string[] {
  const complaints: string[] = [];
  for (const event of ['pages:leaked', 'pages:foreign-unpinned', 'driver:failed', 'backend:warned'] as const) {
    vm.host.mediator.bus.on(event, () => complaints.push(event));
  }
  return complaints;
}

const pages = (vm: EmbeddedVm): number => vm.memory.regions.reduce((sum, { size }) => sum + Number(size >> 12n), 0);

function isBusy(vm: EmbeddedVm): boolean {
  const { ops } = slotOf(vm, 'disk').device;
  return ops instanceof PassthroughDisk && ops.busy;
}

function slotOf(vm: EmbeddedVm, name: string): EmbeddedVm['slots'][number] {
  const slot = vm.slots.find(({ config }) => config.name === name);
  if (slot === undefined) throw new TypeError(`the description names no device '${name}'`);
  return slot;
}
