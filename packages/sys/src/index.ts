export { errnoName, SysError, sysErrors } from './errors.js';
export { EventFd } from './event-fd.js';
export { FakeSys, type IoctlHandler } from './fake/fake-sys.js';
export { FaultySys, type SysOperation } from './faulty-sys.js';
export { closeAll, Fd } from './fd.js';
export { BookedWindow, FileBook } from './file-book.js';
export { FileWindow } from './file-window.js';
export { sameFile, sameMemory } from './identity.js';
export { type ForgottenReporter, Ledger, type LedgerEntry, type ResourceKind } from './ledger.js';
export { MAX_MAPPING, MAX_VIEW } from './limits.js';
export { linuxSys } from './linux-sys.js';
export { Mapping } from './mapping.js';
export { createMemfd, FIXED_SIZE } from './memfd.js';
export type { MemoryWindow, WindowRequest } from './memory-window.js';
export type { Host } from './native.js';
export { mapFile, openFile, openMemory } from './open-memory.js';
export { POLL, PollSet } from './poll-set.js';
export {
  type Arrival,
  FILESYSTEM,
  type FileFacts,
  type Interest,
  MAX_MESSAGE_FDS,
  type MappedRange,
  type MapRequest,
  SEAL,
  type SocketFacts,
  type Sys,
  type Watch,
  WOULD_BLOCK,
} from './sys.js';
export { FdInbox, UnixListener, UnixSocket } from './unix-socket.js';
