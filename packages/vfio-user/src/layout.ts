/** One field of a wire struct: where it stands and how it is read and written. Numbers are little endian. */
export interface Field<T extends number | bigint> {
  /** Bytes from the start of the struct. */
  readonly at: number;
  get(view: DataView, base: number): T;
  put(view: DataView, base: number, value: T): void;
}

export const u16 = (at: number): Field<number> => ({
  at,
  get: (view, base) => view.getUint16(base + at, true),
  put: (view, base, value) => view.setUint16(base + at, value, true),
});

export const u32 = (at: number): Field<number> => ({
  at,
  get: (view, base) => view.getUint32(base + at, true),
  put: (view, base, value) => view.setUint32(base + at, value, true),
});

export const u64 = (at: number): Field<bigint> => ({
  at,
  get: (view, base) => view.getBigUint64(base + at, true),
  put: (view, base, value) => view.setBigUint64(base + at, value, true),
});

type Fields = Readonly<Record<string, Field<number> | Field<bigint>>>;
/** The values of a struct, by field. */
export type Values<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** The table of a wire struct: the only place that knows where its fields stand. */
export class Layout<const F extends Fields> {
  /** Bytes of the struct. */
  readonly size: number;
  readonly fields: F;
  readonly #entries: readonly (readonly [string, Field<number | bigint>])[];

  constructor(size: number, fields: F) {
    this.size = size;
    this.fields = fields;
    // why: a field is only ever given a value that it made itself or that `Values` typed for it
    this.#entries = Object.entries(fields) as unknown as readonly (readonly [string, Field<number | bigint>])[];
  }

  /** The struct at `at` bytes into `bytes`. The caller has checked that it is all there. */
  read(bytes: Uint8Array, at = 0): Values<F> {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, this.size);
    const values: Record<string, number | bigint> = {};
    for (const [name, field] of this.#entries) values[name] = field.get(view, 0);
    return values as Values<F>; // why: the loop above sets exactly the keys of F, each from its own field
  }

  /** Writes the struct at `at` bytes into `bytes`. The caller has made the room. */
  write(bytes: Uint8Array, values: Values<F>, at = 0): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, this.size);
    for (const [name, field] of this.#entries) field.put(view, 0, values[name as keyof F]); // why: a key of F
  }

  /** The struct as new bytes, with room for `more` zero bytes behind it. */
  encode(values: Values<F>, more = 0): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.size + more);
    this.write(bytes, values);
    return bytes;
  }
}
