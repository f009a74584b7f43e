import { CONFIG, CONFIG_SIZE, EXPRESS_CONFIG_SIZE } from './registers.js';

/** A run of configuration bytes: what they are after reset, which bits software may write, which a written one clears. */
export interface ConfigField {
  readonly value: Uint8Array;
  readonly writable?: Uint8Array;
  readonly clearable?: Uint8Array;
}

/** Bytes before the capabilities. */
const HEADER_SIZE = 0x40;

interface Watcher {
  readonly first: number;
  readonly end: number;
  action(): void;
}

/**
 * The bytes of a configuration space with, for each bit, whether software may write it (RW), clear it (RW1C) or only look
 * (RO). Little endian, offsets and lengths in bytes. Source: PCI Express Base 4.0 section 7.4 (register types).
 */
export class ConfigSpace {
  readonly size: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #initial: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #watchers: Watcher[] = [];

  /** 4096 bytes with extended capabilities, else 256. */
  constructor(extended: boolean) {
    this.size = extended ? EXPRESS_CONFIG_SIZE : CONFIG_SIZE;
    this.#bytes = new Uint8Array(this.size);
    this.#view = new DataView(this.#bytes.buffer);
    this.#initial = new Uint8Array(this.size);
    this.#writable = new Uint8Array(this.size);
    this.#clearable = new Uint8Array(this.size);
  }

  /** Declares bytes at `offset`; what was declared there before is replaced. */
  define(offset: number, field: ConfigField): void {
    this.#bytes.set(field.value, offset);
    this.#initial.set(field.value, offset);
    this.#writable.set(field.writable ?? new Uint8Array(field.value.length), offset);
    this.#clearable.set(field.clearable ?? new Uint8Array(field.value.length), offset);
  }

  /** Changes what bytes are now and after a reset; their masks stay. */
  preset(offset: number, bytes: readonly number[]): void {
    this.#bytes.set(bytes, offset);
    this.#initial.set(bytes, offset);
  }

  /** Calls `action` after each write by software that touches one of these bytes, even if it changes nothing. */
  watch(offset: number, length: number, action: () => void): void {
    this.#watchers.push({ first: offset, end: offset + length, action });
  }

  get8(offset: number): number {
    return this.#view.getUint8(offset);
  }

  get16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }

  get32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  /** The device's own side: no mask, no watcher. */
  set16(offset: number, value: number): void {
    this.#view.setUint16(offset, value, true);
  }

  set32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  /** What software reads. Bytes beyond the end read as ones. */
  read(offset: number, into: Uint8Array): void {
    into.fill(0xff);
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /** What software writes: RO bits stay, RW1C bits go out where a one is written. Bytes beyond the end are dropped. */
  write(offset: number, bytes: Uint8Array): void {
    const length = Math.min(bytes.length, this.size - offset);
    for (let n = 0; n < length; n += 1) this.#writeByte(offset + n, bytes[n] ?? 0);
    for (const { first, end, action } of this.#watchers) if (first < offset + length && offset < end) action();
  }

  /** A copy of all bytes. */
  save(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Why bytes cannot be a saved copy of this space, or of one like it: another size, or another function. */
  problemWith(saved: Uint8Array): string | undefined {
    if (saved.length !== this.size) return `${saved.length} bytes of configuration space, not ${this.size}`;
    const differs = saved.findIndex((byte, n) => ((byte ^ (this.#initial[n] ?? 0)) & this.#fixed(n)) !== 0);
    return differs < 0 ? undefined : `configuration byte ${differs} is that of another function`;
  }

  /** Takes over what software may have changed in a saved copy, and nothing else. Every watcher is called. */
  load(saved: Uint8Array): void {
    for (let n = 0; n < this.size; n += 1) {
      const software = (this.#writable[n] ?? 0) | (this.#clearable[n] ?? 0);
      this.#bytes[n] = ((this.#bytes[n] ?? 0) & ~software) | ((saved[n] ?? 0) & software);
    }
    for (const { action } of this.#watchers) action();
  }

  /** Every byte as it was declared. No watcher is called. */
  reset(): void {
    this.#bytes.set(this.#initial);
  }

  /** Bits of the header that nobody ever changes: not software, nor the device, which speaks through the status register. */
  #fixed(at: number): number {
    if (at === CONFIG.STATUS || at === CONFIG.STATUS + 1 || at >= HEADER_SIZE) return 0;
    return ~((this.#writable[at] ?? 0) | (this.#clearable[at] ?? 0)) & 0xff;
  }

  #writeByte(at: number, value: number): void {
    const writable = this.#writable[at] ?? 0;
    const kept = (this.#bytes[at] ?? 0) & ~writable;
    this.#bytes[at] = (kept | (value & writable)) & ~(value & (this.#clearable[at] ?? 0));
  }
}
