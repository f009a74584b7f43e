import { checkOffset } from './errors.js';
import { Fd } from './fd.js';
import { SEAL, type Sys } from './sys.js';

/** The seals of guest memory: its size never changes again, and no further seal can be added. */
export const FIXED_SIZE = SEAL.SHRINK | SEAL.GROW | SEAL.SEAL;

/**
 * A memfd of a given size, sealed. `size`: bytes. `seals`: bits of `SEAL`; by default its size is fixed, so that any
 * process may map it without fear.
 * @throws SysError SYS_BAD_ARGUMENT (EINVAL), SYS_CALL_FAILED (EMFILE, ENOMEM, ...). Nothing is left open then.
 */
export function createMemfd(sys: Sys, name: string, size: bigint, seals: number = FIXED_SIZE): Fd {
  checkOffset('createMemfd', 'the size', size);
  const fd = new Fd(sys, sys.memfd(name), `memfd ${name}`);
  try {
    sys.truncate(fd.number, size);
    if (seals !== 0) sys.addSeals(fd.number, seals);
    return fd;
  } catch (failure) {
    fd.close();
    throw failure;
  }
}
