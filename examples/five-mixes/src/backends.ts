import {
  type Container,
  createMediator,
  EXTENSION,
  type GroupFile,
  type IommuGroup,
  type Mediator,
  PinionError,
  type Plugin,
  PROT_RW,
} from '@pinion/core';
import { gvt } from '@pinion/gvt';
import { createSoftwareIommu } from '@pinion/iommu';
import { PowerPlatform, spaprTce, TceControl } from '@pinion/spapr-tce';
import { type1 } from '@pinion/type1';
import { GuestMemory, MachineMemory, VmTask } from '@pinion/vm';

/** What the columns of the comparison are. */
export const COLUMNS = ['type1v2', 'sPAPR v1', 'sPAPR v2'] as const;
export type Column = (typeof COLUMNS)[number];

const RAM = { name: 'ram', at: 0n, size: 4n << 20n };
const UUID = '5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9b01';
const PAGE = 4096n;

interface Machine {
  readonly plugin: Plugin;
  readonly type: number;
  createGroup(): IommuGroup;
}

/** The machine that a backend needs under it: a PC, or a POWER one. */
function machineOf(column: Column, memory: MachineMemory): Machine {
  if (column === 'type1v2') {
    const iommu = createSoftwareIommu({ memory });
    return { plugin: type1(), type: EXTENSION.TYPE1v2_IOMMU, createGroup: () => iommu.createGroup({ functions: [] }) };
  }
  const platform = new PowerPlatform({ memory });
  const type = column === 'sPAPR v1' ? EXTENSION.SPAPR_TCE_IOMMU : EXTENSION.SPAPR_TCE_v2_IOMMU;
  return { plugin: spaprTce({ hardware: platform.tableGroup }), type, createGroup: () => platform.createGroup() };
}

/** A VMM with 1024 pages of memory and one container, over one backend. Every call throws what the backend throws. */
export class Bench {
  readonly column: Column;
  readonly #memory: GuestMemory;
  readonly #vaddr: bigint;
  readonly #task: VmTask;
  readonly #machine: Machine;
  readonly #mediator: Mediator;
  readonly #container: Container;
  readonly #functions: GroupFile[] = [];

  private constructor(
    column: Column,
    memory: GuestMemory,
    parts: { machine: Machine; mediator: Mediator; task: VmTask },
  ) {
    this.column = column;
    this.#memory = memory;
    this.#vaddr = memory.plug(RAM).vaddr;
    this.#task = parts.task;
    this.#machine = parts.machine;
    this.#mediator = parts.mediator;
    this.#container = parts.mediator.openContainer(parts.task);
  }

  /** `limit`: RLIMIT_MEMLOCK in pages. */
  static async start(column: Column, limit?: number): Promise<Bench> {
    const host = new MachineMemory();
    const memory = new GuestMemory(host, 'guest');
    const task = new VmTask('vmm', memory, limit === undefined ? {} : { lockLimit: limit });
    const machine = machineOf(column, host);
    const mediator = await createMediator({ memory: host, plugins: [machine.plugin, gvt()] });
    mediator.registerParent('igpu', 'gvt');
    return new Bench(column, memory, { machine, mediator, task });
  }

  get locked(): number {
    return this.#memory.lockedPages;
  }

  /** Plugs a passthrough function in. */
  passthrough(): void {
    const name = `pci-0${this.#functions.length + 1}`;
    const group = this.#mediator.addGroup({ name, iommu: this.#machine.createGroup() });
    this.#mediator.addDevice(group, `${name}.0`, {});
    const file = group.open(this.#task);
    this.#functions.push(file);
    this.#attach(file);
  }

  /** Plugs the vGPU in. */
  async vgpu(): Promise<void> {
    const parent = this.#mediator.parents.get('igpu');
    const mdev = parent?.mdevs.get(UUID) ?? (await parent?.create('V5_4', UUID));
    const file = mdev?.group.file ?? mdev?.group.open(this.#task);
    if (file !== undefined) this.#attach(file);
  }

  /** What must be done before memory can be mapped: nothing, ENABLE, or the registration of all memory. */
  ready(): void {
    const tce = new TceControl(this.#container);
    if (this.column === 'sPAPR v1') tce.enable();
    if (this.column === 'sPAPR v2') tce.registerMemory({ vaddr: this.#vaddr, size: RAM.size });
  }

  map(): void {
    this.#container.mapDma({ iova: 0n, size: RAM.size, vaddr: this.#vaddr, prot: PROT_RW });
  }

  async unmap(first = 0, pages = Number(RAM.size / PAGE)): Promise<void> {
    await this.#container.unmapDma({ iova: BigInt(first) * PAGE, size: BigInt(pages) * PAGE });
  }

  /** Takes the last passthrough function out. */
  unplug(): void {
    this.#functions.pop()?.close();
  }

  /** Ends the VM. @returns pages that are still charged then. */
  async end(): Promise<number> {
    await this.#mediator.close();
    this.#task.exit();
    return this.#memory.lockedPages;
  }

  #attach(file: GroupFile): void {
    file.setContainer(this.#container);
    if (this.#container.backend === undefined) this.#container.setIommu(this.#machine.type);
  }
}

/** Locked pages after an attempt, or the errno that it ended with. */
export async function outcomeOf(
  bench: Bench,
  attempt: (bench: Bench) => void | Promise<void>,
): Promise<number | string> {
  try {
    await attempt(bench);
    return bench.locked;
  } catch (cause) {
    if (cause instanceof PinionError) return cause.errno;
    throw cause;
  }
}
