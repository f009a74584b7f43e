import { SysError } from './errors.js';
import { FileWindow } from './file-window.js';
import { checkSealed, Mapping } from './mapping.js';
import { checkWindow, type WindowRequest } from './memory-window.js';

/**
 * Maps a part of a file as live memory. Only memory that cannot shrink under us is mapped: the fd must carry F_SEAL_SHRINK.
 * @throws SysError SYS_NOT_SEALED (EPERM), SYS_NOT_MEMORY, SYS_BEYOND_FILE, SYS_BAD_ARGUMENT (EINVAL), SYS_CALL_FAILED
 * (ENOMEM, EACCES, EPERM, ...). Nothing is mapped then.
 */
export function mapFile(request: WindowRequest): Mapping {
  checkSealed(request); // before the size: what is sealed afterwards could have shrunk in between
  checkWindow(request);
  return new Mapping(request);
}

/**
 * A part of a file as memory: mapped if it is sealed, else reached by pread and pwrite, so that a peer who truncates it
 * causes an error and not a signal. @throws as `mapFile`, except SYS_NOT_SEALED.
 */
export function openMemory(request: WindowRequest): Mapping | FileWindow {
  try {
    return mapFile(request);
  } catch (failure) {
    if (!(failure instanceof SysError) || failure.name !== 'SYS_NOT_SEALED') throw failure;
    checkWindow(request);
    return new FileWindow(request);
  }
}
