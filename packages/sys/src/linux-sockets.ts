import { checkFd, checkWhole, sysErrors } from './errors.js';
import { fdText, type Kernel } from './kernel.js';
import { MessageHeader } from './message-header.js';
import { MAX_MESSAGE_FDS, type Sys, WOULD_BLOCK } from './sys.js';

/** Source: linux/socket.h, linux/net.h, asm-generic/socket.h (the same on x64 and arm64). */
const AF_UNIX = 1;
const SOCK = { STREAM: 1, NONBLOCK: 0x800, CLOEXEC: 0x8_0000 } as const;
const MSG = { DONTWAIT: 0x40, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const;
const SOL_SOCKET = 1;
const SO = { TYPE: 3, PEERCRED: 17, ACCEPTCONN: 30, DOMAIN: 39 } as const;
const SHUT = { read: 0, write: 1, both: 2 } as const;
const FCNTL = { GETFL: 3, SETFL: 4 } as const;
/** struct sockaddr_un: u16 family, 108 bytes of path with its NUL. */
const ADDRESS = { path: 2, pathSize: 108 } as const;
const MAX_BACKLOG = 4096;

type SocketCalls = Pick<
  Sys,
  'socketPair' | 'listen' | 'connect' | 'accept' | 'shutdown' | 'socketFacts' | 'send' | 'receive'
>;

/** @throws SysError SYS_BAD_ARGUMENT (EINVAL) for a path that is empty, too long or has a NUL in it. */
export function checkSocketPath(operation: string, path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length >= ADDRESS.pathSize || bytes.includes(0)) {
    const wanted = `1 to ${ADDRESS.pathSize - 1} bytes without NUL`;
    throw sysErrors.BAD_ARGUMENT({ operation, what: 'the socket path', value: JSON.stringify(path), wanted });
  }
  return bytes;
}

/** @throws SysError SYS_BAD_ARGUMENT (EINVAL). The good case comes first: this is on every message's path. */
export function checkMessage(bytes: Uint8Array, fds: readonly number[]): void {
  if (fds.length > 0) {
    if (fds.length > MAX_MESSAGE_FDS) checkWhole('send', 'the number of fds', fds.length, [0, MAX_MESSAGE_FDS]);
    for (const fd of fds) checkFd('send', fd);
  }
  // why: on a stream socket fds ride on a byte; without one Linux drops them and reports success.
  if (bytes.length === 0) checkWhole('send', 'the number of bytes', 0, [1, Number.MAX_SAFE_INTEGER]);
}

/** @throws SysError SYS_BAD_ARGUMENT (EINVAL). */
export function checkReceive(into: Uint8Array, limit: number): void {
  if (into.length === 0) checkWhole('receive', 'the room for bytes', 0, [1, Number.MAX_SAFE_INTEGER]);
  if (limit !== 0) checkWhole('receive', 'the limit of fds', limit, [0, MAX_MESSAGE_FDS]);
}

function socketAddress(operation: string, path: string): Uint8Array {
  const bytes = checkSocketPath(operation, path);
  const address = new Uint8Array(ADDRESS.path + bytes.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(bytes, ADDRESS.path);
  return address;
}

/** The calls of `Sys` on UNIX stream sockets. */
export function socketCalls(kernel: Kernel): SocketCalls {
  let header: MessageHeader | undefined;
  /** Set up at first use, because its addresses come from koffi. */
  const message = (): MessageHeader => {
    header ??= new MessageHeader(kernel);
    return header;
  };

  function closeQuietly(fds: readonly number[]): void {
    for (const fd of fds) kernel.calls.close(fd); // why unchecked: the caller reports what led here
  }

  /** A new socket that `start` makes ready; closed if that fails. */
  function openSocket(operation: string, path: string, start: (fd: number, address: Uint8Array) => void): number {
    const address = socketAddress(operation, path);
    const type = SOCK.STREAM | SOCK.CLOEXEC | SOCK.NONBLOCK;
    const fd = kernel.check(kernel.calls.socket(AF_UNIX, type, 0), 'socket', 'AF_UNIX');
    try {
      start(fd, address);
      const flags = kernel.check(kernel.calls.fcntl(fd, FCNTL.GETFL, 0), 'fcntl', fdText(fd));
      kernel.check(kernel.calls.fcntl(fd, FCNTL.SETFL, flags & ~SOCK.NONBLOCK), 'fcntl', fdText(fd));
      return fd;
    } catch (failure) {
      closeQuietly([fd]);
      throw failure;
    }
  }

  /** A socket option of `words` 32-bit words; zeros if the socket has none. */
  function option(fd: number, name: number, words: number): Int32Array {
    const value = new Int32Array(words);
    const length = new Uint8Array(Uint32Array.of(value.byteLength).buffer);
    const result = kernel.calls.getsockopt(fd, SOL_SOCKET, name, new Uint8Array(value.buffer), length);
    kernel.check(result, 'getsockopt', fdText(fd));
    return value;
  }

  return {
    socketPair() {
      const fds = new Int32Array(2);
      const result = kernel.calls.socketpair(AF_UNIX, SOCK.STREAM | SOCK.CLOEXEC, 0, new Uint8Array(fds.buffer));
      kernel.check(result, 'socketpair', 'AF_UNIX');
      return [fds[0] ?? -1, fds[1] ?? -1];
    },
    listen(path, backlog) {
      checkWhole('listen', 'the backlog', backlog, [1, MAX_BACKLOG]);
      return openSocket('listen', path, (fd, address) => {
        kernel.check(kernel.calls.bind(fd, address, address.length), 'bind', path);
        kernel.check(kernel.calls.listen(fd, backlog), 'listen', path);
      });
    },
    connect(path) {
      return openSocket('connect', path, (fd, address) => {
        kernel.check(kernel.calls.connect(fd, address, address.length), 'connect', path);
      });
    },
    accept(fd, wait) {
      checkFd('accept', fd);
      if (!wait && !hasInput(kernel, fd)) return WOULD_BLOCK;
      for (;;) {
        const accepted = kernel.calls.accept4(fd, null, null, SOCK.CLOEXEC);
        if (accepted !== -1) return accepted;
        if (kernel.wouldBlock) return WOULD_BLOCK;
        if (!kernel.interrupted) throw kernel.failure('accept4', fdText(fd));
      }
    },
    shutdown(fd, how) {
      checkFd('shutdown', fd);
      kernel.check(kernel.calls.shutdown(fd, SHUT[how]), 'shutdown', `${fdText(fd)}, ${how}`);
    },
    socketFacts(fd) {
      checkFd('socketFacts', fd);
      const unix = option(fd, SO.DOMAIN, 1)[0] === AF_UNIX;
      const unixStream = unix && option(fd, SO.TYPE, 1)[0] === SOCK.STREAM;
      const listening = option(fd, SO.ACCEPTCONN, 1)[0] === 1;
      return { unixStream, listening, peerPid: unix ? (option(fd, SO.PEERCRED, 3)[0] ?? 0) : 0 };
    },
    send(fd, bytes, fds, wait) {
      checkFd('send', fd);
      checkMessage(bytes, fds);
      const flags = wait ? MSG.NOSIGNAL : MSG.NOSIGNAL | MSG.DONTWAIT;
      if (fds.length > 0) message().prepareSend(bytes, fds);
      for (;;) {
        const count =
          fds.length === 0
            ? kernel.calls.send(fd, bytes, bytes.length, flags)
            : kernel.calls.sendmsg(fd, message().bytes, flags);
        if (count !== -1) return count;
        if (kernel.wouldBlock) return WOULD_BLOCK;
        if (!kernel.interrupted) throw kernel.failure('sendmsg', `${fdText(fd)}, ${bytes.length}, ${fds.length} fds`);
      }
    },
    receive(fd, into, arrival, wait) {
      checkFd('receive', fd);
      checkReceive(into, arrival.limit);
      arrival.fds = NONE;
      arrival.truncated = false;
      const flags = wait ? MSG.CMSG_CLOEXEC : MSG.CMSG_CLOEXEC | MSG.DONTWAIT;
      const head = message();
      for (;;) {
        head.prepareReceive(into, arrival.limit);
        const count = kernel.calls.recvmsg(fd, head.bytes, flags);
        if (count !== -1) {
          if (head.hasControl) arrival.fds = head.receivedFds();
          if (head.truncated) {
            closeQuietly(arrival.fds);
            arrival.fds = NONE;
            arrival.truncated = true;
          }
          return count;
        }
        if (kernel.wouldBlock) return WOULD_BLOCK;
        if (!kernel.interrupted) throw kernel.failure('recvmsg', `${fdText(fd)}, ${into.length}`);
      }
    },
  };
}

const NONE: readonly number[] = [];
const POLL_IN = 1;

/**
 * Whether a listening socket has a connection waiting. accept4 has no flag for "do not wait", and the flag of the open
 * file is shared with whoever gave us the fd; only a second acceptor on the same socket could take it in between.
 */
function hasInput(kernel: Kernel, fd: number): boolean {
  const entry = new DataView(new ArrayBuffer(8));
  entry.setInt32(0, fd, true);
  entry.setInt16(4, POLL_IN, true);
  const ready = kernel.calls.poll(new Uint8Array(entry.buffer), 1, 0);
  return ready !== 0; // an error is for accept4 to report
}
