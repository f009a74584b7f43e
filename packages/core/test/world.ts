import {
  asIovaFrame,
  type Container,
  createMediator,
  type DeviceFile,
  definePlugin,
  EXTENSION,
  type GroupFile,
  type IovaFrame,
  type Mdev,
  type Mediator,
  type MediatorOptions,
  PROT_RW,
  type Prot,
} from '@pinion/core';
import { type FakeBackend, FakeBackendDriver, type FakeBackendOptions } from './fake-backend.js';
import { FakeClock } from './fake-clock.js';
import { type FakeDevice, type FakeDriver, fakeDriver } from './fake-device.js';
import { FakeMemory, root } from './fake-memory.js';

export interface World {
  readonly mediator: Mediator;
  readonly clock: FakeClock;
  readonly memory: FakeMemory;
  readonly driver: FakeDriver;
  readonly backends: FakeBackendDriver;
  /** What backends and devices were asked to do, in order. */
  readonly journal: string[];
}

/** A mediator with one fake backend, one pinning driver `fakedrv` and its parent `gpu`. */
export async function startWorld(
  options: { backend?: FakeBackendOptions; maxInstances?: number } & Omit<Partial<MediatorOptions>, 'memory'> = {},
): Promise<World> {
  const journal: string[] = [];
  const clock = new FakeClock();
  const memory = new FakeMemory();
  const backends = new FakeBackendDriver(journal, options.backend);
  const driver = fakeDriver(journal, options.maxInstances === undefined ? {} : { maxInstances: options.maxInstances });
  const fakes = definePlugin({
    name: 'fakes',
    core: '^0.1',
    register(scope) {
      scope.backend(backends);
      scope.vendorDriver(driver);
    },
  });
  const plugins = [fakes, ...(options.plugins ?? [])];
  const mediator = await createMediator({ clock, memory, ...options, plugins });
  mediator.registerParent('gpu', driver.name);
  return { mediator, clock, memory, driver, backends, journal };
}

/** The UUID of the n-th mediated device of a test. */
export const uuid = (n: number): string => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

export interface Seat {
  readonly mdev: Mdev;
  readonly device: FakeDevice;
  readonly group: GroupFile;
  readonly file: DeviceFile;
  readonly container: Container;
}

export async function createMdev(world: World, n: number): Promise<{ mdev: Mdev; device: FakeDevice }> {
  const parent = found(world.mediator.parents.get('gpu'));
  const mdev = await parent.create('one', uuid(n));
  return { mdev, device: found(world.driver.devices.find((device) => device.name === mdev.uuid)) };
}

/** Creates mdev `n`, puts its group into `container` (default: a new one with the backend set) and opens it. */
export async function openMdev(world: World, n: number, container?: Container): Promise<Seat> {
  const { mdev, device } = await createMdev(world, n);
  const target = container ?? world.mediator.openContainer(root);
  const group = mdev.group.open(root);
  group.setContainer(target);
  if (target.backend === undefined) target.setIommu(EXTENSION.TYPE1v2_IOMMU);
  return { mdev, device, group, file: await group.openDevice(mdev.uuid), container: target };
}

/** Maps `count` pages at frame `first` to the host frames from `vaddr`. */
export function mapFrames(
  container: Container,
  first: number,
  count: number,
  vaddr = first,
  prot: Prot = PROT_RW,
): void {
  const [iova, size] = [BigInt(first) << 12n, BigInt(count) << 12n];
  container.mapDma({ iova, size, vaddr: BigInt(vaddr) << 12n, prot });
}

export const unmapFrames = (container: Container, first: number, count: number): ReturnType<Container['unmapDma']> =>
  container.unmapDma({ iova: BigInt(first) << 12n, size: BigInt(count) << 12n });

export const at = (frame: number): IovaFrame => asIovaFrame(frame);

/** The backend that was opened last. */
export const backendOf = (world: World): FakeBackend => found(world.backends.opened.at(-1));

export function found<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError('the test expected a value here');
  return value;
}
