import { type Container, createMediator, type DeviceFile, EXTENSION, type Mediator, PROT_RW } from '@pinion/core';
import { type BackendFactory, GTT_OFFSET, GvtDevice, gvt, type LeftoverListener, REGION } from '@pinion/gvt';
import { type1 } from '@pinion/type1';
import { GuestMemory, MachineMemory, VmTask } from '@pinion/vm';

const PAGE = 4096;
const UUID = 'c2a4f1f0-8f0e-4f0b-9a55-0f3a5e0f6d21';
/** Guest RAM: two mappings of 1 MiB side by side. */
export const HALF = 0x10_0000n;

/** A guest with one vGPU whose pages come through a backend of one's own. */
export class Machine {
  readonly mediator: Mediator;
  readonly container: Container;
  readonly file: DeviceFile;
  readonly vgpu: GvtDevice;

  private constructor(mediator: Mediator, container: Container, file: DeviceFile) {
    this.mediator = mediator;
    this.container = container;
    this.file = file;
    const { ops } = file.device;
    if (!(ops instanceof GvtDevice)) throw new TypeError('the driver makes vGPUs');
    this.vgpu = ops;
  }

  static async start(hypervisor: BackendFactory, onLeftovers: LeftoverListener): Promise<Machine> {
    const host = new MachineMemory();
    const memory = new GuestMemory(host, 'guest');
    const ram = memory.plug({ name: 'ram', at: 0n, size: 2n * HALF });
    const mediator = await createMediator({ memory: host, plugins: [type1(), gvt({ hypervisor, onLeftovers })] });
    const mdev = await mediator.registerParent('gpu', 'gvt').create('V5_4', UUID);
    const task = new VmTask('vmm', memory);
    const container = mediator.openContainer(task);
    const group = mdev.group.open(task);
    group.setContainer(container);
    container.setIommu(EXTENSION.TYPE1v2_IOMMU);
    for (const iova of [0n, HALF]) container.mapDma({ iova, size: HALF, vaddr: ram.vaddr + iova, prot: PROT_RW });
    return new Machine(mediator, container, await group.openDevice(UUID));
  }

  /** What the guest's driver does: entry `index` of its share of the table leads to a guest page, or nowhere. */
  writeEntry(index: number, gfn: number | undefined): void {
    const at = GTT_OFFSET + (this.vgpu.resources.low.base / PAGE + index) * 8;
    const entry = new BigUint64Array([gfn === undefined ? 0n : (BigInt(gfn) << 12n) | 3n]);
    this.file.writeRegion(REGION.BAR0, at, new Uint8Array(entry.buffer));
  }
}
