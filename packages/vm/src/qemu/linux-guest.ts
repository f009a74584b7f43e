import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, systemClock } from '@pinion/core';
import { vmErrors } from '../errors.js';
import type { QemuDevice, QemuMachine } from './command-line.js';
import { lastLines } from './deadline.js';
import { type GuestContents, guestImage } from './guest-image.js';
import { type GuestReady, type GuestResult, GuestShell } from './guest-shell.js';
import { findQemuKit, type QemuKit } from './kit.js';
import { Qemu } from './qemu.js';

export interface LinuxGuestOptions {
  /** Default: `findQemuKit()`. */
  readonly kit?: QemuKit;
  /** For messages. Default `guest`. */
  readonly name?: string;
  /** What is in the guest; or a whole initial RAM disk that `guestImage` made. */
  readonly contents?: GuestContents | Uint8Array;
  /** The machine. Its kernel is the kit's. */
  readonly machine?: Omit<QemuMachine, 'kernel'>;
  /** Further words of the kernel's command line: `intel_iommu=on`. */
  readonly kernelArgs?: readonly string[];
  readonly clock?: Clock;
  /** Milliseconds from the start of QEMU to the guest's shell. Default 120 000. */
  readonly bootLimit?: number;
}

const BOOT_LIMIT = 120_000;
const UNPLUG_LIMIT = 60_000;
/** Characters of the console that are kept. */
const CONSOLE_MAX = 65_536;

/** Leaves out what costs time under emulation and what this guest has no use for; a panic ends QEMU. */
const KERNEL_ARGS = (
  'console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check cryptomgr.notests init_on_alloc=0 audit=0 nowatchdog ' +
  'apparmor=0 ipv6.disable=1'
).split(' ');

/** The kernel's command line for a guest of `guestImage`: console on the first serial port, and what makes a boot fast. */
export const guestKernelArgs = (further: readonly string[] = []): string => [...KERNEL_ARGS, ...further].join(' ');

/** A Linux guest in a QEMU of its own: an unmodified kernel, a RAM disk, a shell. */
export class LinuxGuest {
  readonly name: string;
  readonly qemu: Qemu;
  readonly shell: GuestShell;
  #ready: GuestReady = { kernel: '', uptime: 0 };
  #console = '';

  private constructor(qemu: Qemu, clock: Clock) {
    this.name = qemu.name;
    this.qemu = qemu;
    this.shell = new GuestShell({ stream: qemu.channel('shell'), name: qemu.name, clock });
    const port = qemu.channel('console').setEncoding('utf8');
    port.on('data', (text: string) => {
      this.#console = (this.#console + text).slice(-CONSOLE_MAX);
    });
    void qemu.exited.then(() => this.shell.fail(this.#gone()));
  }

  /**
   * Starts QEMU and waits for the guest's shell. All or nothing: a guest that does not come up is gone.
   * @throws VM_NO_QEMU (ENOENT), VM_NO_MODULE (ENOENT), VM_QEMU_FAILED (EIO) with what QEMU or the guest's console said last,
   * VM_QEMU_TIMEOUT (ETIMEDOUT).
   */
  static async boot(options: LinuxGuestOptions = {}): Promise<LinuxGuest> {
    const { kit = findQemuKit(), contents = {}, clock = systemClock, bootLimit = BOOT_LIMIT } = options;
    const image = contents instanceof Uint8Array ? contents : guestImage(kit, contents);
    const guest = new LinuxGuest(await startQemu(kit, image, options), clock);
    try {
      guest.#ready = await guest.shell.booted(bootLimit);
      return guest;
    } catch (cause) {
      await guest.kill();
      throw cause;
    }
  }

  /** The last boot. */
  get ready(): GuestReady {
    return this.#ready;
  }

  /** What the kernel and its programs wrote to the console: the last 64 KiB. */
  get console(): string {
    return this.#console;
  }

  /** Runs shell code, whatever its exit status. @throws as `GuestShell.run`. */
  run(code: string, limit?: number): Promise<GuestResult> {
    return this.shell.run(code, limit);
  }

  /** Runs shell code that must succeed. @returns its output, without newlines at the end. @throws VM_GUEST_COMMAND (EIO), and as `run`. */
  async sh(code: string, limit?: number): Promise<string> {
    const { status, text } = await this.shell.run(code, limit);
    if (status !== 0) throw vmErrors.GUEST_COMMAND({ guest: this.name, code, status, output: lastLines(text, 6) });
    return text;
  }

  /** Hot-plugs a device; its `bus` names a `pcieRootPort`. @returns when QEMU has it: the guest finds it a moment later. @throws VM_QMP_REFUSED (EIO). */
  async plug(device: QemuDevice): Promise<void> {
    await this.qemu.qmp.execute('device_add', device);
  }

  /** Asks the guest to give a device back, and waits until it has. @throws VM_QMP_REFUSED (EIO), VM_QEMU_TIMEOUT (ETIMEDOUT). */
  async unplug(id: string, limit: number = UNPLUG_LIMIT): Promise<void> {
    await this.qemu.qmp.execute('device_del', { id });
    await this.qemu.qmp.event('DEVICE_DELETED', { limit, which: (data) => data['device'] === id });
  }

  /** Reboots as the guest itself would, and waits for its shell. The machine must have been given `reboots: true`. */
  async reboot(limit: number = BOOT_LIMIT): Promise<GuestReady> {
    await this.sh('(sleep 0.1; reboot -f) >/dev/null 2>&1 &');
    this.#ready = await this.shell.booted(limit);
    return this.#ready;
  }

  /** Ends QEMU as when a plug is pulled; see `Qemu.close`. */
  async close(): Promise<void> {
    await this.qemu.close();
  }

  /** SIGKILL for QEMU. */
  async kill(): Promise<void> {
    await this.qemu.kill();
  }

  /** Why QEMU is gone; a guest that panicked says so on its console. */
  #gone(): unknown {
    const panic = /Kernel panic[^\r\n]*/.exec(this.#console)?.[0];
    if (panic === undefined) return this.qemu.failure();
    return vmErrors.QEMU_FAILED(
      { qemu: this.name, how: 'a kernel panic of its guest', last: panic },
      this.qemu.failure(),
    );
  }
}

/** The RAM disk is a file only until QEMU has read it. */
async function startQemu(kit: QemuKit, image: Uint8Array, options: LinuxGuestOptions): Promise<Qemu> {
  const { name = 'guest', machine = {}, kernelArgs = [], clock = systemClock } = options;
  const folder = mkdtempSync(join(tmpdir(), 'pinion-guest-'));
  try {
    const initrd = join(folder, 'initrd');
    writeFileSync(initrd, image);
    const kernel = { image: kit.kernel, initrd, commandLine: guestKernelArgs(kernelArgs) };
    return await Qemu.start({
      program: kit.qemu,
      name,
      clock,
      machine: { ...machine, kernel },
      channels: ['console', 'shell'],
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
