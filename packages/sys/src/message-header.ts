import type { Kernel } from './kernel.js';
import { MAX_MESSAGE_FDS } from './sys.js';

/**
 * struct msghdr on 64-bit Linux, glibc and musl (whose narrower fields have zero padding behind them), in 32-bit words.
 * Both platforms are little endian. Source: sys/socket.h.
 */
const MSGHDR = { words: 14, iov: 4, iovlen: 6, control: 8, controllen: 10, flags: 12 } as const;
/** struct iovec, in 32-bit words. */
const IOVEC = { words: 4, base: 0, len: 2 } as const;
/** struct cmsghdr; entries are aligned to 8 bytes. */
const CMSG = { header: 16, len: 0, level: 8, type: 12, align: 8 } as const;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const FD_SIZE = 4;
const CONTROL_SIZE = CMSG.header + MAX_MESSAGE_FDS * FD_SIZE;
const HIGH = 2 ** 32;
/** The most bytes that one call moves. Source: MAX_RW_COUNT. */
const MAX_TRANSFER = 0x7fff_f000;

/**
 * One msghdr with its iovec and control buffer, built once for a thread: a call fills in two or three words. JavaScript
 * has one stack per thread and the calls do not call back, so one is enough.
 */
export class MessageHeader {
  readonly #header = new Uint32Array(MSGHDR.words);
  /** The struct msghdr, as sendmsg and recvmsg take it. */
  readonly bytes = new Uint8Array(this.#header.buffer);
  readonly #iovec = new Uint32Array(IOVEC.words);
  readonly #control = new DataView(new ArrayBuffer(CONTROL_SIZE));
  readonly #kernel: Kernel;
  #lastBuffer: ArrayBufferLike | undefined;
  #lastAddress = 0;
  #lastBase = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#header.set(split(this.#address(this.#iovec.buffer)), MSGHDR.iov);
    this.#header[MSGHDR.iovlen] = 1;
    // The pointer stays; the length alone says whether there is room for control data.
    this.#header.set(split(this.#address(this.#control.buffer)), MSGHDR.control);
  }

  /** Makes the header describe bytes to send with fds on them (at least one). */
  prepareSend(bytes: Uint8Array, fds: readonly number[]): void {
    this.#pointTo(bytes);
    const length = CMSG.header + fds.length * FD_SIZE;
    this.#control.setUint32(CMSG.len, length, true);
    this.#control.setUint32(CMSG.len + 4, 0, true);
    this.#control.setInt32(CMSG.level, SOL_SOCKET, true);
    this.#control.setInt32(CMSG.type, SCM_RIGHTS, true);
    for (let i = 0; i < fds.length; i++) this.#control.setInt32(CMSG.header + i * FD_SIZE, fds[i] ?? -1, true);
    this.#header[MSGHDR.controllen] = length;
  }

  /**
   * Makes the header describe where to put bytes and at most `fds` fds.
   * why no padding: CMSG_SPACE of an odd number would have room for one fd more than we said.
   */
  prepareReceive(into: Uint8Array, fds: number): void {
    this.#pointTo(into);
    this.#header[MSGHDR.controllen] = fds === 0 ? 0 : CMSG.header + fds * FD_SIZE;
  }

  /** Whether the last receive lost control data. */
  get truncated(): boolean {
    return ((this.#header[MSGHDR.flags] ?? 0) & MSG_CTRUNC) !== 0;
  }

  /** Whether the last receive brought control data of any kind. */
  get hasControl(): boolean {
    return this.#header[MSGHDR.controllen] !== 0;
  }

  /** The fds of the last receive; control messages of other kinds are passed over. */
  receivedFds(): number[] {
    const end = this.#header[MSGHDR.controllen] ?? 0;
    const fds: number[] = [];
    for (let at = 0; at + CMSG.header <= end; ) {
      const length = this.#control.getUint32(at + CMSG.len, true);
      if (length < CMSG.header) break;
      if (this.#isRights(at)) {
        for (let fd = at + CMSG.header; fd + FD_SIZE <= Math.min(at + length, end); fd += FD_SIZE) {
          fds.push(this.#control.getInt32(fd, true));
        }
      }
      at += Math.ceil(length / CMSG.align) * CMSG.align;
    }
    return fds;
  }

  #isRights(at: number): boolean {
    const level = this.#control.getInt32(at + CMSG.level, true);
    return level === SOL_SOCKET && this.#control.getInt32(at + CMSG.type, true) === SCM_RIGHTS;
  }

  #pointTo(bytes: Uint8Array): void {
    // The address of a buffer is asked for once in a row of calls with the same one; asking costs a tenth of a call.
    if (bytes.buffer !== this.#lastBuffer) {
      this.#lastAddress = this.#address(bytes.buffer);
      this.#lastBuffer = bytes.buffer;
    }
    const base = this.#lastAddress + bytes.byteOffset;
    if (base !== this.#lastBase) {
      this.#iovec.set(split(base), IOVEC.base);
      this.#lastBase = base;
    }
    this.#iovec[IOVEC.len] = Math.min(bytes.byteLength, MAX_TRANSFER);
  }

  #address(buffer: ArrayBufferLike): number {
    return Number(this.#kernel.native.koffi.address(new Uint8Array(buffer)));
  }
}

/** A 64-bit word as two: low, high. */
const split = (value: number): readonly [number, number] => [value % HIGH, Math.floor(value / HIGH)];
