/** Linux errno numbers that this project answers with. Source: asm-generic/errno-base.h, errno.h. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ERANGE: 34,
  EDEADLK: 35,
  EBADRQC: 56,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EBADFD: 77,
  EUSERS: 87,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ETIMEDOUT: 110,
  ECANCELED: 125,
} as const;

/** The name of an errno that this project can answer. */
export type Errno = keyof typeof ERRNO;

/**
 * The one error class. `name` is a row of a package's catalogue and never changes its meaning; `errno` is what an
 * ioctl would have returned; the message says what, where, who and what to do.
 */
export class PinionError extends Error {
  override readonly name: string;
  readonly errno: Errno;

  constructor(name: string, errno: Errno, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = name;
    this.errno = errno;
  }

  /** The errno as the positive number that goes over a wire. */
  get code(): number {
    return ERRNO[this.errno];
  }

  /** One line for people: `NAME (ERRNO): message`. */
  override toString(): string {
    return `${this.name} (${this.errno}): ${this.message}`;
  }
}

// why (never): a row may take any detail object; `never` lets rows with different details stand in one record.
type Row = readonly [errno: Errno, message: (details: never) => string];
type Factory<R extends Row> = R[1] extends (details: infer D) => string
  ? (details: D, cause?: unknown) => PinionError
  : never;
/** What `catalogue` makes: one factory of errors per row, under the row’s short name. */
export type Catalogue<Rows extends Record<string, Row>> = { readonly [Name in keyof Rows]: Factory<Rows[Name]> };

/**
 * Declares a package's errors: name, errno, message. Returns one factory per row, which makes (does not throw) the error.
 * A row's name is prefixed with the package's, so `catalogue('TYPE1', { OVERLAP: … })` makes `TYPE1_OVERLAP`.
 */
export function catalogue<const Rows extends Record<string, Row>>(prefix: string, rows: Rows): Catalogue<Rows> {
  const factories: Record<string, (details: never, cause?: unknown) => PinionError> = {};
  for (const [name, [errno, message]] of Object.entries(rows)) {
    factories[name] = (details, cause) => new PinionError(`${prefix}_${name}`, errno, message(details), cause);
  }
  return factories as Catalogue<Rows>; // why: the loop above makes exactly one factory per key of Rows
}

/** The errors of a catalogue as rows for its documentation and the test that compares the two. */
export const errorNames = (prefix: string, errors: Catalogue<Record<string, Row>>): string[] =>
  Object.keys(errors).map((name) => `${prefix}_${name}`);

/** `error` as a PinionError of that errno, if it is one. */
export const isErrno = (error: unknown, errno: Errno): error is PinionError =>
  error instanceof PinionError && error.errno === errno;
