import { ADDRESS_SPACE_SIZE } from '@pinion/core';
import { tceErrors } from './errors.js';

/** The argument of an ioctl: read field by field, because whoever calls may be broken or hostile. */
export class Struct {
  readonly #operation: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  /** @throws TCE_UNREADABLE (EFAULT) for what is no struct. */
  constructor(operation: string, argument: unknown) {
    if (typeof argument !== 'object' || argument === null) throw tceErrors.UNREADABLE({ operation });
    this.#operation = operation;
    this.#fields = { ...argument };
  }

  /** A 32-bit field, or `fallback` if it is not given. @throws TCE_BAD_NUMBER (EINVAL). */
  u32(field: string, fallback?: number): number {
    const value = this.#fields[field] ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value;
    throw this.#bad(field, value);
  }

  /** A 64-bit field. @throws TCE_BAD_NUMBER (EINVAL). */
  u64(field: string): bigint {
    const value = this.#fields[field];
    if (typeof value === 'bigint' && value >= 0n && value < ADDRESS_SPACE_SIZE) return value;
    throw this.#bad(field, value);
  }

  /** Refuses a struct that is shorter than `min` bytes or has unknown flags. @throws TCE_BAD_ARGSZ, TCE_BAD_FLAGS (EINVAL). */
  checkHeader(min: number): void {
    const argsz = this.u32('argsz', min);
    if (argsz < min) throw tceErrors.BAD_ARGSZ({ operation: this.#operation, argsz, min });
    const flags = this.u32('flags', 0);
    if (flags !== 0) throw tceErrors.BAD_FLAGS({ operation: this.#operation, flags });
  }

  #bad(what: string, value: unknown): unknown {
    return tceErrors.BAD_NUMBER({ operation: this.#operation, what, value: String(value) });
  }
}
