import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import type { Leftovers, QemuVm } from '@pinion/vm';
import { COPY_AT } from './images.js';
import type { Check, Report } from './report.js';

export interface QemuInputs {
  readonly report: Report;
  /** The picture, as it was painted: the archive disk begins with it. */
  readonly scene: Uint8Array;
  /** The archive disk's file. */
  readonly image: string;
}

const BLOCK = 4096;
const DISK = '/dev/nvme0n1';
/** Milliseconds for Linux to find the disk that was plugged in. */
const FIND_LIMIT = 60_000;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The run with a real QEMU, from the VMM's side: an unmodified guest works with its own drivers, this side looks at what it holds. */
export class QemuScenario {
  readonly #vm: QemuVm;
  readonly #inputs: QemuInputs;
  readonly #checks: Check[] = [];
  readonly #complaints: string[] = [];

  constructor(vm: QemuVm, inputs: QemuInputs) {
    this.#vm = vm;
    this.#inputs = inputs;
    for (const event of ['pages:leaked', 'pages:foreign-unpinned', 'driver:failed', 'backend:warned'] as const) {
      vm.mediator.bus.on(event, () => void this.#complaints.push(event));
    }
  }

  get ok(): boolean {
    return this.#checks.every(({ ok }) => ok);
  }

  async run(): Promise<void> {
    await this.#booted();
    await this.#storePicture();
    await this.#switchLamps();
    await this.#replugArchive();
    await this.#killMidIo();
  }

  /** The last step: `left` is what is still there when all was closed. */
  end(left: Leftovers): void {
    this.#step('QEMU and devices ended', {
      'no mapping, pin, locked page or descriptor is left':
        left.mappings + left.pins + left.lockedPages + left.open.length === 0,
      'no driver failed or leaked a page in the whole run': this.#complaints.length === 0,
    });
    const { mappings, pins, lockedPages } = left;
    this.#inputs.report.end({
      facts: { guest: `Linux ${this.#vm.guest.ready.kernel}` },
      left: { mappings, pins, lockedPages },
      ok: this.ok,
    });
  }

  async #booted(): Promise<void> {
    const { guest, accounting, held } = this.#vm;
    const list = await guest.sh('lspci -k 2>/dev/null');
    this.#step('Linux booted, its drivers bound', {
      "the archive is driven by Linux's nvme": /Kernel driver in use: nvme/.test(list),
      "the lamps are driven by Linux's pci-idio-16": /Kernel driver in use: pci-idio-16/.test(list),
      'two devices, one container: guest memory is mapped once':
        held.mappings === accounting.mappings && held.mappings > 0,
      'the queues of the archive are pinned': this.#pinned('archive') > 0,
    });
  }

  /** The guest reads the picture past its page cache, and writes a copy behind it. */
  async #storePicture(): Promise<void> {
    const { guest } = this.#vm;
    const { scene, image } = this.#inputs;
    const seen = await guest.sh(
      `dd if=${DISK} bs=${BLOCK} iflag=direct 2>/dev/null | head -c ${scene.length} | sha256sum`,
    );
    const blocks = Math.ceil(scene.length / BLOCK);
    await guest.sh(
      `dd if=${DISK} of=${DISK} bs=${BLOCK} count=${blocks} seek=${COPY_AT / BLOCK} iflag=direct oflag=direct conv=fsync`,
    );
    this.#step('picture read and copied on the disk', {
      'the guest saw the picture that was painted': seen.split(' ')[0] === sha256(scene),
      'the copy in the image is the picture': sha256(readAt(image, COPY_AT, scene.length)) === sha256(scene),
      'no command holds a page any more: queues alone': this.#pins === this.#vm.accounting.lockedPages,
    });
  }

  async #switchLamps(): Promise<void> {
    this.#step('lamps switched on and off', { 'inputs follow the outputs they are wired to': await this.#lampsWork() });
  }

  async #replugArchive(): Promise<void> {
    const { guest, accounting } = this.#vm;
    await this.#vm.unplug('archive');
    this.#step('archive unplugged', {
      'Linux has no disk any more': (await guest.run(`ls ${DISK}`)).status !== 0,
      'its pins are gone': this.#pinned('archive') === 0 && this.#vm.accounting.lockedPages === 0,
      'the mappings stay: the lamps are still in the container': this.#vm.accounting.mappings === accounting.mappings,
    });
    await this.#vm.plug('archive');
    await guest.sh(`until [ -b ${DISK} ]; do usleep 50000; done`, FIND_LIMIT);
    const { scene } = this.#inputs;
    const seen = await guest.sh(
      `dd if=${DISK} bs=${BLOCK} skip=${COPY_AT / BLOCK} iflag=direct 2>/dev/null | head -c ${scene.length} | sha256sum`,
    );
    this.#step('archive plugged in again', {
      'what was copied is still there': seen.split(' ')[0] === sha256(scene),
      'its queues are pinned again': this.#pinned('archive') > 0,
      'no mapping came twice': this.#vm.held.mappings === this.#vm.accounting.mappings,
    });
  }

  /** Switches two outputs on and off, and looks at the inputs they are wired to, and at one that none of them is. */
  async #lampsWork(): Promise<boolean> {
    const code = (level: number): string => `
      chip=$(basename /dev/gpiochip*)
      gpioset -t0 -c $chip 5=${level} 14=${level}
      gpioget -c $chip 20 21 30`;
    const on = await this.#vm.guest.sh(code(1));
    const off = await this.#vm.guest.sh(code(0));
    return on === '"20"=inactive "21"=active "30"=active' && off === '"20"=inactive "21"=inactive "30"=inactive';
  }

  async #killMidIo(): Promise<void> {
    const { guest } = this.#vm;
    await guest.sh(
      `(while :; do dd if=/dev/zero of=${DISK} bs=1M seek=${(2 * COPY_AT) >> 20} count=8 oflag=direct; done) >/dev/null 2>&1 &`,
    );
    await this.#vm.kill();
    const { mappings, heldPages, lockedPages } = this.#vm.accounting;
    this.#step('QEMU killed mid-I/O', {
      'no mapping, pin or locked page is left': mappings + heldPages + lockedPages === 0,
    });
  }

  get #pins(): number {
    return [...this.#vm.accounting.pinnedPages.values()].reduce((sum, pages) => sum + pages, 0);
  }

  #pinned(owner: string): number {
    return this.#vm.accounting.pinnedPages.get(owner) ?? 0;
  }

  #step(name: string, checks: Readonly<Record<string, boolean>>): void {
    const list = Object.entries(checks).map(([what, ok]) => ({ what, ok }));
    this.#checks.push(...list);
    this.#inputs.report.step({ name, accounting: this.#vm.accounting, checks: list });
  }
}

function readAt(path: string, offset: number, length: number): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    const bytes = new Uint8Array(length);
    readSync(fd, bytes, 0, length, offset);
    return bytes;
  } finally {
    closeSync(fd);
  }
}
