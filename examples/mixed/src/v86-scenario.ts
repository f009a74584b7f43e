import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Device } from '@pinion/core';
import type { V86Vm } from '@pinion/v86';
import { encodePng, isKilled, PassthroughDisk, type Picture, screenOf } from '@pinion/vm';
import { mixedErrors } from './errors.js';
import type { Check, Report } from './report.js';
import { collectComplaints, shows } from './scenario.js';
import { SCENE } from './scene.js';

export interface V86Inputs {
  readonly report: Report;
  /** The picture, as it was painted: the archive disk begins with it. */
  readonly scene: Uint8Array;
  /** Where the frame goes as a PNG file. */
  readonly png: string;
  /** The passthrough disk's file. */
  readonly result: string;
}

/** Where the guest is told to store the frame on the passthrough disk. */
const RESULT_BLOCK = 8;
const BLOCK = 512;
/** The lamps of the run: every other one. */
const LAMPS = 0xaaaa;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/**
 * The run on an x86 CPU: the guest is told on its console what to do, and does it with drivers of its own, in machine code; this side looks
 * at what it holds and made.
 */
export class V86Scenario {
  readonly #vm: V86Vm;
  readonly #inputs: V86Inputs;
  readonly #checks: Check[] = [];
  readonly #complaints: readonly string[];
  /** How the guest's run ended. */
  readonly #end: Promise<unknown>;
  #frame = '';
  #vgpuPages = 0;

  /** Lets the guest run. */
  constructor(vm: V86Vm, inputs: V86Inputs) {
    this.#vm = vm;
    this.#inputs = inputs;
    this.#complaints = collectComplaints(vm.vm);
    this.#end = vm.run().then(
      (end) => end,
      (cause: unknown) => cause,
    );
  }

  /** @returns whether every check held, and the digest of what the screen showed. */
  async run(): Promise<{ readonly ok: boolean; readonly frameSha256: string }> {
    await this.#boot();
    await this.#read();
    await this.#draw();
    await this.#store();
    await this.#replugVgpu();
    await this.#replugDisk();
    await this.#killMidIo();
    return { ok: this.#checks.every(({ ok }) => ok), frameSha256: this.#frame };
  }

  async #boot(): Promise<void> {
    const scanned = await this.#ask('scan');
    const found = this.#vm.serial.output.match(/^slot \d+: /gm)?.length ?? 0;
    this.#step('guest booted, bus scanned', {
      'it found every function': scanned && found === this.#vm.vm.slots.length,
      'the passthrough disk locks all of memory': this.#locked === this.#everything,
    });
    this.#step('lamps lit', { 'inputs follow the outputs they are wired to': await this.#ask(`lamps ${LAMPS}`) });
  }

  async #read(): Promise<void> {
    const read = await this.#ask(`read ${SCENE.width} ${SCENE.height}`);
    this.#step('picture read from the archive', {
      'its driver got every block': read,
      'the disk it closed holds no page': this.#pinned('archive') === 0,
    });
  }

  async #draw(): Promise<void> {
    const drawn = await this.#ask('draw');
    const screen = this.#screen();
    this.#frame = sha256(screen.pixels);
    this.#vgpuPages = this.#pinned('vgpu');
    writeFileSync(this.#inputs.png, encodePng(screen));
    this.#step('frame drawn on the vGPU', {
      'the screen shows the picture, pixel for pixel': drawn && shows(screen, this.#inputs.scene),
      'its translation table pins what it draws with': this.#vgpuPages > 900,
    });
  }

  async #store(): Promise<void> {
    const stored = await this.#ask(`store ${RESULT_BLOCK}`);
    this.#step('frame stored on passthrough disk', {
      'the guest read back what it wrote': stored,
      'the image holds what the screen shows': sameFrame(this.#screen(), readFileSync(this.#inputs.result)),
    });
  }

  async #replugVgpu(): Promise<void> {
    await this.#vm.vm.unplug('vgpu');
    await this.#ask('scan');
    this.#step('vGPU unplugged', {
      'its pins are gone': this.#pinned('vgpu') === 0,
      'the guest finds it no more': !(await this.#ask('draw')),
      'locked pages stay: the disk still needs all of memory': this.#locked === this.#everything,
    });
    await this.#vm.vm.plug('vgpu');
    await this.#ask('scan');
    const drawn = await this.#ask('draw');
    this.#step('vGPU back, frame drawn again', {
      'as many pins as before': this.#pinned('vgpu') === this.#vgpuPages,
      'the same frame, byte for byte': drawn && sha256(this.#screen().pixels) === this.#frame,
    });
  }

  async #replugDisk(): Promise<void> {
    await this.#vm.vm.unplug('disk');
    this.#step('passthrough disk unplugged', {
      'only pages that somebody pinned stay locked': this.#locked === this.#pinned('vgpu'),
    });
    await this.#vm.vm.plug('disk');
    await this.#ask('scan');
    this.#step('passthrough disk plugged in again', {
      'all of memory is locked again': this.#locked === this.#everything,
      'the guest drives it': await this.#ask(`store ${RESULT_BLOCK}`),
    });
  }

  async #killMidIo(): Promise<void> {
    await this.#answer('busy: going on', () => this.#vm.serial.type(`busy ${SCENE.width} ${SCENE.height}\n`));
    while (!this.#diskBusy) await new Promise((resolve) => void setImmediate(resolve));
    this.#step('archive, disk and vGPU busy', {
      'a transfer of the passthrough disk is in flight': this.#diskBusy,
      'the vGPU holds its frame': this.#pinned('vgpu') === this.#vgpuPages,
    });
    await this.#vm.kill();
    const { mappings, pinnedPages, lockedPages, heldPages } = this.#vm.vm.accounting;
    this.#step('VM killed mid-I/O', {
      'the guest was cut off': isKilled(await this.#end),
      'no mapping, no pin, no locked page is left': mappings + pinnedPages.size + lockedPages + heldPages === 0,
      'no driver failed or leaked a page in the whole run': this.#complaints.length === 0,
    });
  }

  /** Types a command. @returns whether the guest says that it went well. */
  async #ask(command: string): Promise<boolean> {
    const [word = ''] = command.split(' ');
    const line = await this.#answer(`${word}: `, () => this.#vm.serial.type(`${command}\n`));
    return line === `${word}: ok`;
  }

  /** The next line that begins so, after `act`. @throws MIXED_GUEST_ENDED (EIO) if the guest ends instead. */
  #answer(beginning: string, act: () => void): Promise<string> {
    return new Promise((resolve, reject) => {
      const undo = this.#vm.serial.onLine((line) => {
        if (!line.startsWith(beginning)) return;
        undo();
        resolve(line);
      });
      this.#end.then((end) => reject(mixedErrors.GUEST_ENDED({ waiting: beginning, end: JSON.stringify(end) }, end)));
      act();
    });
  }

  get #everything(): number {
    return this.#vm.vm.memory.regions.reduce((sum, { size }) => sum + Number(size >> 12n), 0);
  }

  get #locked(): number {
    return this.#vm.vm.accounting.lockedPages;
  }

  #pinned(owner: string): number {
    return this.#vm.vm.accounting.pinnedPages.get(owner) ?? 0;
  }

  get #diskBusy(): boolean {
    const { ops } = this.#device('disk');
    return ops instanceof PassthroughDisk && ops.busy;
  }

  #screen(): Picture {
    return screenOf(this.#device('vgpu'));
  }

  #device(name: string): Device {
    const slot = this.#vm.vm.slots.find(({ config }) => config.name === name);
    if (slot === undefined) throw mixedErrors.NO_DEVICE({ device: name });
    return slot.device;
  }

  #step(name: string, checks: Readonly<Record<string, boolean>>): void {
    const list = Object.entries(checks).map(([what, ok]) => ({ what, ok }));
    this.#checks.push(...list);
    this.#inputs.report.step({ name, accounting: this.#vm.vm.accounting, checks: list });
  }
}

/** Whether the image holds the screen's pixels (red, green, blue, opaque) as the guest has them (blue, green, red, unused). */
function sameFrame({ pixels }: Picture, image: Uint8Array): boolean {
  const frame = image.subarray(RESULT_BLOCK * BLOCK, RESULT_BLOCK * BLOCK + pixels.length);
  if (frame.length !== pixels.length) return false;
  for (let at = 0; at < pixels.length; at += 4) {
    for (const channel of [0, 1, 2]) if (pixels[at + channel] !== frame[at + 2 - channel]) return false;
  }
  return true;
}
