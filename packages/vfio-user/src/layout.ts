/** One field of a wire struct: where it stands and how it is read and written. Numbers are little endian. */
export interface Field<T extends number | bigint> {
  /** Bytes from the start of the struct. */
  readonly at: number;
  get(bytes: Uint8Array, base: number): T;
  put(bytes: Uint8Array, base: number, value: T): void;
}

// why bytes and no DataView: a view costs more to make than a field to read, and messages come by the hundred thousand.
const low = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
const word = (bytes: Uint8Array, at: number): number => (low(bytes, at) | (low(bytes, at + 2) << 16)) >>> 0;

function putWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

export const u16 = (at: number): Field<number> => ({
  at,
  get: (bytes, base) => low(bytes, base + at),
  put: (bytes, base, value) => {
    bytes[base + at] = value;
    bytes[base + at + 1] = value >>> 8;
  },
});

export const u32 = (at: number): Field<number> => ({
  at,
  get: (bytes, base) => word(bytes, base + at),
  put: (bytes, base, value) => putWord(bytes, base + at, value),
});

const HIGH = 32n;
const LOW_WORD = 0xffff_ffffn;

export const u64 = (at: number): Field<bigint> => ({
  at,
  get: (bytes, base) => {
    const high = word(bytes, base + at + 4);
    const value = BigInt(word(bytes, base + at));
    return high === 0 ? value : value | (BigInt(high) << HIGH);
  },
  put: (bytes, base, value) => {
    putWord(bytes, base + at, Number(value & LOW_WORD));
    putWord(bytes, base + at + 4, Number((value >> HIGH) & LOW_WORD));
  },
});

type Fields = Readonly<Record<string, Field<number> | Field<bigint>>>;
/** The values of a struct, by field. */
export type Values<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** The table of a wire struct: the only place that knows where its fields stand. */
export class Layout<const F extends Fields> {
  /** Bytes of the struct. */
  readonly size: number;
  readonly fields: F;
  readonly #names: readonly string[];
  readonly #list: readonly Field<number | bigint>[];

  constructor(size: number, fields: F) {
    this.size = size;
    this.fields = fields;
    this.#names = Object.keys(fields);
    // why: a field is only ever given a value that it made itself or that `Values` typed for it
    this.#list = Object.values(fields) as unknown as readonly Field<number | bigint>[];
  }

  /** The struct at `at` bytes into `bytes`. The caller has checked that it is all there. */
  read(bytes: Uint8Array, at = 0): Values<F> {
    const values: Record<string, number | bigint> = {};
    for (let i = 0; i < this.#names.length; i += 1) values[this.#names[i] ?? ''] = this.#list[i]?.get(bytes, at) ?? 0;
    return values as Values<F>; // why: the loop above sets exactly the keys of F, each from its own field
  }

  /** Writes the struct at `at` bytes into `bytes`. The caller has made the room. */
  write(bytes: Uint8Array, values: Values<F>, at = 0): void {
    for (let i = 0; i < this.#names.length; i += 1) this.#list[i]?.put(bytes, at, values[this.#names[i] as keyof F]); // why: a key of F
  }

  /** The struct as new bytes, with room for `more` zero bytes behind it. */
  encode(values: Values<F>, more = 0): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.size + more);
    this.write(bytes, values);
    return bytes;
  }
}
