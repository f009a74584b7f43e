import { constants } from 'node:os';

/** Errnos that Linux has and Node does not name. Source: asm-generic/errno.h. */
const UNNAMED = { EBADRQC: 56, EBADFD: 77, EUSERS: 87, ESHUTDOWN: 108, ETOOMANYREFS: 109, EHWPOISON: 133 } as const;
const ERRNO_NUMBERS: Readonly<Record<string, number>> = { ...UNNAMED, ...constants.errno };
/** Second names of errnos that have two. */
const ALIASES: readonly string[] = ['EWOULDBLOCK', 'ENOTSUP'];
const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ERRNO_NUMBERS)
    .filter(([name]) => !ALIASES.includes(name))
    .map(([name, number]) => [number, name]),
);

/** The name of an errno number of this system, or `E<number>` for one that Node does not know. */
export const errnoName = (number: number): string => ERRNO_NAMES.get(number) ?? `E${number}`;

/**
 * The one error class of this package, of the same shape as core's: `name` is a row of the catalogue below, `errno` the
 * name of a Linux errno, the message says what, where and what to do. `sys` may not import core, hence a class of its own.
 */
export class SysError extends Error {
  override readonly name: string;
  readonly errno: string;

  constructor(name: string, errno: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = name;
    this.errno = errno;
  }

  /** The errno as the positive number that goes over a wire. */
  get code(): number {
    return ERRNO_NUMBERS[this.errno] ?? Number(this.errno.slice(1));
  }

  /** One line for people: `NAME (ERRNO): message`. */
  override toString(): string {
    return `${this.name} (${this.errno}): ${this.message}`;
  }
}

// why (never): a row may take any detail object; `never` lets rows with different details stand in one record.
type Row = readonly [errno: string, message: (details: never) => string];
type Factory<R extends Row> = R[1] extends (details: infer D) => string
  ? (details: D, cause?: unknown) => SysError
  : never;
type Catalogue<Rows extends Record<string, Row>> = { readonly [Name in keyof Rows]: Factory<Rows[Name]> };

/** One factory per row; a row whose details carry an errno number takes that instead of its own. */
function catalogue<const Rows extends Record<string, Row>>(prefix: string, rows: Rows): Catalogue<Rows> {
  const factories: Record<string, (details: never, cause?: unknown) => SysError> = {};
  for (const [name, [errno, message]] of Object.entries(rows)) {
    factories[name] = (details: { readonly errno?: number }, cause) => {
      const own = details.errno === undefined ? errno : errnoName(details.errno);
      return new SysError(`${prefix}_${name}`, own, message(details as never), cause); // why: its row's details, by type
    };
  }
  return factories as Catalogue<Rows>; // why: the loop above makes exactly one factory per key of Rows
}

/** What this package refuses, and why. The README's table is tested against this one. */
export const sysErrors = catalogue('SYS', {
  UNSUPPORTED: [
    'EOPNOTSUPP',
    (d: { platform: string; arch: string; problem: string }) =>
      `native calls need Linux on x64 or arm64; this is ${d.platform} on ${d.arch}: ${d.problem}`,
  ],
  CALL_FAILED: [
    'EIO',
    (d: { call: string; what: string; errno: number }) => `${d.call}(${d.what}) failed with ${errnoName(d.errno)}`,
  ],
  BAD_ARGUMENT: [
    'EINVAL',
    (d: { operation: string; what: string; value: unknown; wanted: string }) =>
      `${d.operation}: ${d.what} is ${String(d.value)}; it must be ${d.wanted}`,
  ],
  FD_CLOSED: ['EBADF', (d: { label: string }) => `the file descriptor '${d.label}' is closed or was given away`],
  NOT_SEALED: [
    'EPERM',
    (d: { label: string; problem: string }) =>
      `map ${d.label}: ${d.problem}, so its owner could shrink it and kill this process; seal it with F_SEAL_SHRINK or use pread and pwrite`,
  ],
  NOT_MEMORY: [
    'EINVAL',
    (d: { label: string; problem: string }) => `${d.label} cannot be used as memory: ${d.problem}`,
  ],
  BEYOND_FILE: [
    'EINVAL',
    (d: { label: string; offset: bigint; length: number; size: bigint }) =>
      `${d.label}: ${d.length} bytes at offset ${d.offset} go past the end of the file, which has ${d.size} bytes`,
  ],
  OUT_OF_RANGE: [
    'EFAULT',
    (d: { label: string; offset: number; length: number; size: number }) =>
      `${d.label}: ${d.length} bytes at offset ${d.offset} do not lie within its ${d.size} bytes`,
  ],
  SPANS_WINDOWS: [
    'ERANGE',
    (d: { label: string; offset: number; length: number; window: number }) =>
      `${d.label}: ${d.length} bytes at offset ${d.offset} cross a window boundary (every ${d.window} bytes); use pieces() or read() and write()`,
  ],
  UNMAPPED: ['EFAULT', (d: { label: string; operation: string }) => `${d.operation}: the mapping '${d.label}' is gone`],
  READ_ONLY: ['EPERM', (d: { label: string }) => `write: '${d.label}' was opened for reading`],
  SHRUNK: [
    'EFAULT',
    (d: { label: string; offset: number; length: number; done: number }) =>
      `${d.label}: only ${d.done} of ${d.length} bytes at offset ${d.offset} exist; somebody truncated the file`,
  ],
  NOT_EVENTFD: ['EINVAL', (d: { label: string; target: string }) => `${d.label} is no eventfd but ${d.target}`],
  NOT_POLLABLE: ['EPERM', (d: { fd: number; problem: string }) => `fd ${d.fd} cannot be watched: ${d.problem}`],
  WOULD_HANG: [
    'EDEADLK',
    (d: { operation: string }) => `${d.operation}: nothing is ready, and in memory nothing ever comes while we wait`,
  ],
  NO_IDENTITY: [
    'EOPNOTSUPP',
    (d: { target: string }) => `kcmp is not permitted here, and two fds of ${d.target} cannot be told apart without it`,
  ],
});

/** Throws SYS_BAD_ARGUMENT unless `value` is a whole number in `min`..`max`. */
export function checkWhole(
  operation: string,
  what: string,
  value: number,
  [min, max]: readonly [number, number],
): void {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw sysErrors.BAD_ARGUMENT({ operation, what, value, wanted: `a whole number from ${min} to ${max}` });
  }
}

/** The largest file offset of Linux (loff_t), bytes. */
export const MAX_OFFSET = (1n << 63n) - 1n;

/** Throws SYS_BAD_ARGUMENT unless `value` is a file offset or size: 0..2^63-1 bytes. */
export function checkOffset(operation: string, what: string, value: bigint): void {
  if (typeof value !== 'bigint' || value < 0n || value > MAX_OFFSET) {
    throw sysErrors.BAD_ARGUMENT({ operation, what, value, wanted: 'a bigint from 0 to 2^63-1' });
  }
}

const MAX_FD = 0x7fff_ffff;
/** Throws SYS_BAD_ARGUMENT unless `fd` could be a file descriptor. On every path, so the good case comes first. */
export function checkFd(operation: string, fd: number): void {
  if ((fd | 0) !== fd || fd < 0) checkWhole(operation, 'the fd', fd, [0, MAX_FD]);
}

/** Throws SYS_OUT_OF_RANGE unless `length` bytes at `offset` lie within `memory`. Zero bytes may stand at its end. */
export function checkSlice(memory: { label: string; length: number }, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (!whole || offset < 0 || length < 0 || offset + length > memory.length) {
    throw sysErrors.OUT_OF_RANGE({ label: memory.label, offset, length, size: memory.length });
  }
}
