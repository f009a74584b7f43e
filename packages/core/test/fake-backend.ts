import {
  type BackendDevice,
  type BackendGroup,
  type BackendHost,
  type BackendStats,
  catalogue,
  EXTENSION,
  type FrameRange,
  frameRange,
  type InfoResult,
  type IommuBackend,
  type IommuBackendDriver,
  type IovaFrame,
  iovaFrame,
  MAP_FLAG,
  type MapRequest,
  type PinPolicy,
  PROT_READ,
  PROT_WRITE,
  type Prot,
  rangeHolds,
  UNMAP_FLAG,
  type UnmapRequest,
  type UnmapResult,
  vaddrFrame,
} from '@pinion/core';

export const fakeErrors = catalogue('FAKE', {
  ATTACH: ['EPERM', (d: { backend: string; group: string }) => `${d.backend} refuses group ${d.group}`],
  OPEN: ['ENOMEM', (d: { backend: string }) => `${d.backend} cannot be opened`],
  HOLE: ['EINVAL', (d: { frame: number }) => `frame ${d.frame} is not mapped`],
  PROT: ['EPERM', (d: { frame: number }) => `frame ${d.frame} may not be written`],
  PIN_LEAK: ['EBUSY', (d: { devices: readonly string[] }) => `still pinned: ${d.devices.join(', ')}`],
});

/** What a fake backend does otherwise than nothing. */
export interface FakeBackendOptions {
  readonly name?: string;
  readonly types?: readonly number[];
  readonly noiommu?: boolean;
  readonly policy?: PinPolicy;
  /** Groups that `attachGroup` refuses. */
  readonly refuses?: readonly string[];
  readonly failsOpen?: boolean;
  /** Answers of CHECK_EXTENSION besides the types. */
  readonly extensions?: Readonly<Record<number, number>>;
}

interface Mapping {
  readonly range: FrameRange;
  readonly vaddr: number;
  readonly prot: Prot;
}

/** Maps and attaches, and nothing else: a backend that cannot pin. Writes every call into the journal. */
export class BareBackend implements IommuBackend {
  readonly host: BackendHost;
  readonly journal: string[];
  readonly options: FakeBackendOptions;
  readonly name: string;
  protected readonly mappings: Mapping[] = [];

  constructor(host: BackendHost, journal: string[], options: FakeBackendOptions) {
    this.host = host;
    this.journal = journal;
    this.options = options;
    this.name = options.name ?? 'fake';
  }

  attachGroup(group: BackendGroup): void {
    this.journal.push(`${this.name}.attach ${group.name}`);
    if (this.options.refuses?.includes(group.name) === true) {
      throw fakeErrors.ATTACH({ backend: this.name, group: group.name });
    }
  }

  detachGroup(group: BackendGroup): void {
    this.journal.push(`${this.name}.detach ${group.name}`);
  }

  release(): void {
    for (const mapping of this.mappings.splice(0)) this.host.unmapped(mapping.range);
    this.journal.push(`${this.name}.release`);
  }

  map(request: MapRequest): void {
    const range = frameRange(iovaFrame(request.iova), Number(request.size >> 12n));
    const prot = (request.flags & MAP_FLAG.READ ? PROT_READ : 0) | (request.flags & MAP_FLAG.WRITE ? PROT_WRITE : 0);
    this.mappings.push({ range, vaddr: vaddrFrame(request.vaddr), prot });
    this.mappings.sort((a, b) => a.range.first - b.range.first);
    this.host.mapped(range, prot);
  }

  async unmap(request: UnmapRequest): Promise<UnmapResult> {
    let size = 0n;
    for (const mapping of [...this.mappings]) {
      if ((request.flags & UNMAP_FLAG.ALL) === 0 && !inside(mapping, request)) continue;
      await this.beforeRemove(mapping.range);
      this.mappings.splice(this.mappings.indexOf(mapping), 1);
      this.host.unmapped(mapping.range);
      size += BigInt(mapping.range.last - mapping.range.first + 1) << 12n;
    }
    return { size };
  }

  info(): InfoResult {
    return { argsz: 24, flags: 1, pgsizes: 4096n, capabilities: [] };
  }

  get stats(): BackendStats {
    const mappedBytes = this.mappings.reduce(
      (sum, { range }) => sum + (BigInt(range.last - range.first + 1) << 12n),
      0n,
    );
    return { mappings: this.mappings.length, mappedBytes, pinnedPages: 0, lockedPages: 0 };
  }

  protected async beforeRemove(_range: FrameRange): Promise<void> {}
}

/** Pins too: counts per page, host frame = vaddr frame, two rounds of callbacks before a pin is called a leak. */
export class FakeBackend extends BareBackend {
  readonly devices: BackendDevice[] = [];
  readonly pinned = new Map<number, number>();

  get pinPolicy(): PinPolicy {
    return this.options.policy ?? { foreignUnpin: 'refused', leftAtClose: 'released' };
  }

  async registerDevice(device: BackendDevice): Promise<void> {
    this.journal.push(`${this.name}.register ${device.name}`);
    this.devices.unshift(device);
  }

  async unregisterDevice(device: BackendDevice): Promise<void> {
    this.journal.push(`${this.name}.unregister ${device.name}`);
    this.devices.splice(this.devices.indexOf(device), 1);
  }

  pinPages(
    _group: BackendGroup,
    first: IovaFrame,
    _offset: number,
    count: number,
    prot: Prot,
    out: Float64Array,
  ): void {
    const frames = Array.from({ length: count }, (_, page) => this.#translate(first + page, prot));
    out.set(frames);
    for (let page = 0; page < count; page += 1) {
      this.pinned.set(first + page, (this.pinned.get(first + page) ?? 0) + 1);
    }
  }

  unpinPages(first: IovaFrame, _offset: number, count: number): void {
    this.journal.push(`${this.name}.unpin ${first}+${count}`);
    for (let frame: number = first; frame < first + count; frame += 1) {
      const left = (this.pinned.get(frame) ?? 0) - 1;
      if (left > 0) this.pinned.set(frame, left);
      else this.pinned.delete(frame);
    }
  }

  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean): void {
    this.journal.push(`${this.name}.${write ? 'write' : 'read'} ${iova}+${bytes.length}`);
  }

  override get stats(): BackendStats {
    return { ...super.stats, pinnedPages: this.pinned.size };
  }

  protected override async beforeRemove(range: FrameRange): Promise<void> {
    for (let round = 0; round < 2 && this.#holders(range).length > 0; round += 1) {
      for (const device of [...this.devices]) if (device.hasDmaUnmap) await device.dmaUnmap(range);
    }
    const devices = this.#holders(range);
    if (devices.length > 0) throw fakeErrors.PIN_LEAK({ devices });
  }

  #holders(range: FrameRange): string[] {
    return this.devices.filter((device) => device.pinnedFrames(range).length > 0).map((device) => device.name);
  }

  #translate(frame: number, prot: Prot): number {
    const mapping = this.mappings.find((candidate) => rangeHolds(candidate.range, frame));
    if (mapping === undefined) throw fakeErrors.HOLE({ frame });
    if ((mapping.prot & prot) !== prot) throw fakeErrors.PROT({ frame });
    return mapping.vaddr + frame - mapping.range.first;
  }
}

const inside = ({ range }: Mapping, request: UnmapRequest): boolean =>
  range.first >= iovaFrame(request.iova) && range.last <= iovaFrame(request.iova + request.size - 1n);

/** A backend driver that remembers every backend it opened. */
export class FakeBackendDriver implements IommuBackendDriver {
  readonly name: string;
  readonly noiommu: boolean;
  readonly opened: FakeBackend[] = [];
  readonly #options: FakeBackendOptions;
  readonly #journal: string[];

  constructor(journal: string[], options: FakeBackendOptions = {}) {
    this.name = options.name ?? 'fake';
    this.noiommu = options.noiommu ?? false;
    this.#options = options;
    this.#journal = journal;
  }

  checkExtension(extension: number, backend?: IommuBackend): number {
    this.#journal.push(`${this.name}.check ${extension}${backend === undefined ? '' : ' open'}`);
    const types = this.#options.types ?? [EXTENSION.TYPE1v2_IOMMU];
    return types.includes(extension) ? 1 : (this.#options.extensions?.[extension] ?? 0);
  }

  open(_type: number, host: BackendHost): IommuBackend {
    this.#journal.push(`${this.name}.open`);
    if (this.#options.failsOpen === true) throw fakeErrors.OPEN({ backend: this.name });
    const backend = new FakeBackend(host, this.#journal, this.#options);
    this.opened.push(backend);
    return backend;
  }
}
