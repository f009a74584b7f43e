import { vfioUserErrors } from './errors.js';

/** Length before field. @throws VFIOUSER_BAD_SIZE (EINVAL) when the payload is shorter than `need` bytes. */
export function checkSize(command: number, payload: Uint8Array, need: number): void {
  if (payload.length < need) throw vfioUserErrors.BAD_SIZE({ command, size: payload.length, need });
}

/** @throws VFIOUSER_BAD_SIZE (EINVAL) when the payload is not exactly `need` bytes. */
export function checkExactSize(command: number, payload: Uint8Array, need: number | bigint): void {
  if (typeof need === 'number' ? payload.length !== need : BigInt(payload.length) !== need) {
    throw vfioUserErrors.BAD_SIZE({ command, size: payload.length, need });
  }
}

/** @throws VFIOUSER_BAD_ARGSZ (EINVAL). */
export function checkArgsz(command: number, argsz: number, min: number): void {
  if (argsz < min) throw vfioUserErrors.BAD_ARGSZ({ command, argsz, min });
}

/** Every bit must be known: a remainder means a newer or a broken peer. @throws VFIOUSER_BAD_FLAGS (EINVAL). */
export function checkFlags(command: number, flags: number, known: number): void {
  const rest = (flags & ~known) >>> 0;
  if (rest !== 0) throw vfioUserErrors.BAD_FLAGS({ command, flags, problem: `0x${rest.toString(16)} is unknown` });
}

/** Bytes one after the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
