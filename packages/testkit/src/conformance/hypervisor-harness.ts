import {
  asIovaFrame,
  defineDriver,
  definePlugin,
  type FrameRange,
  frameAddress,
  type Gfn,
  type IovaFrame,
  type Pfn,
  type PinningDeviceContext,
  type Plugin,
} from '@pinion/core';
import type { ConformanceCase, Declares } from './suite.js';
import { World } from './world.js';

/**
 * What a hypervisor backend of a vGPU can do, as its `capabilities` say:
 * - `counts`: references are counted, the last one gives the page back (the contrary of `pinned`);
 * - `large-pages`: 2 MiB can be mapped;
 * - `dma-pin`: a mapping can be held by its DMA frame.
 */
export type HypervisorCapability = 'counts' | 'large-pages' | 'dma-pin';

/** The part of a vGPU's hypervisor backend that the suite is about. Frames are guest frames, `size` is 4096 or 2097152 bytes. */
export interface HypervisorBackendUnderTest {
  readonly capabilities: { readonly pinned: boolean; readonly dmaPin: boolean; readonly largePages: boolean };
  readonly usage: { readonly mappings: number; readonly pages: number };
  attach(): void;
  detach(): readonly { readonly gfn: Gfn; readonly size: number; readonly refs: number }[];
  releaseAll(): readonly { readonly gfn: Gfn; readonly size: number; readonly refs: number }[];
  releaseRange(range: FrameRange): number;
  dmaMapGuestPage(gfn: Gfn, size: number): Pfn;
  dmaUnmapGuestPage(dma: Pfn): void;
  dmaPinGuestPage?(dma: Pfn): void;
  bytes(dma: Pfn): Uint8Array;
  gfnToPfn(gfn: Gfn): Pfn | undefined;
  readGuest(gpa: bigint, into: Uint8Array): void;
  writeGuest(gpa: bigint, from: Uint8Array): void;
}

/** One backend, as the suite sees it. */
export interface HypervisorHarness extends Declares {
  readonly capabilities: ReadonlySet<HypervisorCapability>;
  /** Registers an IOMMU backend that can pin, and the argument of SET_IOMMU for it. */
  backend(): Plugin;
  readonly iommuType: number;
  /** Makes the backend under test for one device; called once per case, before the device opens. */
  make(context: PinningDeviceContext): HypervisorBackendUnderTest;
}

/** The guest has memory at these frames, host-contiguous, with a hole of one page. */
export const GUEST_PAGES = 2048;
export const HOLE = 1800;

/** A backend over the real core, type1 or another IOMMU backend, and a simulated process. */
export class HypervisorBench {
  readonly hypervisor: HypervisorBackendUnderTest;
  readonly #world: World;
  readonly #vaddr: bigint;
  readonly #within: (range: FrameRange) => readonly IovaFrame[];

  private constructor(parts: {
    world: World;
    vaddr: bigint;
    hypervisor: HypervisorBackendUnderTest;
    within: (range: FrameRange) => readonly IovaFrame[];
  }) {
    this.hypervisor = parts.hypervisor;
    this.#world = parts.world;
    this.#vaddr = parts.vaddr;
    this.#within = parts.within;
  }

  static async start(harness: HypervisorHarness): Promise<HypervisorBench> {
    const made: HypervisorBackendUnderTest[] = [];
    const plugin = carrier((context) => {
      const hypervisor = harness.make(context);
      made.push(hypervisor);
      return hypervisor;
    });
    const world = await World.start({ backend: harness.backend(), iommuType: harness.iommuType, plugins: [plugin] });
    world.mediator.registerParent('gpu', 'carrier');
    const { mdev } = await world.openMdev('gpu', 'one');
    const [hypervisor] = made;
    if (hypervisor === undefined) throw new TypeError('a device was made');
    const vaddr = world.memory(GUEST_PAGES);
    world.map(0, HOLE, vaddr);
    world.map(HOLE + 1, GUEST_PAGES - HOLE - 1, vaddr + BigInt(HOLE + 1) * 4096n);
    return new HypervisorBench({ world, vaddr, hypervisor, within: (range) => mdev.device.pins.within(range) });
  }

  /** Pages of a range that the backend holds. */
  readonly held = (first: number, count: number): number =>
    this.#within({ first: asIovaFrame(first), last: asIovaFrame(first + count - 1) }).length;

  /** The guest's memory as its CPU sees it. */
  peek(gpa: bigint, length: number): Uint8Array {
    return this.#world.task.memory.peek(this.#vaddr + gpa, length).slice();
  }

  poke(gpa: bigint, bytes: Uint8Array): void {
    this.#world.task.memory.poke(this.#vaddr + gpa, bytes);
  }

  /** A mapping that ends before the hole goes away, and all of the memory comes back afterwards. */
  async remap(): Promise<void> {
    await this.#world.unmap(0, HOLE);
    this.#world.container.mapDma({ iova: frameAddress(0), size: frameAddress(HOLE), vaddr: this.#vaddr, prot: 3 });
  }

  async end(): Promise<void> {
    await this.#world.end();
  }

  async abandon(): Promise<void> {
    await this.#world.abandon();
  }
}

/** A driver that is nothing but a way to its backend: opening attaches, closing detaches, an unmap releases the range. */
const carrier = (make: (context: PinningDeviceContext) => HypervisorBackendUnderTest): Plugin =>
  definePlugin({
    name: 'carrier',
    core: '^0.1',
    register: (scope) =>
      scope.vendorDriver(
        defineDriver({
          name: 'carrier',
          deviceApi: 'vfio-pci',
          types: [{ id: 'one' }],
          pins: true,
          create(context) {
            const hypervisor = make(context);
            return {
              open: () => hypervisor.attach(),
              close: () => void hypervisor.detach(),
              dmaUnmap: (range) => void hypervisor.releaseRange(range),
            };
          },
        }),
      ),
  });

export type HypervisorCase = ConformanceCase<HypervisorHarness>;

/** Declares a case on a bench of its own. Afterwards the device is closed, and nothing may be left. */
export const hypervisorCase = (
  name: string,
  needs: readonly HypervisorCapability[],
  run: (bench: HypervisorBench) => void | Promise<void>,
): HypervisorCase => ({
  name,
  needs,
  async run(harness) {
    const bench = await HypervisorBench.start(harness);
    try {
      await run(bench);
      await bench.end();
    } catch (failure) {
      await bench.abandon();
      throw failure;
    }
  },
});
