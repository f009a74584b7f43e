/** What the backend stands on in its benchmark: memory and devices that cost next to nothing. */
import {
  type AddressSpace,
  asPfn,
  type BackendDevice,
  type BackendGroup,
  type BackendHost,
  EXTENSION,
  type FrameRange,
  type HostMemory,
  type IommuBackend,
  type Task,
} from '@pinion/core';
import { createType1Driver } from '@pinion/type1';

export const memory: HostMemory = {
  pageClass: () => 'normal',
  bytes: () => new Uint8Array(0),
  contiguous: () => false,
  unpinPage: () => {},
};

class FakeSpace implements AddressSpace {
  readonly name = 'bench';
  readonly alive = true;
  lockedPages = 0;
  grab(): void {}
  drop(): void {}
  accountLocked(delta: number): void {
    this.lockedPages += delta;
  }
  pinPage(page: number): ReturnType<typeof asPfn> {
    return asPfn(page + 7);
  }
  copy(): boolean {
    return true;
  }
}

export const task: Task = {
  name: 'bench',
  mm: new FakeSpace(),
  lockLimit: Number.POSITIVE_INFINITY,
  ipcLock: false,
  rawIo: false,
};

const host: BackendHost = { container: 'bench', memory, warn: () => {}, mapped: () => {}, unmapped: () => {} };
export const group: BackendGroup = { id: 1, name: 'bench', type: 'emulated' };
/** Room for more mappings than any case needs. */
export const LIMITS = { dmaEntryLimit: 1 << 20 };

/** A backend with one emulated group and `devices` open devices; only the first does something when asked to unpin. */
export async function openBackend(
  devices: number,
  onUnmap: (range: FrameRange) => void = () => {},
): Promise<Required<IommuBackend>> {
  const backend = createType1Driver({ parameters: () => LIMITS }).open(EXTENSION.TYPE1v2_IOMMU, host, task);
  backend.attachGroup(group, task);
  for (let i = 0; i < devices; i++) await backend.registerDevice?.(fakeDevice(i === 0 ? onUnmap : () => {}));
  return backend as Required<IommuBackend>; // why: type1 has every optional operation
}

const fakeDevice = (onUnmap: (range: FrameRange) => void): BackendDevice => ({
  name: 'bench',
  driver: 'bench',
  group,
  hasDmaUnmap: true,
  dmaUnmap: async (range) => onUnmap(range),
  pinnedFrames: () => [],
});
