import { asIovaFrame, asPfn, type Clock, type HostMemory, type PageClass, type Pfn } from '@pinion/core';
import {
  BouncePool,
  DeviceDma,
  DirectDma,
  DmaDevice,
  type DmaQuirk,
  IommuDma,
  PagePool,
  type PageRequest,
  type PageSource,
  quirksOf,
} from '@pinion/dma';
import { createSoftwareIommu, IovaAllocator, type PassthroughFunction, type SoftwareDomain } from '@pinion/iommu';
import type { Environment } from './recording.js';

const KERNEL = 'linux-6.12';
/** What the recorded machine keeps out of the device's domain: host bridge windows, interrupts. */
const RESERVED: readonly (readonly [first: number, last: number])[] = [
  [0xa0, 0xbf],
  [0x40000, 0xaffff],
  [0xc0000, 0xfebff],
  [0xfee00, 0xfeeff],
  [0x100000, 0x8fffff],
];
/** Pages of the buffers that the script names pool 0..3. */
const POOL_PAGES = [1024, 1024, 256, 1024] as const;
/** Where they lie: in 1 GiB of memory, and in 5 GiB, where pools 0 and 3 are above 4 GiB. */
const POOL_FRAMES = {
  small: [0x3000, 0x2000, 0x100, 0x2800],
  large: [0x140000, 0x2000, 0x100, 0x141000],
} as const;
/** Page allocator: nothing larger in one piece. */
const LARGEST = 1024;
const BOUNCE_PAGES = 16384;
/** The device's registers. */
const BAR_FRAME = 0xfea00;

/** Time that moves when a script sleeps. */
export class ScriptClock implements Clock {
  #now = 0;
  #timers: { at: number; action: () => void }[] = [];
  now(): number {
    return this.#now;
  }
  after(delay: number, action: () => void): () => void {
    const timer = { at: this.#now + delay, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
  sleep(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers.filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at)) {
      this.#timers = this.#timers.filter((other) => other !== timer);
      timer.action();
    }
  }
}

/** Several pieces of memory as one; allocations come from the first that has room. */
class Memory implements HostMemory, PageSource {
  readonly #pools: readonly PagePool[];
  readonly #sources: readonly PagePool[];
  constructor(pools: readonly PagePool[], sources: readonly PagePool[]) {
    this.#pools = [...pools, ...sources];
    this.#sources = sources;
  }
  pageClass(pfn: Pfn): PageClass {
    return this.#pools.some((pool) => pool.holds(pfn, 1)) ? 'normal' : 'device';
  }
  bytes(pfn: Pfn, count: number): Uint8Array {
    const pool = this.#pools.find((candidate) => candidate.holds(pfn, count));
    if (pool === undefined) throw new RangeError(`no memory at frame ${pfn}`);
    return pool.bytes(pfn, count);
  }
  contiguous(pfn: Pfn): boolean {
    return this.#pools.some((pool) => pool.contiguous(pfn));
  }
  unpinPage(): void {}
  allocate(request: PageRequest): Pfn | undefined {
    for (const pool of this.#sources) {
      const pfn = pool.allocate(request);
      if (pfn !== undefined) return pfn;
    }
    return undefined;
  }
  free(pfn: Pfn, pages: number): void {
    this.#sources.find((pool) => pool.holds(pfn, pages))?.free(pfn, pages);
  }
}

/** Everything one scenario runs on: fresh, as the recorded device after a rescan. */
export interface World {
  readonly dma: DeviceDma;
  readonly memory: HostMemory;
  readonly clock: ScriptClock;
  readonly pools: readonly { readonly pfn: Pfn; readonly pages: number }[];
  readonly bar: Pfn;
  /** Behind an IOMMU only. */
  readonly iommu?: {
    readonly domain: SoftwareDomain;
    readonly iovas: IovaAllocator;
    readonly device: PassthroughFunction;
  };
  readonly bounce?: BouncePool;
  /** All of the memory that there is, as a mask. */
  readonly required: bigint;
}

/** Contents of the bounce buffers are written before they are read, so all worlds may use the same ones. */
const BOUNCE_MEMORY = {
  small: new PagePool({ first: 0x3a000, pages: BOUNCE_PAGES }),
  large: new PagePool({ first: 0x7a000, pages: BOUNCE_PAGES }),
};

/** Builds the world that an environment describes; `slot`: where the bounce buffer's next search begins; `without`: quirks left off. */
export function makeWorld(env: Environment, slot: number, without: readonly DmaQuirk[]): World {
  const large = env.mem.startsWith('5G');
  const frames = large ? POOL_FRAMES.large : POOL_FRAMES.small;
  const pools = frames.map((first, index) => new PagePool({ first, pages: POOL_PAGES[index] ?? 1 }));
  const coherent = [
    new PagePool({ first: 0x200, pages: 0x1e00, largest: LARGEST }),
    new PagePool({ first: 0x4000, pages: 0x10000, largest: LARGEST }),
  ];
  const bounceFrames = large ? BOUNCE_MEMORY.large : BOUNCE_MEMORY.small;
  const memory = new Memory([...pools, bounceFrames], coherent);
  const shared = {
    memory,
    clock: new ScriptClock(),
    pools: pools.map(({ first, pages }) => ({ pfn: asPfn(first), pages })),
    bar: asPfn(BAR_FRAME),
  };
  const device = new DmaDevice('edu');
  if (env.iommu.startsWith('intel-iommu'))
    return { ...shared, ...translated(env, device, { memory, clock: shared.clock, without }) };
  const bounce =
    env.mode === 'swiotlb=force' || large
      ? new BouncePool({ memory, first: bounceFrames.first, pages: BOUNCE_PAGES })
      : undefined;
  if (bounce !== undefined) bounce.next = slot;
  const ops = new DirectDma({
    memory,
    lastFrame: large ? 0x1bffff : 0x3ffdf,
    pages: memory,
    force: env.mode === 'swiotlb=force',
    ...(bounce === undefined ? {} : { bounce }),
  });
  return {
    ...shared,
    dma: new DeviceDma({ device, ops }),
    required: ops.requiredMask,
    ...(bounce === undefined ? {} : { bounce }),
  };
}

function translated(
  env: Environment,
  device: DmaDevice,
  {
    memory,
    clock,
    without,
  }: { readonly memory: Memory; readonly clock: ScriptClock; readonly without: readonly DmaQuirk[] },
): Pick<World, 'dma' | 'iommu' | 'required'> {
  const addressWidth = Number(/aw-bits=(\d+)/.exec(env.iommu)?.[1] ?? 39);
  const iommu = createSoftwareIommu({ memory, addressWidth });
  const group = iommu.createGroup({ functions: ['edu'] });
  const domain = group.allocDomain();
  group.claimOwner(device);
  group.attach(domain);
  const iovas = new IovaAllocator({
    clock,
    reserved: RESERVED.map(([first, last]) => ({
      kind: 'reserved',
      range: { first: asIovaFrame(first), last: asIovaFrame(last) },
    })),
  });
  const ops = new IommuDma({
    domain,
    iovas,
    memory,
    pages: memory,
    quirks: [...quirksOf(KERNEL)].filter((quirk) => !without.includes(quirk)),
    ...(env.mode === 'lazy' ? { lazy: clock } : {}),
  });
  const [edu] = group.functions;
  if (edu === undefined) throw new TypeError('a group made with a function has it');
  return { dma: new DeviceDma({ device, ops }), iommu: { domain, iovas, device: edu }, required: ops.requiredMask };
}
