import { lstatSync, type Stats, unlinkSync } from 'node:fs';
import { type Sys, SysError, UnixSocket } from '@pinion/sys';
import { cliErrors } from './errors.js';

const factsOf = (path: string): Stats | undefined => lstatSync(path, { throwIfNoEntry: false });

/**
 * Makes room for a socket: one that nobody listens on any more is removed. @throws CLI_SOCKET_TAKEN (EADDRINUSE) when somebody
 * listens there, or when it is no socket.
 */
export function clearSocketPath(sys: Sys, path: string): void {
  const facts = factsOf(path);
  if (facts === undefined) return;
  if (!facts.isSocket()) throw cliErrors.SOCKET_TAKEN({ path, by: 'a file that is no socket' });
  if (isListening(sys, path)) throw cliErrors.SOCKET_TAKEN({ path, by: 'a process that listens there' });
  unlinkSync(path);
}

/** A full queue (EAGAIN) has a listener too, and so may what cannot be asked (EACCES). */
function isListening(sys: Sys, path: string): boolean {
  try {
    UnixSocket.connect(sys, path).close();
    return true;
  } catch (cause) {
    if (cause instanceof SysError && (cause.errno === 'ECONNREFUSED' || cause.errno === 'ENOENT')) return false;
    if (cause instanceof SysError && (cause.errno === 'EAGAIN' || cause.errno === 'EACCES')) return true;
    throw cause;
  }
}

/** Notes which file a path leads to. @returns what removes the path again, unless somebody has put another file there. */
export function ownSocketPath(path: string): () => void {
  const mine = factsOf(path);
  return () => {
    const now = factsOf(path);
    if (now !== undefined && now.ino === mine?.ino && now.dev === mine.dev) unlinkSync(path);
  };
}
