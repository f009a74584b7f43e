import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { sysErrors } from './errors.js';

type Koffi = typeof koffi;
/** A C pointer argument: memory that the call reads or writes before it returns. */
type Memory = Uint8Array;

/** The C functions that are bound, with the types they have on x64 and arm64. `size_t` and addresses below 2^53 are numbers. */
export interface NativeCalls {
  close(fd: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  fstatfs(fd: number, into: Memory): number;
  memfd_create(name: string, flags: number): number;
  ftruncate(fd: number, size: bigint): number;
  pread(fd: number, into: Memory, count: number, offset: bigint): number;
  pwrite(fd: number, from: Memory, count: number, offset: bigint): number;
  mmap(address: number, length: number, prot: number, flags: number, fd: number, offset: bigint): number;
  munmap(address: number, length: number): number;
  mlock(address: number, length: number): number;
  munlock(address: number, length: number): number;
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, fds: Memory): number;
  bind(fd: number, address: Memory, length: number): number;
  connect(fd: number, address: Memory, length: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: null, length: null, flags: number): number;
  shutdown(fd: number, how: number): number;
  getsockopt(fd: number, level: number, option: number, value: Memory, length: Memory): number;
  send(fd: number, bytes: Memory, count: number, flags: number): number;
  sendmsg(fd: number, header: Memory, flags: number): number;
  recvmsg(fd: number, header: Memory, flags: number): number;
  eventfd(initial: number, flags: number): number;
  read(fd: number, into: Memory, count: number): number;
  write(fd: number, from: Memory, count: number): number;
  poll(fds: Memory, count: number, timeout: number): number;
  sched_yield(): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: Memory): number;
  ioctl(fd: number, request: number, argument: Memory | bigint): number;
  sysconf(name: number): number;
}

const SIGNATURES: Readonly<Record<keyof NativeCalls, readonly [result: string, ...parameters: string[]]>> = {
  close: ['int', 'int'],
  fcntl: ['int', 'int', 'int', 'intptr_t'],
  fstatfs: ['int', 'int', 'void *'],
  memfd_create: ['int', 'str', 'uint'],
  ftruncate: ['int', 'int', 'int64_t'],
  pread: ['intptr_t', 'int', 'void *', 'size_t', 'int64_t'],
  pwrite: ['intptr_t', 'int', 'void *', 'size_t', 'int64_t'],
  mmap: ['intptr_t', 'intptr_t', 'size_t', 'int', 'int', 'int', 'int64_t'],
  munmap: ['int', 'intptr_t', 'size_t'],
  mlock: ['int', 'intptr_t', 'size_t'],
  munlock: ['int', 'intptr_t', 'size_t'],
  socket: ['int', 'int', 'int', 'int'],
  socketpair: ['int', 'int', 'int', 'int', 'void *'],
  bind: ['int', 'int', 'void *', 'uint'],
  connect: ['int', 'int', 'void *', 'uint'],
  listen: ['int', 'int', 'int'],
  accept4: ['int', 'int', 'void *', 'void *', 'int'],
  shutdown: ['int', 'int', 'int'],
  getsockopt: ['int', 'int', 'int', 'int', 'void *', 'void *'],
  send: ['intptr_t', 'int', 'void *', 'size_t', 'int'],
  sendmsg: ['intptr_t', 'int', 'void *', 'int'],
  recvmsg: ['intptr_t', 'int', 'void *', 'int'],
  eventfd: ['int', 'uint', 'int'],
  read: ['intptr_t', 'int', 'void *', 'size_t'],
  write: ['intptr_t', 'int', 'void *', 'size_t'],
  poll: ['int', 'void *', 'ulong', 'int'],
  sched_yield: ['int'],
  epoll_create1: ['int', 'int'],
  epoll_ctl: ['int', 'int', 'int', 'int', 'void *'],
  ioctl: ['int', 'int', 'ulong', 'void *'],
  sysconf: ['long', 'int'],
};

/** Numbers of system calls that not every libc has a function for. Source: arch/x86/entry/syscalls, asm-generic/unistd.h. */
const NUMBERS: Readonly<Record<string, { readonly kcmp: number; readonly statx: number }>> = {
  x64: { kcmp: 312, statx: 332 },
  arm64: { kcmp: 272, statx: 291 },
};

/** Where native calls would run: replaced in tests to be somewhere else. */
export interface Host {
  readonly platform: string;
  readonly arch: string;
  /** Loads koffi. */
  load(): Koffi;
}

// why: importing koffi loads native code, and importing this package must do nothing.
const loadKoffi = (): Koffi => createRequire(import.meta.url)('koffi');

export const thisHost = (): Host => ({ platform: process.platform, arch: process.arch, load: loadKoffi });

/** The loaded native side. */
export interface Native {
  readonly koffi: Koffi;
  readonly calls: NativeCalls;
  /** kcmp(2). Source: linux/kcmp.h. */
  kcmp(pid1: number, pid2: number, type: number, a: number, b: number): number;
  /** statx(2) of an fd itself. Source: linux/stat.h. */
  statx(fd: number, flags: number, mask: number, into: Memory): number;
}

/** @throws SysError SYS_UNSUPPORTED (EOPNOTSUPP). */
export function loadNative(host: Host): Native {
  const { platform, arch } = host;
  const numbers = NUMBERS[arch];
  if (platform !== 'linux' || numbers === undefined) {
    throw sysErrors.UNSUPPORTED({ platform, arch, problem: 'use FakeSys, or run there' });
  }
  try {
    return bind(host.load(), numbers);
  } catch (cause) {
    const problem = `koffi does not load (${cause instanceof Error ? cause.message : String(cause)}); install dependencies with optional ones`;
    throw sysErrors.UNSUPPORTED({ platform, arch, problem }, cause);
  }
}

function bind(loaded: Koffi, numbers: { readonly kcmp: number; readonly statx: number }): Native {
  const libc = loaded.load(null); // the process's own: libc is in it, glibc or musl
  const entries = Object.entries(SIGNATURES).map(([name, [result, ...parameters]]) => [
    name,
    libc.func(name, result, parameters),
  ]);
  const kcmp = libc.func('syscall', 'long', ['long', 'long', 'long', 'long', 'ulong', 'ulong']);
  const statx = libc.func('syscall', 'long', ['long', 'int', 'str', 'int', 'uint', 'void *']);
  return {
    koffi: loaded,
    calls: Object.fromEntries(entries) as NativeCalls, // why: one function per key of SIGNATURES, typed by that table
    kcmp: (pid1, pid2, type, a, b) => kcmp(numbers.kcmp, pid1, pid2, type, a, b),
    statx: (fd, flags, mask, into) => statx(numbers.statx, fd, '', flags, mask, into),
  };
}
