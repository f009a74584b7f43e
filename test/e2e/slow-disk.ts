/** A plugin for `pinion serve`: the NVMe disk with blocks that take their time, so that commands are under way whenever one looks. */
import { definePlugin, type Plugin, systemClock } from '@pinion/core';
import { FileStore, type NamespaceStore, nvme } from '@pinion/example-nvme';

/** Milliseconds of every read and write. */
const DELAY = 150;

class SlowStore implements NamespaceStore {
  readonly #store: FileStore;

  constructor(image: string) {
    this.#store = new FileStore(image);
  }

  get size(): number {
    return this.#store.size;
  }

  get readOnly(): boolean {
    return this.#store.readOnly;
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    await this.#wait();
    this.#store.read(offset, into);
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    await this.#wait();
    this.#store.write(offset, from);
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#wait();
    this.#store.zero(offset, length);
  }

  flush(): Promise<void> {
    return this.#store.flush();
  }

  close(): void {
    this.#store.close();
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      systemClock.after(DELAY, resolve);
    });
  }
}

export default function slowDisk({ image = '' }: { readonly image?: string }): Plugin {
  const disk = nvme({ store: () => new SlowStore(image) });
  return definePlugin({
    name: 'slow-disk',
    core: disk.core,
    register: (scope) =>
      disk.register({ ...scope, vendorDriver: (driver) => scope.vendorDriver({ ...driver, name: 'slow-disk' }) }),
  });
}
