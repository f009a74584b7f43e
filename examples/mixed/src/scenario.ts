import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { isErrno } from '@pinion/core';
import { type EmbeddedVm, encodePng, isKilled, PassthroughDisk, type Picture, screenOf } from '@pinion/vm';
import { PICTURE_AT } from './artwork.js';
import { mixedErrors } from './errors.js';
import { Guest } from './guest.js';
import type { Check, Report } from './report.js';
import { SCENE } from './scene.js';

/** What the run works with, besides the VM. */
export interface Inputs {
  readonly report: Report;
  /** The picture that is on the DASD, as it was painted. */
  readonly scene: Uint8Array;
  /** Where the frame goes as a PNG file. */
  readonly png: string;
}

/** How one piece of guest work that is cut short ends: its error, or `finished`. */
const endOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'finished',
    (cause: unknown) => cause,
  );

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The run, from the VMM's side: each method is one step or two, and reports what the VM holds after it. */
export class Scenario {
  readonly #vm: EmbeddedVm;
  readonly #inputs: Inputs;
  readonly #guest: Guest;
  readonly #checks: Check[] = [];
  readonly #complaints: readonly string[];
  /** Pages of memory. */
  readonly #everything: number;
  #frame = '';
  #vgpuPages = 0;

  constructor(vm: EmbeddedVm, inputs: Inputs) {
    this.#vm = vm;
    this.#inputs = inputs;
    this.#guest = new Guest(vm.machine);
    this.#complaints = collectComplaints(vm);
    this.#everything = vm.memory.regions.reduce((sum, { size }) => sum + Number(size >> 12n), 0);
  }

  /** @returns whether every check held, and the frame's digest. */
  async run(): Promise<{ readonly ok: boolean; readonly frameSha256: string }> {
    this.#step('VM built, six devices plugged', {
      'the passthrough disk locks all of memory': this.#locked === this.#everything,
    });
    await this.#read();
    await this.#draw();
    await this.#signAndStore();
    await this.#replugVgpu();
    await this.#replugDisk();
    await this.#unmapUnderProgram();
    await this.#killMidIo();
    return { ok: this.#checks.every(({ ok }) => ok), frameSha256: this.#frame };
  }

  async #read(): Promise<void> {
    await this.#vm.run(() => this.#guest.startDasd());
    const reading = this.#vm.run(() => this.#guest.readPicture());
    this.#step('channel program reads the picture', { 'its pages are pinned while it runs': this.#pinned('dasd') > 0 });
    await reading;
    this.#step('picture read from the DASD', {
      'it is the picture that was painted': this.#guest.pictureDigest() === sha256(this.#inputs.scene),
      'the finished program holds no page': this.#pinned('dasd') === 0,
    });
  }

  async #draw(): Promise<void> {
    await this.#vm.run(() => this.#guest.draw());
    this.#vgpuPages = this.#pinned('vgpu');
    this.#frame = this.#frameDigest();
    const screen = screenOf(this.#device('vgpu'));
    writeFileSync(this.#inputs.png, encodePng(screen));
    this.#step('frame drawn on the vGPU', {
      'the screen shows the picture, pixel for pixel': shows(screen, this.#inputs.scene),
      'its translation table pins what it draws with': this.#vgpuPages > 900,
    });
  }

  async #signAndStore(): Promise<void> {
    const signed = await this.#vm.run(() => this.#guest.sign());
    this.#step('frame signed on queue 05.0047', {
      'node:crypto verifies the signature': this.#guest.verify(signed),
      'the queue pins one page for its notifications': this.#pinned('crypto') === 1,
    });
    await this.#vm.run(() => this.#guest.store(signed));
    const stored = await this.#vm.run(() => this.#guest.checkStored());
    this.#step('frame and signature stored on disk', { 'read back through the IOMMU, the signature holds': stored });
  }

  async #replugVgpu(): Promise<void> {
    this.#guest.stopVgpu();
    await this.#vm.unplug('vgpu');
    this.#step('vGPU unplugged', {
      'its pins are gone': this.#pinned('vgpu') === 0,
      'locked pages stay: the disk still needs all of memory': this.#locked === this.#everything,
    });
    await this.#vm.plug('vgpu');
    await this.#vm.run(() => this.#guest.draw());
    this.#step('vGPU back, frame drawn again', {
      'as many pins as before': this.#pinned('vgpu') === this.#vgpuPages,
      'the same frame, byte for byte': this.#frameDigest() === this.#frame,
    });
  }

  async #replugDisk(): Promise<void> {
    await this.#vm.unplug('disk');
    this.#step('passthrough disk unplugged', {
      'only pages that somebody pinned stay locked': this.#locked === this.#pinned('vgpu') + this.#pinned('crypto'),
    });
    await this.#vm.plug('disk');
    const stored = await this.#vm.run(() => this.#guest.checkStored());
    this.#step('passthrough disk plugged in again', {
      'all of memory is locked again': this.#locked === this.#everything,
      'what was stored is still there': stored,
    });
  }

  async #unmapUnderProgram(): Promise<void> {
    const cut = endOf(this.#vm.run(() => this.#guest.readPicture()));
    const running = this.#pinned('dasd') > 0;
    await this.#vm.unmapMemory('pool');
    const lost = await cut;
    this.#step('memory unmapped under a program', {
      'the program was running and is told that it was ended': running && isErrno(lost, 'ECANCELED'),
      'nobody holds a page of that memory': this.#pinned('dasd') === 0 && this.#pinned('vgpu') < this.#vgpuPages,
    });
    const refused = await endOf(this.#vm.run(() => this.#guest.readPicture()));
    this.#step('a program uses unmapped memory', { 'gets an I/O error, no memory': isErrno(refused, 'EIO') });
    await this.#vm.mapMemory('pool');
    await this.#vm.run(() => this.#guest.readPicture());
    this.#step('memory mapped and read again', {
      'the same picture': this.#guest.pictureDigest() === sha256(this.#inputs.scene),
    });
  }

  async #killMidIo(): Promise<void> {
    const guest = this.#guest;
    const endless = [() => guest.storeForever(), () => guest.readForever(), () => guest.drawForever()];
    const work = endless.map((program) => endOf(this.#vm.run(program)));
    const { ops } = this.#device('disk');
    this.#step('disk, DASD and vGPU busy', {
      'a channel program is in flight': this.#pinned('dasd') > 0,
      'a transfer of the passthrough disk is in flight': ops instanceof PassthroughDisk && ops.busy,
    });
    await this.#vm.kill();
    const ends = await Promise.all(work);
    const { mappings, pinnedPages, lockedPages, heldPages } = this.#vm.accounting;
    this.#step('VM killed mid-I/O', {
      'every guest program was cut off': ends.every((end) => isKilled(end)),
      'no mapping, no pin, no locked page is left': mappings + pinnedPages.size + lockedPages + heldPages === 0,
      'no driver failed or leaked a page in the whole run': this.#complaints.length === 0,
    });
  }

  get #locked(): number {
    return this.#vm.accounting.lockedPages;
  }

  #pinned(owner: string): number {
    return this.#vm.accounting.pinnedPages.get(owner) ?? 0;
  }

  #frameDigest(): string {
    return Buffer.from(this.#guest.frameDigest()).toString('hex');
  }

  #step(name: string, checks: Readonly<Record<string, boolean>>): void {
    const list = Object.entries(checks).map(([what, ok]) => ({ what, ok }));
    this.#checks.push(...list);
    this.#inputs.report.step({ name, accounting: this.#vm.accounting, checks: list });
  }

  #device(name: string): EmbeddedVm['slots'][number]['device'] {
    const slot = this.#vm.slots.find(({ config }) => config.name === name);
    if (slot === undefined) throw mixedErrors.NO_DEVICE({ device: name });
    return slot.device;
  }
}

/** What the mediator reports of drivers and backend that do not do their duty. */
export function collectComplaints(vm: EmbeddedVm): readonly string[] {
  const complaints: string[] = [];
  for (const event of ['pages:leaked', 'pages:foreign-unpinned', 'driver:failed', 'backend:warned'] as const) {
    vm.host.mediator.bus.on(event, () => complaints.push(event));
  }
  return complaints;
}

/** Whether the painted picture (blue, green, red, unused) stands in its place on the screen (red, green, blue, opaque). */
export function shows(screen: Picture, scene: Uint8Array): boolean {
  for (let pixel = 0; pixel < SCENE.width * SCENE.height; pixel++) {
    const x = PICTURE_AT.x + (pixel % SCENE.width);
    const y = PICTURE_AT.y + Math.floor(pixel / SCENE.width);
    const on = (y * screen.width + x) * 4;
    const of = pixel * 4;
    const same = [0, 1, 2].every((channel) => screen.pixels[on + channel] === scene[of + 2 - channel]);
    if (!same) return false;
  }
  return true;
}
