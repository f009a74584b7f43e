import { SysError, sysErrors } from './errors.js';
import { FileWindow } from './file-window.js';
import { Mapping } from './mapping.js';
import { checkWindow, type WindowRequest } from './memory-window.js';
import { SEAL } from './sys.js';

/** What the seals of a file say: whether it can have any, and why it may shrink, if it may. */
interface Seals {
  readonly sealable: boolean;
  readonly problem?: string;
}

/**
 * Asked before the size of a file: what is sealed afterwards could have shrunk in between. Asked of any fd without a wait.
 * @throws SysError SYS_FD_CLOSED (EBADF), SYS_CALL_FAILED.
 */
function sealsOf({ fd }: WindowRequest): Seals {
  try {
    const sealed = (fd.sys.seals(fd.number) & SEAL.SHRINK) !== 0;
    return sealed ? { sealable: true } : { sealable: true, problem: 'it does not carry F_SEAL_SHRINK' };
  } catch (failure) {
    if (!(failure instanceof SysError) || failure.errno !== 'EINVAL') throw failure;
    return { sealable: false, problem: 'it is a file that cannot be sealed' };
  }
}

/**
 * Maps a part of a file as live memory. Only memory that cannot shrink under us is mapped: the fd must carry F_SEAL_SHRINK.
 * @throws SysError SYS_NOT_SEALED (EPERM), SYS_NOT_MEMORY, SYS_BEYOND_FILE, SYS_BAD_ARGUMENT (EINVAL), SYS_FD_CLOSED
 * (EBADF), SYS_CALL_FAILED (ENOMEM, EACCES, EPERM, ...). Nothing is mapped then.
 */
export function mapFile(request: WindowRequest): Mapping {
  const { sealable, problem } = sealsOf(request);
  checkWindow(request, sealable);
  if (problem !== undefined) throw sysErrors.NOT_SEALED({ label: request.label, problem });
  return new Mapping(request);
}

/**
 * A part of a file as memory: mapped if it is sealed, else reached by pread and pwrite, so that a peer who truncates it
 * causes an error and not a signal. @throws as `mapFile`, except SYS_NOT_SEALED.
 */
export function openMemory(request: WindowRequest): Mapping | FileWindow {
  const { sealable, problem } = sealsOf(request);
  checkWindow(request, sealable);
  return problem === undefined ? new Mapping(request) : new FileWindow(request);
}

/**
 * A part of a file as memory that is always reached by pread and pwrite, sealed or not; also of the memory of a process
 * (/proc/PID/mem). @throws as `openMemory`.
 */
export function openFile(request: WindowRequest): FileWindow {
  const { sealable } = sealsOf(request);
  checkWindow({ ...request, unsized: true }, sealable);
  return new FileWindow(request);
}
