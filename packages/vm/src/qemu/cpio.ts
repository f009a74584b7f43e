const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const ALIGNMENT = 4;
const KIND = { file: 0o100000, folder: 0o040000, link: 0o120000, character: 0o020000 } as const;

interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly device?: readonly [major: number, minor: number];
}

/**
 * An archive that Linux unpacks into its first root file system ("newc"). Paths have no slash in front; folders above an entry are
 * made by themselves; of two entries with one path the later one counts. Archives may be joined by writing one behind the other.
 * Source: Linux, Documentation/driver-api/early-userspace/buffer-format.
 */
export class CpioArchive {
  readonly #entries = new Map<string, Entry>();

  /** `mode`: permissions, default 0o644. */
  file(path: string, data: Uint8Array | string, mode = 0o644): this {
    return this.#add({ path, mode: KIND.file | mode, data: bytesOf(data) });
  }

  folder(path: string): this {
    return this.#add({ path, mode: KIND.folder | 0o755, data: new Uint8Array(0) });
  }

  link(path: string, target: string): this {
    return this.#add({ path, mode: KIND.link | 0o777, data: bytesOf(target) });
  }

  characterDevice(path: string, major: number, minor: number): this {
    return this.#add({ path, mode: KIND.character | 0o600, data: new Uint8Array(0), device: [major, minor] });
  }

  /** The archive, uncompressed: unpacking it is a copy in the guest. */
  bytes(): Uint8Array {
    const parts: Uint8Array[] = [];
    let inode = 1;
    for (const entry of this.#entries.values()) parts.push(...encoded(entry, inode++));
    parts.push(...encoded({ path: TRAILER, mode: 0, data: new Uint8Array(0) }, 0));
    return Buffer.concat(parts);
  }

  #add(entry: Entry): this {
    const parent = entry.path.slice(0, Math.max(entry.path.lastIndexOf('/'), 0));
    if (parent !== '' && !this.#entries.has(parent)) this.folder(parent);
    this.#entries.set(entry.path, entry);
    return this;
  }
}

const bytesOf = (data: Uint8Array | string): Uint8Array => (typeof data === 'string' ? Buffer.from(data) : data);
const padding = (length: number): Uint8Array => new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);

function encoded({ path, mode, data, device = [0, 0] }: Entry, inode: number): Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, device[0], device[1], name.length, 0];
  const header = Buffer.from(MAGIC + fields.map((field) => field.toString(16).padStart(8, '0')).join(''));
  return [header, name, padding(header.length + name.length), data, padding(data.length)];
}
