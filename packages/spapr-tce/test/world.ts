import assert from 'node:assert/strict';
import {
  type Container,
  createMediator,
  EXTENSION,
  type Group,
  type GroupFile,
  type Mediator,
  type MediatorEvents,
  PAGE_SHIFT,
  type Plugin,
  PROT_RW,
  type Prot,
} from '@pinion/core';
import { type PowerGroup, PowerPlatform, type Profile, type Quirk, spaprTce, TceControl } from '@pinion/spapr-tce';
import { SimulatedOs, type SimulatedTask } from '@pinion/testkit';

export const PAGE = 4096n;
export const PAGE_BYTES = 4096;
export const V1 = EXTENSION.SPAPR_TCE_IOMMU;
export const V2 = EXTENSION.SPAPR_TCE_v2_IOMMU;
/** Pages of the 1 GiB window, and of its table. */
export const WINDOW_PAGES = 262_144;
export const TABLE_PAGES = 512;
export const SECOND = 0x800_0000_0000_0000n;

export interface WorldAbout {
  readonly kind?: 'pseries' | 'powernv';
  readonly profile?: Profile;
  readonly quirks?: readonly Quirk[];
  /** RLIMIT_MEMLOCK in pages, without CAP_IPC_LOCK; default: no limit. */
  readonly lockPages?: number;
  /** log2 of the size of all pages of memory. */
  readonly backing?: number;
  readonly plugins?: readonly Plugin[];
}

/** A group of the machine with its open file. */
export interface Plugged {
  readonly hardware: PowerGroup;
  readonly group: Group;
  readonly file: GroupFile;
}

/** One process on a POWER machine in software, with sPAPR TCE. */
export class World {
  readonly os: SimulatedOs;
  readonly task: SimulatedTask;
  readonly platform: PowerPlatform;
  readonly mediator: Mediator;
  readonly warnings: string[] = [];
  readonly unmapped: MediatorEvents['dma:unmapped'][0]['range'][] = [];
  #groups = 0;

  private constructor(os: SimulatedOs, task: SimulatedTask, platform: PowerPlatform, mediator: Mediator) {
    this.os = os;
    this.task = task;
    this.platform = platform;
    this.mediator = mediator;
    mediator.bus.on('backend:warned', ({ name }) => this.warnings.push(name));
    mediator.bus.on('dma:unmapped', ({ range }) => this.unmapped.push(range));
  }

  static async start(about: WorldAbout = {}): Promise<World> {
    const os = new SimulatedOs();
    const lockBytes = (about.lockPages ?? Number.POSITIVE_INFINITY) * PAGE_BYTES;
    const task = os.spawn({ name: 'vmm', lockBytes, ipcLock: about.lockPages === undefined });
    const platform = new PowerPlatform({ memory: os.host, kind: about.kind ?? 'powernv' });
    const backend = spaprTce({
      hardware: platform.tableGroup,
      profile: about.profile ?? 'fixed',
      quirks: about.quirks ?? [],
      backing: () => about.backing ?? PAGE_SHIFT,
    });
    const mediator = await createMediator({ memory: os.host, plugins: [...(about.plugins ?? []), backend] });
    return new World(os, task, platform, mediator);
  }

  plug(about: Parameters<PowerPlatform['createGroup']>[0] = {}): Plugged {
    this.#groups += 1;
    const hardware = this.platform.createGroup(about);
    const group = this.mediator.addGroup({ name: `g${this.#groups}`, iommu: hardware });
    this.mediator.addDevice(group, `g${this.#groups}-f0`, {});
    return { hardware, group, file: group.open(this.task) };
  }

  /** A container with one group. */
  open(type: number, plugged = this.plug()): Opened {
    const container = this.mediator.openContainer(this.task);
    plugged.file.setContainer(container);
    container.setIommu(type);
    return { ...plugged, container, tce: new TceControl(container) };
  }

  /** Memory of the process, host-contiguous. @returns its vaddr. */
  memory(pages: number): bigint {
    return this.task.memory.mmap({ size: BigInt(pages) * PAGE, contiguous: true });
  }

  /** Pages charged to the process. */
  get locked(): number {
    return this.task.memory.lockedPages;
  }

  get pinned(): number {
    return this.os.host.pinnedPages;
  }

  /** Ends everything properly and checks what is left: pages and charges (of leaks that a quirk makes), otherwise nothing. */
  async end(left: { readonly pinnedPages?: number } = {}): Promise<void> {
    await this.mediator.close();
    if (this.task.mm !== null) await this.task.exit();
    const { pinnedPages, grabs, openFiles } = this.os.leaks();
    assert.deepEqual({ pinnedPages, grabs, openFiles }, { pinnedPages: left.pinnedPages ?? 0, grabs: 0, openFiles: 0 });
  }
}

export interface Opened extends Plugged {
  readonly container: Container;
  readonly tce: TceControl;
}

/** Runs in a fresh world, which ends empty. */
export async function inWorld(about: WorldAbout, run: (world: World) => Promise<void> | void): Promise<void> {
  const world = await World.start(about);
  await run(world);
  await world.end();
}

/** Maps pages of an address space at an iova (bytes). */
export function map(container: Container, iova: bigint, pages: number, vaddr: bigint, prot: Prot = PROT_RW): void {
  container.mapDma({ iova, size: BigInt(pages) * PAGE, vaddr, prot });
}

export const unmap = (container: Container, iova: bigint, pages: number): Promise<{ size: bigint }> =>
  container.unmapDma({ iova, size: BigInt(pages) * PAGE });

/** What a device writes arrives there, or `undefined` where it is refused. */
export function written(world: World, hardware: PowerGroup, iova: bigint, vaddr: bigint): number | undefined {
  const mark = 1 + Math.floor(Number(vaddr % 250n));
  if (!hardware.dmaWrite(iova, Uint8Array.of(mark))) return undefined;
  return world.task.memory.peek(vaddr, 1)[0] === mark ? mark : undefined;
}

export const reaches = (world: World, hardware: PowerGroup, iova: bigint, vaddr: bigint): boolean =>
  written(world, hardware, iova, vaddr) !== undefined;
